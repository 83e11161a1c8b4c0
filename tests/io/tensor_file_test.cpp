#include "support/check.hpp"

#include <espalier/io/tensor_file.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE("tensor_file: a tensor comes back under its name with its exact type") {
    TensorFile file;
    const auto x = random_tensor<float>({2, 3});
    file.add("x", x);
    CHECK(file.contains("x"));
    CHECK(file.type("x") == "F32");
    CHECK(file.get<float>("x").shares_memory(x));
    CHECK_THROWS_WITH_AS(file.get<double>("x"), doctest::Contains("'x' of type F64, got F32"), StateError);
    CHECK_THROWS_WITH_AS(file.get<float>("y"), doctest::Contains("a tensor 'y', got none"), StateError);
    CHECK_THROWS_WITH_AS(file.add("x", x), doctest::Contains("'x' twice"), StateError);
    CHECK_THROWS_WITH_AS(file.text("model"), doctest::Contains("metadata 'model', got none"), StateError);
}

TEST_CASE("tensor_file: types of the same kind convert into each other") {
    TensorFile file;
    file.add("double", Tensor<double>::scalar(0.1));
    file.add("index", Tensor<Index>::scalar(3));
    CHECK(file.get_converted<float>("double").item() == 0.1f);
    CHECK(file.get_converted<double>("double").item() == 0.1);
    CHECK(file.get_converted<Index>("index").item() == 3);
    CHECK_THROWS_WITH_AS(file.get_converted<float>("index"), doctest::Contains("got I64"), StateError);
    CHECK_THROWS_WITH_AS(file.get_converted<Index>("double"), doctest::Contains("got F64"), StateError);
    file.add("bytes", Tensor<std::uint8_t>::from({2}, {0, 255}));
    CHECK(file.get_converted<Index>("bytes").to_vector() == std::vector<Index>{0, 255});
}

TEST_CASE("tensor_file: all numbers of 16 bits are converted exactly") {
    Tensor<std::uint8_t> bytes({2 << 16});
    for (Index i = 0; i < 1 << 16; ++i) {
        bytes.mutable_data()[2 * i] = static_cast<std::uint8_t>(i & 255);
        bytes.mutable_data()[2 * i + 1] = static_cast<std::uint8_t>(i >> 8);
    }
    TensorFile file;
    file.add("half", ForeignTensor{"F16", {1 << 16}, bytes});
    file.add("brain", ForeignTensor{"BF16", {1 << 8, 1 << 8}, bytes});
    const auto half = file.get_converted<double>("half"), brain = file.get_converted<double>("brain");
    CHECK(brain.shape() == Shape{256, 256});
    // The definition: (-1)^sign 2^(exponent - bias) (1 + fraction), without the 1 and with the next exponent if it is
    // 0.
    const auto check = [](double got, Index bits, int exponent_bits, int fraction_bits) {
        const int exponent = static_cast<int>(bits >> fraction_bits & ((1 << exponent_bits) - 1));
        const int largest = (1 << exponent_bits) - 1, bias = largest / 2;
        const double fraction = std::ldexp(static_cast<double>(bits & ((1 << fraction_bits) - 1)), -fraction_bits);
        const double magnitude =
            exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
        if (exponent == largest)
            return fraction > 0 ? std::isnan(got) : std::isinf(got) && std::signbit(got) == (bits >> 15 == 1);
        return got == (bits >> 15 ? -magnitude : magnitude) && std::signbit(got) == (bits >> 15 == 1);
    };
    int wrong = 0;
    for (Index i = 0; i < 1 << 16; ++i) wrong += !check(half.data()[i], i, 5, 10) + !check(brain.data()[i], i, 8, 7);
    CHECK(wrong == 0);
    CHECK_THROWS_WITH_AS(file.get<float>("half"), doctest::Contains("'half' of type F32, got F16"), StateError);
    CHECK_THROWS_WITH_AS(file.get_converted<Index>("half"), doctest::Contains("got F16"), StateError);
}

TEST_CASE("tensor_file: expect_names lists what is missing and unexpected under a prefix, the first few of many") {
    TensorFile file;
    for (const char* name : {"m.a", "m.b", "other"}) file.add(name, Tensor<float>::scalar(0));
    file.expect_names("test", "m.", {"b", "a"});
    CHECK_THROWS_WITH_AS(file.expect_names("test", "m.", {"a"}), doctest::Contains("unexpected m.b in"), StateError);
    CHECK_THROWS_WITH_AS(file.expect_names("test", "m.", {"a", "b", "c"}), doctest::Contains("got no m.c in"),
                         StateError);
    CHECK_THROWS_WITH_AS(file.expect_names("test", "m.", {"1", "2", "3", "4", "5", "6", "7"}),
                         "test: expected the names of this object, got no m.1, m.2, m.3, m.4, m.5 and 2 more, and "
                         "unexpected m.a, m.b in tensors in memory",
                         StateError);
}
