#include "support/check.hpp"

#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/join.hpp>
#include <espalier/nn/linear.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {
struct Moments {
    double mean = 0, deviation = 0, largest = 0;
};
Moments moments(const Tensor<double>& x) {
    Moments m;
    const double n = static_cast<double>(x.size());
    for (const double v : x) m.mean += v / n;
    for (const double v : x) m.deviation += (v - m.mean) * (v - m.mean) / n;
    for (const double v : x) m.largest = std::max(m.largest, std::abs(v));
    m.deviation = std::sqrt(m.deviation);
    return m;
}
struct Net : Module<float> {
    Conv2d<float> conv = child("conv", Conv2d<float>({.in = 3, .out = 4}));
    BatchNorm<float> bn = child("bn", BatchNorm<float>({.channels = 4}));
    Join<float> join = child("join", Join<float>());
    Linear<float> linear = child("linear", Linear<float>({.in = 4, .out = 5}));
    Var<float> other = add_parameter("other", Tensor<float>::full({2}, 9));
};
} // namespace

TEST_CASE("fans: taps times channels, for convolutions and linear layers") {
    CHECK(fans({8, 3, 3, 4}).in == 36);
    CHECK(fans({8, 3, 3, 4}).out == 72);
    CHECK(fans({10, 64}).in == 64);
    CHECK(fans({10, 64}).out == 10);
    CHECK_THROWS_WITH_AS(fans({3}), doctest::Contains("fans: expected a weight [K,..,C], got [3]"), ShapeError);
}

TEST_CASE("draw_weight: deviation and range are what the rule says") {
    struct Case {
        Init init;
        double deviation;
        Distribution distribution;
    };
    const Shape shape{64, 3, 3, 32}; // fan in 288, fan out 576, 18432 elements
    const std::vector<Case> cases{
        {Init::he(), std::sqrt(2.0 / 288), Distribution::normal},
        {Init::he(Fan::out), std::sqrt(2.0 / 576), Distribution::normal},
        {Init::he(Fan::in, Distribution::uniform), std::sqrt(2.0 / 288), Distribution::uniform},
        {Init::xavier(), std::sqrt(2.0 / (288 + 576)), Distribution::uniform},
        {Init::xavier(Distribution::normal), std::sqrt(2.0 / (288 + 576)), Distribution::normal},
        {Init{}, 1 / std::sqrt(3.0 * 288), Distribution::uniform}};
    for (const Case& c : cases) {
        const Moments m = moments(draw_weight<double>(shape, c.init, Random(1, "w")));
        // 18432 draws: the deviation's own standard error is below 0.6 %, the mean's 0.8 % of the deviation
        CHECK(std::abs(m.deviation / c.deviation - 1) < 0.03);
        CHECK(std::abs(m.mean) < 0.04 * c.deviation);
        if (c.distribution == Distribution::uniform) {
            CHECK(m.largest <= c.deviation * std::sqrt(3.0));
            CHECK(m.largest > 0.99 * c.deviation * std::sqrt(3.0));
        } else {
            CHECK(m.largest > 3 * c.deviation);
        }
    }
}

TEST_CASE("draw_bias: uniform within the bound, zero where the rule has none") {
    const Moments m = moments(draw_bias<double>({4096, 5, 5, 4}, Init{}, Random(1, "b")));
    CHECK(m.largest <= 0.1);
    CHECK(m.largest > 0.099);
    CHECK(moments(draw_bias<double>({64, 8}, Init::he(), Random(1, "b"))).largest == 0);
    CHECK(moments(draw_bias<double>({64, 8}, Init::xavier(), Random(1, "b"))).largest == 0);
    CHECK(moments(draw_weight<double>({64, 8}, Init::zeros(), Random(1, "w"))).largest == 0);
}

TEST_CASE("draw_weight: shapes that surgery may leave behind") {
    CHECK(draw_weight<double>({0, 3, 3, 4}, Init::he(Fan::out), Random(1, "w")).shape() == Shape{0, 3, 3, 4});
    CHECK(draw_weight<double>({4, 3, 3, 0}, Init::he(), Random(1, "w")).shape() == Shape{4, 3, 3, 0});
    CHECK(draw_bias<double>({4, 3, 3, 0}, Init{}, Random(1, "w")).shape() == Shape{4});
}

TEST_CASE("initialize: by the seed and the name, in the present shapes, everything back to its start") {
    Net net;
    for (const auto& list : {net.parameters(), net.buffers()})
        for (const auto& [name, var] : list) Var<float>(var).mutable_value().fill(3);
    net.conv.weight.set_value(Tensor<float>::zeros({2, 3, 3, 3})); // as if two filters had been cut
    net.conv.bias.set_value(Tensor<float>::zeros({2}));
    net.join.state()->constant.set_value(Tensor<float>::ones({4}));
    initialize(net, Init{}, 5);

    CHECK(same_bits(net.conv.weight.value(), draw_weight<float>({2, 3, 3, 3}, Init{}, Random(5, "conv.weight"))));
    CHECK(same_bits(net.conv.bias.value(), draw_bias<float>({2, 3, 3, 3}, Init{}, Random(5, "conv.bias"))));
    CHECK(same_bits(net.linear.weight.value(), draw_weight<float>({5, 4}, Init{}, Random(5, "linear.weight"))));
    CHECK(same_bits(net.linear.bias.value(), draw_bias<float>({5, 4}, Init{}, Random(5, "linear.bias"))));
    CHECK(same_bits(net.bn.gamma.value(), Tensor<float>::ones({4})));
    CHECK(same_bits(net.bn.beta.value(), Tensor<float>::zeros({4})));
    CHECK(same_bits(net.bn.running_mean.value(), Tensor<float>::zeros({4})));
    CHECK(same_bits(net.bn.running_var.value(), Tensor<float>::ones({4})));
    CHECK(same_bits(net.join.state()->constant.value(), Tensor<float>::zeros({4})));
    CHECK(net.other.value().at(0) == 3);

    Net twin;
    initialize(twin, Init{}, 5);
    CHECK(same_bits(twin.linear.weight.value(), net.linear.weight.value()));
    initialize(twin, Init{}, 6);
    CHECK_FALSE(same_bits(twin.linear.weight.value(), net.linear.weight.value()));
}
