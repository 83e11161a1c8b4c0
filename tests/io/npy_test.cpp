#include "data/temporary.hpp"
#include "support/check.hpp"

#include <espalier/io/npy.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

Bytes bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

/// What numpy.save writes for this header and these elements.
std::string npy(std::string header, const std::string& elements) {
    header.resize(117, ' '); // as short as ours are, every header fills two blocks of 64 bytes
    return std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + "\n" + elements;
}
std::string npy(const char* descr, const char* shape, const std::string& elements) {
    return npy(join_text("{'descr': '", descr, "', 'fortran_order': False, 'shape': ", shape, ", }"), elements);
}
template <class T> std::string raw(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}
template <class T> Tensor<T> read(const std::string& bytes, Precision precision = Precision::exact) {
    const TemporaryFolder folder;
    return read_npy<T>(folder.write("a.npy", bytes_of(bytes)).string(), precision);
}
template <class T> std::string written(const Tensor<T>& x) {
    const TemporaryFolder folder;
    const std::string path = (folder.path() / "a.npy").string();
    write_npy(path, x);
    const FileBytes file = read_file(path);
    return {file.bytes.begin(), file.bytes.end()};
}
void check_refused(const std::string& bytes, const char* text) {
    const TemporaryFolder folder;
    const std::string path = folder.write("a.npy", bytes_of(bytes)).string();
    CHECK_THROWS_WITH_AS(read_npy<float>(path), doctest::Contains(text), IoError);
    CHECK_THROWS_WITH_AS(read_npy<float>(path), doctest::Contains(path.c_str()), IoError);
}

} // namespace

// The texts are what numpy 2.4 wrote.
TEST_CASE("npy: files have numpy's bytes, both ways") {
    const auto check = [](const auto& x, const char* descr, const char* shape) {
        using T = std::remove_cvref_t<decltype(*x.data())>;
        const std::string bytes = npy(descr, shape, raw(x.to_vector()));
        CHECK(written(x) == bytes);
        CHECK(same_bits(read<T>(bytes), x));
    };
    check(Tensor<float>::from({2, 3}, {1, 2, 3, 4, 5, 6}), "<f4", "(2, 3)");
    check(Tensor<double>::scalar(2.5), "<f8", "()");
    check(Tensor<Index>::from({1}, {-7}), "<i8", "(1,)");
    check(Tensor<std::uint8_t>::from({2, 1, 2}, {0, 1, 128, 255}), "|u1", "(2, 1, 2)");
    check(Tensor<float>::zeros({0, 4}), "<f4", "(0, 4)");
    check(random_tensor<double>({2, 1, 3, 1, 2, 2}), "<f8", "(2, 1, 3, 1, 2, 2)");
}

TEST_CASE("npy: elements start at a multiple of 64 bytes, whatever the length of the header") {
    const Index large = 1'000'000'000'000; // beside a zero, so that the file stays small
    const auto x = Tensor<float>::zeros({0, large, large, large, large, large});
    const std::string bytes = written(x);
    CHECK(bytes.size() == 192);
    CHECK(bytes.back() == '\n');
    CHECK_THROWS_WITH_AS(read<float>(bytes), doctest::Contains("expected the elements of F32"), IoError); // overflows
}

TEST_CASE("npy: versions 2 and 3 have a longer length") {
    const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", x = raw<float>({1, 2});
    for (const char version : {'\x02', '\x03'}) {
        const std::string start = std::string("\x93NUMPY") + version + std::string("\0\x3a\0\0\0", 5);
        CHECK(read<float>(start + header + x).to_vector() == std::vector<float>{1, 2});
        check_refused(start + header.substr(0, 20), "a header of at most 20 bytes, got 58");
        check_refused(std::string("\x93NUMPY") + version + std::string("\0\xff\xff\xff\xff", 5) + header + x,
                      "bytes, got 4294967295");
    }
}

