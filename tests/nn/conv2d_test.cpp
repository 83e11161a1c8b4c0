#include "support/check.hpp"

#include <espalier/nn/conv2d.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("Conv2d: parameters, options and the op", T, float, double) {
    const Conv2d<T> conv(
        {.in = 4, .out = 6, .size = 3, .stride = 2, .padding = 2, .dilation = 2, .groups = 2, .init = Init::he()},
        Random(3, "conv"));
    CHECK(conv.weight.shape() == Shape{6, 3, 3, 2});
    CHECK(conv.bias.shape() == Shape{6});
    CHECK(conv.parameter_count() == 6 * 9 * 2 + 6);
    CHECK(conv.parameters()[0].name == "weight");
    CHECK(conv.parameters()[1].name == "bias");
    CHECK(same_bits(conv.weight.value(), draw_weight<T>({6, 3, 3, 2}, Init::he(), Random(3, "conv").substream(0))));

    const Var<T> x(random_tensor<T>({2, 7, 7, 4}));
    const Conv2dOptions options{.stride = 2, .padding = 2, .dilation = 2, .groups = 2};
    CHECK(same_bits(conv.forward(x).value(), conv2d(x, conv.weight, conv.bias, options).value()));
    conv.forward(x).backward(Tensor<T>::ones({2, 4, 4, 6}));
    for (const auto& [name, var] : conv.parameters()) CHECK(var.grad().defined());
}

TEST_CASE("Conv2d: no bias, PyTorch's default draw, and widths that follow the weight") {
    Conv2d<float> conv({.in = 3, .out = 8, .bias = Bias::none});
    CHECK_FALSE(conv.bias.defined());
    CHECK(conv.weight.shape() == Shape{8, 3, 3, 3});
    const float bound = 1 / std::sqrt(27.0f);
    for (const float w : conv.weight.value()) CHECK(std::abs(w) <= bound);
    conv.weight.set_value(Tensor<float>::ones({2, 3, 3, 1}));
    CHECK(conv.forward(Var<float>(random_tensor<float>({1, 5, 5, 1}))).shape() == Shape{1, 3, 3, 2});
}

TEST_CASE("Conv2d: extents below one and groups that do not divide are errors") {
    CHECK_THROWS_WITH_AS(Conv2d<float>({.in = 0, .out = 1}), doctest::Contains("Conv2d: expected positive in"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(Conv2d<float>({.in = 3, .out = 4, .groups = 2}), doctest::Contains("divisible by groups"),
                         ShapeError);
}

TEST_CASE("Conv2d: depthwise, the groups follow the channels, down to none") {
    const auto narrowed = [](Conv2d<float> conv, const Shape& weight, const Shape& x) {
        conv.weight.set_value(Tensor<float>::ones(weight));
        const Var<float> input = parameter(random_tensor<float>(x));
        const Var<float> y = conv.forward(input);
        y.backward(Tensor<float>::ones(y.shape()));
        CHECK(input.grad().shape() == x);
        CHECK(conv.weight.grad().shape() == weight);
        return y.shape();
    };
    const Conv2d<float> depthwise({.in = 6, .out = 6, .padding = 1, .groups = 6, .bias = Bias::none});
    CHECK(narrowed(depthwise, {4, 3, 3, 1}, {2, 5, 5, 4}) == Shape{2, 5, 5, 4});
    CHECK(narrowed(depthwise, {1, 3, 3, 1}, {2, 5, 5, 1}) == Shape{2, 5, 5, 1});
    CHECK(narrowed(depthwise, {0, 3, 3, 1}, {2, 5, 5, 0}) == Shape{2, 5, 5, 0});
    const Conv2d<float> multiplied({.in = 3, .out = 6, .padding = 1, .groups = 3, .bias = Bias::none});
    CHECK(narrowed(multiplied, {4, 3, 3, 1}, {2, 5, 5, 2}) == Shape{2, 5, 5, 4});
    CHECK(narrowed(multiplied, {0, 3, 3, 1}, {2, 5, 5, 0}) == Shape{2, 5, 5, 0});
    const Conv2d<float> whole({.in = 6, .out = 6, .padding = 1, .groups = 6});
    CHECK_THROWS_WITH_AS(whole.forward(Var<float>(random_tensor<float>({2, 5, 5, 3}))),
                         doctest::Contains("divisible by 6 groups"), ShapeError);
}
