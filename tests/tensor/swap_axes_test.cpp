#include "support/check.hpp"

#include <espalier/tensor/swap_axes.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("swap_axes: y[k,b,a] = x[k,a,b], and twice is nothing", T, float, double, Index) {
    Tensor<T> x({2, 3, 4});
    for (Index i = 0; i < x.size(); ++i) x.mutable_data()[i] = static_cast<T>(i);
    const Tensor<T> y = swap_axes(x);
    REQUIRE(y.shape() == Shape{2, 4, 3});
    for (Index k = 0; k < 2; ++k)
        for (Index a = 0; a < 3; ++a)
            for (Index b = 0; b < 4; ++b) CHECK(y.at(k, b, a) == x.at(k, a, b));
    CHECK(same_bits(swap_axes(y), x));
    CHECK_FALSE(y.shares_memory(x));
}

TEST_CASE("swap_axes: an axis of one or of nothing, and another rank") {
    const Tensor<float> row = random_tensor<float>({3, 1, 5});
    CHECK(same_bits(swap_axes(row), row.reshape({3, 5, 1})));
    CHECK_FALSE(swap_axes(row).shares_memory(row));
    CHECK(swap_axes(Tensor<float>({0, 2, 3})).shape() == Shape{0, 3, 2});
    CHECK(swap_axes(Tensor<float>({2, 0, 3})).shape() == Shape{2, 3, 0});
    CHECK_THROWS_WITH_AS(swap_axes(Tensor<float>({2, 3})), "swap_axes: expected x [K,A,B], got [2,3]", ShapeError);
}