TEST_CASE("npy: what Python accepts in a header is accepted") {
    CHECK(read<float>(npy("{\"shape\":(2 ,), 'fortran_order' :False,\n\t'descr':\"<f4\"}", raw<float>({1, 2}))).at(1) ==
          2);
    CHECK(
        read<float>(npy("{ 'descr': '<f4', 'fortran_order': False, 'shape': ( 2, 1 ) }", raw<float>({1, 2}))).shape() ==
        Shape{2, 1});
}

TEST_CASE("npy: columns first become rows first") {
    const auto check = [](const std::string& shape, const Tensor<std::uint8_t>& x, const Bytes& columns) {
        const std::string header = "{'descr': '|u1', 'fortran_order': True, 'shape': " + shape + ", }";
        CHECK(same_bits(read<std::uint8_t>(npy(header, raw(columns))), x));
    };
    check("(2, 3)", Tensor<std::uint8_t>::from({2, 3}, {1, 2, 3, 4, 5, 6}), {1, 4, 2, 5, 3, 6});
    check("(2, 2, 2)", Tensor<std::uint8_t>::from({2, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7}), {0, 4, 2, 6, 1, 5, 3, 7});
    check("(3,)", Tensor<std::uint8_t>::from({3}, {1, 2, 3}), {1, 2, 3});
    check("()", Tensor<std::uint8_t>::scalar(9), {9});
    check("(3, 0)", Tensor<std::uint8_t>::zeros({3, 0}), {});
}

TEST_CASE("npy: other types are converted only when asked for") {
    const auto single = npy("<f4", "(2,)", raw<float>({0.1f, -2}));
    CHECK_THROWS_WITH_AS(read<double>(single), doctest::Contains("of type F64, got F32 in"), StateError);
    CHECK(read<double>(single, Precision::converted).at(0) == static_cast<double>(0.1f));
    CHECK(read<float>(npy("<f2", "(2,)", raw<std::uint16_t>({0x3c00, 0xc100})), Precision::converted).to_vector() ==
          std::vector<float>{1, -2.5f});
    const auto integers = [](const char* descr, const auto& values) {
        return read<Index>(npy(descr, "(2,)", raw(values)), Precision::converted).to_vector();
    };
    CHECK(integers("<i4", std::vector<std::int32_t>{-5, 1 << 30}) == std::vector<Index>{-5, 1 << 30});
    CHECK(integers("<i2", std::vector<std::int16_t>{-5, 300}) == std::vector<Index>{-5, 300});
    CHECK(integers("|i1", std::vector<std::int8_t>{-5, 3}) == std::vector<Index>{-5, 3});
    CHECK(integers("<u4", std::vector<std::uint32_t>{0, ~0u}) == std::vector<Index>{0, 4294967295});
    CHECK(integers("<u2", std::vector<std::uint16_t>{0, 65535}) == std::vector<Index>{0, 65535});
    CHECK(integers("|u1", std::vector<std::uint8_t>{0, 255}) == std::vector<Index>{0, 255});
    CHECK(integers("|b1", std::vector<std::uint8_t>{0, 1}) == std::vector<Index>{0, 1});
    CHECK_THROWS_WITH_AS(integers("<u8", std::vector<std::uint64_t>{0, 1}), doctest::Contains("got U64"), StateError);
    CHECK_THROWS_WITH_AS(read<float>(npy("<i4", "(1,)", raw<std::int32_t>({1})), Precision::converted),
                         doctest::Contains("got I32"), StateError);
}

