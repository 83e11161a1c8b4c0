#include "support/check.hpp"
#include "support/temporary_path.hpp"

#include <espalier/io/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>

using namespace espalier;
using namespace espalier::test;

namespace {

std::string file_of(const std::string& header, const std::string& data) {
    const std::uint64_t length = header.size();
    std::string bytes(sizeof length, '\0');
    std::memcpy(bytes.data(), &length, sizeof length);
    return bytes + header + data;
}
TensorFile read_bytes(const std::string& bytes) {
    const TemporaryPath temporary;
    spill(temporary.path, bytes);
    return read_safetensors(temporary.path);
}
void check_refused(const std::string& bytes, const char* text) {
    const TemporaryPath temporary;
    spill(temporary.path, bytes);
    CHECK_THROWS_WITH_AS(read_safetensors(temporary.path), doctest::Contains(text), IoError);
    CHECK_THROWS_WITH_AS(read_safetensors(temporary.path), doctest::Contains(temporary.path.c_str()), IoError);
}

TensorFile some_tensors() {
    TensorFile file;
    file.metadata = {{"model", "resnet20"}, {"quote", "a \"b\" \n \xc3\xa9"}};
    file.add("bytes", Tensor<std::uint8_t>::from({3}, {1, 2, 255}));
    file.add("weight", random_tensor<float>({2, 3, 3, 1}));
    file.add("none", Tensor<float>::zeros({0, 4}));
    file.add("kept", Tensor<Index>::from({2}, {-1, Index(1) << 40}));
    file.add("scalar", Tensor<double>::scalar(0.1));
    return file;
}

} // namespace

TEST_CASE("safetensors: a file gives back what was written, in order, and again the same bytes") {
    const TemporaryPath temporary;
    const TensorFile written = some_tensors();
    write_safetensors(written, temporary.path);
    const TensorFile read = read_safetensors(temporary.path);

    CHECK(read.metadata == written.metadata);
    CHECK(read.source() == temporary.path);
    REQUIRE(read.entries().size() == 5);
    for (std::size_t i = 0; i < 5; ++i) CHECK(read.entries()[i].name == written.entries()[i].name);
    CHECK(same_bits(read.get<float>("weight"), written.get<float>("weight")));
    CHECK(same_bits(read.get<double>("scalar"), written.get<double>("scalar")));
    CHECK(same_bits(read.get<Index>("kept"), written.get<Index>("kept")));
    CHECK(same_bits(read.get<std::uint8_t>("bytes"), written.get<std::uint8_t>("bytes")));
    CHECK(read.get<float>("none").shape() == Shape{0, 4});
    CHECK(read.shape("weight") == Shape{2, 3, 3, 1});

    const std::string once = slurp(temporary.path);
    write_safetensors(read, temporary.path);
    CHECK(slurp(temporary.path) == once);
}

TEST_CASE("safetensors: data starts at a multiple of 8 and each tensor at a multiple of its element") {
    const TemporaryPath temporary;
    write_safetensors(some_tensors(), temporary.path);
    const std::string bytes = slurp(temporary.path);
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    CHECK(length % 8 == 0);
    const auto header = nlohmann::json::parse(bytes.substr(8, length));
    CHECK(header["weight"]["data_offsets"][0].get<int>() % 4 == 0);
    CHECK(header["kept"]["data_offsets"][0].get<int>() % 8 == 0);
    CHECK(header["scalar"]["data_offsets"][0].get<int>() % 8 == 0);
}

TEST_CASE("safetensors: the size of a file is known before it is written") {
    const TemporaryPath file;
    TensorFile contents;
    for (const Index count : {0, 3, 1000}) {
        contents.add("x" + to_text(count), Tensor<std::uint8_t>::zeros({count}));
        contents.metadata[to_text(count)] = "entry";
        write_safetensors(contents, file.path);
        CHECK(safetensors_bytes(contents) == std::filesystem::file_size(file.path));
    }
}

TEST_CASE("safetensors: an empty file holds nothing") {
    const TemporaryPath temporary;
    write_safetensors(TensorFile(), temporary.path);
    CHECK(read_safetensors(temporary.path).entries().empty());
}

TEST_CASE("safetensors: a type that the library does not compute with is converted when asked for, or an error") {
    const TensorFile file = read_bytes(file_of(R"({"h":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},)"
                                               R"("q":{"dtype":"F4_NEW","shape":[9],"data_offsets":[4,9]},)"
                                               R"("x":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}})",
                                               std::string("\x80\x3f\0\xc0", 4) + "456789"));
    CHECK(file.get<std::uint8_t>("x").item() == '9');
    CHECK(file.type("h") == "BF16");
    CHECK(file.get_converted<float>("h").to_vector() == std::vector<float>{1, -2});
    CHECK_THROWS_WITH_AS(file.get<float>("h"), doctest::Contains("'h' of type F32, got BF16"), StateError);
    CHECK_THROWS_WITH_AS(file.get_converted<float>("q"), doctest::Contains("got F4_NEW"), StateError);
    const TemporaryPath temporary;
    CHECK_THROWS_WITH_AS(write_safetensors(file, temporary.path), doctest::Contains("got BF16"), StateError);
    CHECK_FALSE(std::filesystem::exists(temporary.path));
}

