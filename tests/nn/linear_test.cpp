#include "support/check.hpp"

#include <espalier/nn/linear.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("Linear: parameters and the op", T, float, double) {
    const Linear<T> layer({.in = 5, .out = 3}, Random(2, "head"));
    CHECK(layer.weight.shape() == Shape{3, 5});
    CHECK(layer.bias.shape() == Shape{3});
    CHECK(layer.parameter_count() == 18);
    CHECK(same_bits(layer.weight.value(), draw_weight<T>({3, 5}, Init{}, Random(2, "head").substream(0))));
    CHECK(same_bits(layer.bias.value(), draw_bias<T>({3, 5}, Init{}, Random(2, "head").substream(1))));
    const Var<T> x(random_tensor<T>({4, 5}));
    CHECK(same_bits(layer.forward(x).value(), linear(x, layer.weight, layer.bias).value()));
    layer.forward(x).backward(Tensor<T>::ones({4, 3}));
    for (const auto& [name, var] : layer.parameters()) CHECK(var.grad().defined());
}

TEST_CASE("Linear: without a bias; extents below one are an error") {
    const Linear<float> layer({.in = 5, .out = 3, .bias = Bias::none});
    CHECK_FALSE(layer.bias.defined());
    CHECK(layer.parameters().size() == 1);
    CHECK(layer.forward(Var<float>(random_tensor<float>({1, 5}))).shape() == Shape{1, 3});
    CHECK_THROWS_WITH_AS(Linear<float>({.in = 0, .out = 3}), doctest::Contains("Linear: expected positive in and out"),
                         ShapeError);
}
