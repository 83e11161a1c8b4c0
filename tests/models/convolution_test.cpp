#include "support/check.hpp"

#include <espalier/models/convolution.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("convolution: keeps height and width or divides them, rounded up; no bias, weights zero", T, float,
                   double) {
    for (const Index size : {1, 3, 7})
        for (const Index stride : {1, 2}) {
            const Conv2d<T> conv = models::convolution<T>(2, 3, size, stride);
            CHECK(conv.weight.value().to_vector() == std::vector<T>(static_cast<std::size_t>(6 * size * size)));
            CHECK(conv.weight.shape() == Shape{3, size, size, 2});
            CHECK(conv.parameters().size() == 1);
            const Shape expected{2, (5 + stride - 1) / stride, (8 + stride - 1) / stride, 3};
            CHECK(conv.forward(Var<T>(random_tensor<T>({2, 5, 8, 2}))).shape() == expected);
        }
    CHECK(models::convolution<T>(1, 1, 3).forward(Var<T>(Tensor<T>::ones({1, 1, 1, 1}))).shape() == Shape{1, 1, 1, 1});
}
