#include "data/temporary.hpp"
#include "support/check.hpp"

#include <espalier/data/file.hpp>
#include <espalier/data/image_cache.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {

const Shape shape{2, 3, 4, 3};

/// Pixels that begin with `first`, from the cache or made; counts how often they were made.
struct Images {
    std::filesystem::path path;
    int made = 0;

    Tensor<std::uint8_t> get(std::uint8_t first, std::uint64_t source = 7, const Shape& of = shape) {
        return cached_images(path, source, of, [&](View<std::uint8_t, 4> images) {
            ++made;
            for (Index i = 0; i < images.size(); ++i) images.data()[i] = static_cast<std::uint8_t>(first + i);
        });
    }
};

} // namespace

TEST_CASE("cached_images: made once, then read") {
    const TemporaryFolder folder;
    Images images{folder.path() / "new" / "folder" / "x.cache"};
    const auto first = images.get(5);
    CHECK(images.made == 1);
    CHECK(first.at(0, 0, 0, 0) == 5);
    CHECK(same_bits(images.get(99), first));
    CHECK(images.made == 1);
    CHECK(std::filesystem::file_size(images.path) == 64 + 72);
    CHECK(images.get(1, 7, {0, 3, 4, 3}).shape() == Shape{0, 3, 4, 3}); // no images are images, too
    CHECK(images.made == 2);
    CHECK(images.get(1, 7, {0, 3, 4, 3}).size() == 0);
    CHECK(images.made == 2);
}

TEST_CASE("cached_images: another source or shape makes them again") {
    const TemporaryFolder folder;
    Images images{folder.path() / "x.cache"};
    images.get(5);
    CHECK(images.get(6, 8).at(0, 0, 0, 0) == 6);
    CHECK(images.get(7, 8, {2, 4, 3, 3}).shape() == Shape{2, 4, 3, 3});
    CHECK(images.get(8, 8, {1, 3, 4, 3}).at(0, 0, 0, 0) == 8);
    CHECK(images.made == 4);
}

TEST_CASE("cached_images: a cache with any byte damaged, cut off or added to is made again") {
    const TemporaryFolder folder;
    Images images{folder.path() / "x.cache"};
    const auto good = images.get(5);
    const Bytes whole = read_file(images.path).bytes;
    std::vector<Bytes> bad{{}, whole + Bytes{0}};
    for (std::size_t i = 0; i < whole.size(); ++i) {
        bad.push_back(head(whole, i));
        bad.push_back(whole);
        bad.back()[i] ^= 1;
    }
    for (const Bytes& bytes : bad) {
        folder.write("x.cache", bytes);
        images.made = 0;
        CHECK(same_bits(images.get(5), good));
        CHECK(images.made == 1);
        CHECK(read_file(images.path).bytes == whole);
    }
}

TEST_CASE("cached_images: an error of the maker leaves no file, or the one before") {
    const TemporaryFolder folder;
    const auto path = folder.path() / "x.cache";
    const auto fail = [](View<std::uint8_t, 4>) { throw IoError("no pixels"); };
    CHECK_THROWS_WITH_AS(cached_images(path, 1, shape, fail), "no pixels", IoError);
    CHECK(std::filesystem::is_empty(folder.path()));
    const Bytes before{1, 2, 3};
    folder.write("x.cache", before);
    CHECK_THROWS_AS(cached_images(path, 1, shape, fail), IoError);
    CHECK(read_file(path).bytes == before);
}

TEST_CASE("cached_images: a folder that can't be written is an error before anything is made") {
    Images images{"/proc/espalier.cache"};
    CHECK_THROWS_WITH_AS(images.get(5), Contains("AtomicFile: expected to create it for '/proc/espalier.cache', got "),
                         IoError);
    CHECK_THROWS_WITH_AS(images.get(5), Contains("; choose another folder by the option `cache`"), IoError);
    CHECK(images.made == 0);
}