TEST_CASE("npy: damaged and hostile headers are errors that name the file") {
    const std::string four(4, '\0');
    const auto header = [&](const char* text) { return npy(text, four); };
    check_refused("", "a whole header, got its end at byte 0");
    check_refused("\x93NUMPZ", "starts with \\x93NUMPY, got another byte at byte 6");
    check_refused("PK\x03\x04 a zip of arrays", "starts with \\x93NUMPY");
    check_refused(std::string("\x93NUMPY\x04\0\0\0", 10), "version 1.0, 2.0 or 3.0, got 4.0");
    check_refused(std::string("\x93NUMPY\x01\x01\0\0", 10), "got 1.1");
    check_refused(std::string("\x93NUMPY\x01\0\xff\xff", 10) + "{", "a header of at most 1 bytes, got 65535");
    check_refused(std::string("\x93NUMPY\x01\0\0\0", 10), "a dictionary, got other text at byte 10");
    check_refused(header("[]"), "a dictionary, got other text");
    check_refused(header("{}"), "descr, fortran_order and shape in the header, got fewer");
    check_refused(header("{descr: '<f4'}"), "a key in quotes");
    check_refused(header("{'descr"), "a whole header, got its end");
    check_refused(header("{'other': 1}"), "once each, got 'other'");
    check_refused(header("{'descr': '<f4', 'descr': '<f4'}"), "once each, got 'descr'");
    check_refused(header("{'descr' '<f4'}"), "a colon behind 'descr'");
    check_refused(header("{'descr': '<f4' 'shape': (1,)}"), "a comma or the end of the dictionary");
    check_refused(header("{'descr': [('a', '<f4')], "), "a plain element type in quotes");
    check_refused(npy(">f4", "(1,)", four), "<f2 <i4 <i2 |i1 <u8 <u4 <u2 |b1, got '>f4'");
    check_refused(npy("<c8", "(1,)", four), "got '<c8'");
    check_refused(npy("|O", "(1,)", four), "got '|O'");
    check_refused(header("{'fortran_order': 0}"), "True or False");
    check_refused(header("{'shape': 1}"), "a shape in parentheses");
    check_refused(header("{'shape': (-1,)}"), "an extent of at least 0");
    check_refused(header("{'shape': (1 2)}"), "a comma or the end of the shape");
    check_refused(header("{'shape': (,)}"), "an extent of at least 0");
    check_refused(header("{'shape': (1"), "a comma or the end of the shape"); // blanks up to the end of the header
    check_refused(header("{'shape': (9223372036854775808,)}"), "below 2^63");
    check_refused(header("{'shape': (1, 1, 1, 1, 1, 1, 1)}"), "at most 6 axes");
    check_refused(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } ?", four),
                  "the end of the header, got");
}

TEST_CASE("npy: the elements must fill the file, and nothing is allocated before that is known") {
    const std::string four(4, '\0');
    check_refused(npy("<f4", "(2,)", four), "the elements of F32 [2] after the header, got 4 bytes at byte 128");
    check_refused(npy("<f4", "(1,)", four + "x"), "got 5 bytes");
    check_refused(npy("<f4", "()", ""), "got 0 bytes");
    check_refused(npy("<f4", "(0,)", four), "got 4 bytes");
    check_refused(npy("|u1", "(4611686018427387904, 4)", four), "got 4 bytes"); // 2^64 elements: 0 in 64 bits
    check_refused(npy("<f4", "(4611686018427387905,)", four), "got 4 bytes");
    check_refused(npy("<f4", "(1000000000000,)", four), "got 4 bytes");
}

TEST_CASE("npy: every truncation and every changed byte of the header is an error or a readable file") {
    const std::string whole = npy("<f4", "(2, 3)", raw<float>({1, 2, 3, 4, 5, 6}));
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK_THROWS_AS(read<float>(whole.substr(0, size)), IoError);
    int refused = 0;
    const Random random(3, "bytes");
    for (std::size_t byte = 0; byte < 128; ++byte) {
        std::string damaged = whole;
        damaged[byte] = static_cast<char>(random.below(256, byte));
        try {
            read<float>(damaged, Precision::converted);
        } catch (const Error&) {
            ++refused; // anything but Error fails the case
        }
    }
    CHECK(refused > 64);
}

TEST_CASE("npy: a file that is missing or can't be written is an error") {
    CHECK_THROWS_WITH_AS(read_npy<float>("/nonexistent/a.npy"), doctest::Contains("/nonexistent/a.npy"), IoError);
    CHECK_THROWS_AS(write_npy("/nonexistent/a.npy", Tensor<float>::scalar(1)), IoError);
}