TEST_CASE("safetensors: hostile and damaged headers are errors that name the file") {
    const std::string four(4, '\0'), eight(8, '\0');
    const auto one = [](const std::string& fields) { return "{\"x\":{" + fields + "}}"; };
    check_refused("", "at least 8 bytes, got 0");
    check_refused("1234567", "at least 8 bytes, got 7");
    check_refused(std::string(8, '\xff'), "a header of at most 0 bytes");
    check_refused(std::string("\x03\0\0\0\0\0\0\0", 8) + "{}", "a header of at most 2 bytes, got 3");
    check_refused(file_of("", ""), "a JSON object");
    check_refused(file_of("[]", ""), "a JSON object");
    check_refused(file_of("{\"x\"", ""), "a JSON header");
    check_refused(file_of("{\"\xff\":{}}", ""), "a JSON header");
    check_refused(file_of("{} {}", ""), "a JSON header");
    check_refused(file_of("{\"x\":1}", ""), "to be an object with a dtype");
    check_refused(file_of("{\"x\":{\"dtype\":3}}", ""), "to be an object with a dtype");
    check_refused(file_of(one(R"("dtype":"F32","shape":[1])"), four), "'data_offsets' of 'x'");
    check_refused(file_of(one(R"("dtype":"F32","data_offsets":[0,4])"), four), "'shape' of 'x'");
    check_refused(file_of(one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), four), "got [-1]");
    check_refused(file_of(one(R"("dtype":"F32","shape":[1.0],"data_offsets":[0,4])"), four), "got [1.0]");
    check_refused(file_of(one(R"("dtype":"F32","shape":[1e400],"data_offsets":[0,4])"), four), "a JSON header");
    check_refused(file_of(one(R"("dtype":"F32","shape":"1","data_offsets":[0,4])"), four), "a list of integers");
    const std::string deep = std::string(100'000, '[') + std::string(100'000, ']'); // as many calls, one in the other
    check_refused(file_of(one(R"("dtype":"F32","data_offsets":[0,4],"shape":)" + deep), four), "at most 16 levels");
    check_refused(file_of(one(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), four), "two offsets");
    check_refused(file_of(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), four), "within 4 bytes");
    check_refused(file_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), four), "within 4 bytes");
    check_refused(file_of(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,8])"), eight), "got F32 [1] of 4 bytes");
    check_refused(file_of(one(R"("dtype":"F32","shape":[1,1,1,1,1,1,1],"data_offsets":[0,4])"), four), "6 axes");
    check_refused(file_of(one(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"), ""),
                  "that no file can hold");
    check_refused(file_of(one(R"("dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0])"), ""),
                  "that no file can hold");
    check_refused(file_of(one(R"("dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,0])"), ""),
                  "a list of integers");
    check_refused(file_of(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"), eight), "got 4 bytes more");
    check_refused(file_of(R"({"__metadata__":3})", ""), "'__metadata__' to be an object");
    check_refused(file_of(R"({"__metadata__":{"a":3}})", ""), "metadata 'a' to be a string");
}

TEST_CASE("safetensors: overlaps, holes, misaligned offsets and equal names are errors") {
    const std::string data(16, '\0');
    const auto two = [](const char* first, const char* second) {
        return join_text(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)", first,
                         R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)", second, "}}");
    };
    CHECK(read_bytes(file_of(two("[8,16]", "[0,8]"), data)).entries()[0].name == "a");
    check_refused(file_of(two("[0,8]", "[4,12]"), data), "'b' at offset 8, where the one before it ends, got 4");
    check_refused(file_of(two("[0,8]", "[0,8]"), data), "at offset 8");
    check_refused(file_of(two("[0,8]", "[8,16]"), data + "x"), "got 1 bytes more");
    check_refused(file_of(two("[4,12]", "[12,20]"), data + "four"), "at offset 0");
    check_refused(file_of(R"({"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                          R"("f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})",
                          "12345"),
                  "at a multiple of 4 bytes, got offset 1");
    const std::string x = R"("x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
    check_refused(file_of("{" + x + "," + x + "}", "1"), "unique names, got 'x' twice");
    check_refused(file_of(R"({"x":{"dtype":"U8","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234"),
                  "got 'dtype' twice");
    check_refused(file_of(R"({"__metadata__":{"k":"1","k":"2"}})", ""), "got 'k' twice");
}

TEST_CASE("safetensors: every truncation and every changed byte of the header is an error or a readable file") {
    const TemporaryPath temporary;
    write_safetensors(some_tensors(), temporary.path);
    const std::string whole = slurp(temporary.path);
    std::uint64_t length = 0;
    std::memcpy(&length, whole.data(), sizeof length);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        spill(temporary.path, whole.substr(0, size));
        CHECK_THROWS_AS(read_safetensors(temporary.path), IoError);
    }
    int refused = 0;
    const Random random(3, "bytes");
    for (std::size_t byte = 0; byte < 8 + length; ++byte) {
        std::string damaged = whole;
        damaged[byte] = static_cast<char>(random.below(256, byte));
        spill(temporary.path, damaged);
        try {
            read_safetensors(temporary.path); // a changed name is a legal file
        } catch (const IoError&) {
            ++refused; // anything but IoError fails the case
        }
    }
    CHECK(refused > static_cast<int>(length) / 4);
}

TEST_CASE("safetensors: a file that is missing or a folder is an error") {
    CHECK_THROWS_WITH_AS(read_safetensors("/nonexistent/x"), doctest::Contains("No such file"), IoError);
    CHECK_THROWS_AS(read_safetensors(std::filesystem::temp_directory_path().string()), IoError);
}

TEST_CASE("safetensors: text that is not UTF-8 and a reserved name are not written") {
    TensorFile file;
    file.add("__metadata__", Tensor<float>::scalar(1));
    CHECK_THROWS_WITH_AS(write_safetensors(file, "x"), doctest::Contains("reserved"), StateError);
    TensorFile other;
    other.metadata["a"] = "\xff";
    CHECK_THROWS_WITH_AS(write_safetensors(other, "x"), doctest::Contains("UTF-8"), StateError);
    CHECK_FALSE(std::filesystem::exists("x"));
}
