#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/nn/several_inputs.hpp>
#include <espalier/ops/pool.hpp>

#include "support/check.hpp"

using namespace espalier;

namespace {

struct Both : Module<float> { // an image and two numbers
    Var<float> forward(const Var<float>& image, const Var<float>& numbers) {
        return head.forward(concat({global_avg_pool(conv.forward(image)), numbers}, 1));
    }
    Conv2d<float> conv = child("conv", Conv2d<float>({.in = 3, .out = 4, .size = 3}));
    Linear<float> head = child("head", Linear<float>({.in = 6, .out = 5}));
};

} // namespace

TEST_CASE("SeveralInputs: one row holds all inputs, one after the other, and nothing else changes") {
    Both model;
    auto net = several_inputs(model, {{4, 4, 3}, {2}});
    CHECK(net.image() == Shape{50});
    const auto image = uniform<float>({2, 4, 4, 3}, Random(1, "image"));
    const auto numbers = uniform<float>({2, 2}, Random(1, "numbers"));
    const Var<float> row = concat({flatten(Var<float>(image)), Var<float>(numbers)}, 1);
    const Tensor<float> expected = model.forward(Var<float>(image), Var<float>(numbers)).value();
    CHECK(test::same_bits(net.forward(row).value(), expected));
    CHECK(test::same_bits(network(net).forward(row).value(), expected));
    CHECK(net.parameters().size() == model.parameters().size());
    CHECK(net.find("conv.weight").node() == model.conv.weight.node());
    net.eval();
    CHECK(model.mode() == Mode::inference);
}

TEST_CASE("SeveralInputs: a row of another length is an error") {
    Both model;
    auto net = several_inputs(model, {{4, 4, 3}, {2}});
    CHECK_THROWS_WITH_AS(net.forward(Var<float>(Tensor<float>::zeros({1, 51}))),
                         doctest::Contains("SeveralInputs: expected x [N,50], got [1,51]"), ShapeError);
}
