#include "data/temporary.hpp"
#include "support/check.hpp"

#include <espalier/data/jpeg.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {

const std::filesystem::path golden = ESPALIER_TEST_DATA;

Tensor<std::uint8_t> decode(const std::filesystem::path& path, const Shape& shape) {
    Tensor<std::uint8_t> pixels(shape);
    read_jpeg(path, mutable_view<3>(pixels));
    return pixels;
}

} // namespace

TEST_CASE("read_jpeg: exactly the pixels that PIL sees, in colour, grey, of odd sizes and progressive") {
    for (const std::string name : {"colour", "grey", "odd", "progressive"}) {
        const Shape shape = name == "colour" || name == "grey" ? Shape{64, 64, 3} : Shape{13, 17, 3};
        CAPTURE(name);
        CHECK(decode(golden / (name + ".jpg"), shape).to_vector() == read_file(golden / (name + ".rgb.gz")).bytes);
    }
}

TEST_CASE("read_jpeg: a file cut off after any byte is an error that names it") {
    const TemporaryFolder folder;
    for (const std::string name : {"odd", "progressive", "grey"}) {
        const Bytes whole = read_file(golden / (name + ".jpg")).bytes;
        const Shape shape = name == "grey" ? Shape{64, 64, 3} : Shape{13, 17, 3};
        for (std::size_t size = 0; size < whole.size(); ++size) {
            CAPTURE(size);
            const auto path = folder.write("cut.jpg", head(whole, size));
            CHECK_THROWS_WITH_AS(decode(path, shape), Contains(("from " + path.string()).c_str()), IoError);
        }
    }
    const auto path = folder.write("cut.jpg", head(read_file(golden / "odd.jpg").bytes, 700));
    CHECK_THROWS_WITH_AS(
        decode(path, {13, 17, 3}),
        ("read_jpeg: expected a whole JPEG image, got \"Premature end of JPEG file\" from " + path.string()).c_str(),
        IoError);
}

TEST_CASE("read_jpeg: whatever byte is damaged, there is an error or an image, and nothing else") {
    const TemporaryFolder folder;
    const Bytes whole = read_file(golden / "odd.jpg").bytes;
    Index errors = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) {
        Bytes damaged = whole;
        damaged[i] ^= 0xff;
        const auto path = folder.write("damaged.jpg", damaged);
        try {
            decode(path, {13, 17, 3});
        } catch (const IoError& error) {
            ++errors;
            CHECK(std::string(error.what()).find(path.string()) != std::string::npos);
        }
    }
    CHECK(errors > 0);
}

TEST_CASE("read_jpeg: what is no colour or grayscale JPEG of that size is an error") {
    const TemporaryFolder folder;
    const auto text = folder.write("text.jpg", {'h', 'e', 'l', 'l', 'o'});
    CHECK_THROWS_WITH_AS(
        decode(text, {64, 64, 3}),
        ("read_jpeg: expected a whole JPEG image, got \"Not a JPEG file: starts with 0x68 0x65\" from " + text.string())
            .c_str(),
        IoError);
    const std::string cmyk = (golden / "cmyk.jpg").string();
    CHECK_THROWS_WITH_AS(
        decode(cmyk, {64, 64, 3}),
        ("read_jpeg: expected a colour or grayscale image, got 4 colour components from " + cmyk).c_str(), IoError);
    const std::string odd = (golden / "odd.jpg").string();
    CHECK_THROWS_WITH_AS(decode(odd, {17, 13, 3}),
                         ("read_jpeg: expected an image [17,13,3], got [13,17,3] from " + odd).c_str(), IoError);
    CHECK_THROWS_WITH_AS(decode(odd, {13, 17, 1}), Contains("expected an image [13,17,1], got [13,17,3]"), IoError);
    CHECK_THROWS_WITH_AS(decode(folder.path() / "none.jpg", {1, 1, 3}), Contains("got nothing readable at "), IoError);
}
