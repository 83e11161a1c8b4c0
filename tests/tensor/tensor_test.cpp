#include "support/check.hpp"

#include <espalier/tensor/tensor.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("tensor: a copy is a handle, a clone is not", T, float, double, Index, std::uint8_t) {
    auto a = Tensor<T>::from({2, 3}, {1, 2, 3, 4, 5, 6});
    Tensor<T> handle = a, copy = a.clone();
    a.set(T(9), 1, 2);
    CHECK(handle.at(1, 2) == 9);
    CHECK(copy.at(1, 2) == 6);
    CHECK(handle.shares_memory(a));
    CHECK(a.is_shared());
    handle = {};
    CHECK_FALSE(a.is_shared());
    handle = a.rows(0, 1); // a view counts
    CHECK(a.is_shared());
    CHECK_FALSE(copy.is_shared());
    CHECK_FALSE(Tensor<T>().is_shared());
    CHECK_FALSE(copy.shares_memory(a));
    CHECK_FALSE(Tensor<T>().defined());
}

TEST_CASE("tensor: a clone of more elements than one thread copies") {
    const auto a = random_tensor<float>({3, 16384 + 5});
    CHECK(same_bits(a.clone(), a));
}

TEST_CASE("tensor: reshape and rows are views of the same memory") {
    auto a = Tensor<float>::from({4, 3}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    CHECK(a.reshape({2, -1}).shape() == Shape{2, 6});
    CHECK(a.reshape({12}).at(7) == 7);
    Tensor<float> middle = a.rows(1, 3);
    CHECK(middle.shape() == Shape{2, 3});
    CHECK(middle.at(0, 0) == 3);
    middle.set(42, 1, 1);
    CHECK(a.at(2, 1) == 42);
    CHECK(a.rows(2, 2).size() == 0);
    CHECK(pixels(a.reshape({2, 2, 3})).size(0) == 4);
    CHECK(view<2>(a)(3, 2) == 11);
}

TEST_CASE("tensor: what does not fit is one clear error") {
    const auto a = Tensor<float>::zeros({2, 3});
    CHECK_THROWS_WITH_AS(a.reshape({4}), doctest::Contains("6 elements for [2,3], got [4]"), ShapeError);
    CHECK_THROWS_AS(a.reshape({-1, -1}), ShapeError);
    CHECK_THROWS_AS(a.reshape({4, -1}), ShapeError);
    CHECK_THROWS_WITH_AS(a.rows(1, 3), doctest::Contains("got 1 and 3"), ShapeError);
    CHECK_THROWS_WITH_AS(a.at(2, 0), doctest::Contains("within [2,3], got [2,0]"), ShapeError);
    CHECK_THROWS_AS(a.at(0), ShapeError);
    CHECK_THROWS_AS(a.item(), ShapeError);
    CHECK_THROWS_WITH_AS(a.size(2), doctest::Contains("below 2, got 2"), ShapeError);
    CHECK_THROWS_WITH_AS(Tensor<float>::from({2}, {1, 2, 3}), doctest::Contains("expected 2 values"), ShapeError);
    CHECK_THROWS_AS(Tensor<float>(Shape{-1}), ShapeError);
    CHECK_THROWS_AS(view<3>(a), ShapeError);
}

TEST_CASE("tensor: empty tensors and scalars") {
    const auto empty = Tensor<float>::ones({0, 4});
    CHECK(empty.size() == 0);
    CHECK(empty.clone().shape() == Shape{0, 4});
    CHECK(Tensor<float>::scalar(3).item() == 3);
    CHECK(Tensor<float>::scalar(3).rank() == 0);
    CHECK(Tensor<double>::from({2}, {1.5, -2}).cast<Index>().to_vector() == std::vector<Index>{1, -2});
}
