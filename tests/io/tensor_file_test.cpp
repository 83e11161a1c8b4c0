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

TEST_CASE("tensor_file: only the two floating-point types convert into each other") {
    TensorFile file;
    file.add("double", Tensor<double>::scalar(0.1));
    file.add("index", Tensor<Index>::scalar(3));
    CHECK(file.get_converted<float>("double").item() == 0.1f);
    CHECK(file.get_converted<double>("double").item() == 0.1);
    CHECK(file.get_converted<Index>("index").item() == 3);
    CHECK_THROWS_WITH_AS(file.get_converted<float>("index"), doctest::Contains("got I64"), StateError);
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
