#include <espalier/regularizers/gauges.hpp>

#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/join.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/activation.hpp>
#include <espalier/ops/reduce.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

// conv - batch norm, conv without one, linear - batch norm
template <class T> struct Net : Module<T> {
    Conv2d<T> first = this->child("first", Conv2d<T>({.in = 2, .out = 3, .bias = Bias::none}));
    BatchNorm<T> bn = this->child("bn", BatchNorm<T>({.channels = 3}));
    Conv2d<T> second = this->child("second", Conv2d<T>({.in = 3, .out = 4, .size = 1}));
    Linear<T> head = this->child("head", Linear<T>({.in = 4, .out = 2}));
    BatchNorm<T> last = this->child("last", BatchNorm<T>({.channels = 2}));

    Var<T> forward(const Var<T>& x) const {
        const Var<T> y = second.forward(bn.forward(first.forward(x), Activation::relu));
        return last.forward(head.forward(mean(y, {1, 2})));
    }
    Var<T> run() const { return forward(Var<T>(random_tensor<T>({4, 5, 5, 2}))); }
};

} // namespace

TEST_CASE_TEMPLATE("gauges: filter norms with batch norm folded in", T, float, double) {
    Net<T> net;
    const auto y = net.run(); // moves the running variances; the gauge is to read the new ones
    net.bn.gamma.set_value(Tensor<T>::from({3}, {T(-2), T(0), T(0.5)}));
    const auto layers = filter_norms(net, y);
    REQUIRE(layers.size() == 2);
    CHECK(layers[0].name == "first.weight");
    CHECK(layers[1].name == "head.weight");
    REQUIRE(layers[0].norms.size() == 3);
    REQUIRE(layers[1].norms.size() == 2);
    const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    for (Index k = 0; k < 3; ++k) {
        double squares = 0;
        for (const T v : net.first.weight.value().rows(k, k + 1))
            squares += static_cast<double>(v) * static_cast<double>(v);
        const double gamma = static_cast<double>(net.bn.gamma.value().at(k));
        const double variance = static_cast<double>(net.bn.running_var.value().at(k));
        CHECK(layers[0].norms[static_cast<std::size_t>(k)] ==
              doctest::Approx(std::abs(gamma) * std::sqrt(squares) / std::sqrt(variance + 1e-5)).epsilon(4 * eps));
    }
    CHECK(layers[0].norms[1] == 0);
}

TEST_CASE("gauges: ends of residual branches, with batch norm and without") {
    struct Residual : Module<float> {
        Conv2d<float> stem = child("stem", Conv2d<float>({.in = 2, .out = 3, .size = 1}));
        Conv2d<float> first = child("first", Conv2d<float>({.in = 3, .out = 3, .size = 1}));
        BatchNorm<float> bn = child("bn", BatchNorm<float>({.channels = 3}));
        Join<float> join1 = child("join1", Join<float>()), join2 = child("join2", Join<float>());
        Conv2d<float> second = child("second", Conv2d<float>({.in = 3, .out = 3, .size = 1}));
        Linear<float> head = child("head", Linear<float>({.in = 3, .out = 2}));
    } net;
    const Var<float> x = net.stem.forward(Var<float>(random_tensor<float>({4, 5, 5, 2})));
    const Var<float> y = net.join1.forward(x, net.bn.forward(net.first.forward(x)));
    const Var<float> z = net.join2.forward(y, net.second.forward(relu(y)));
    const auto layers = filter_norms(net, net.head.forward(mean(z, {1, 2})));
    REQUIRE(layers.size() == 2);
    CHECK(layers[0].name == "first.weight");
    CHECK(layers[1].name == "second.weight");
    double squares = 0;
    for (const float v : net.second.weight.value().rows(2, 3)) squares += double(v) * double(v);
    CHECK(layers[1].norms[2] == doctest::Approx(std::sqrt(squares)).epsilon(1e-12)); // the same sum in double
    for (const FilterNorms& layer : layers) CHECK(layer.ends_branch);
    const Net<float> plain;
    for (const FilterNorms& layer : filter_norms(plain, plain.run())) CHECK_FALSE(layer.ends_branch);
}

TEST_CASE_TEMPLATE("gauges: the folded norm does not see a filter's scale", T, float, double) {
    Net<T> net;
    net.bn.momentum = 1; // running variance = that of the batch
    const auto before = filter_norms(net, net.run(), 1e-12);
    auto& w = net.first.weight.mutable_value();
    for (Index i = 0; i < w.size(); ++i) w.mutable_data()[i] *= T(8);
    const auto after = filter_norms(net, net.run(), 1e-12);
    for (std::size_t k = 0; k < 3; ++k) CHECK(after[0].norms[k] == doctest::Approx(before[0].norms[k]).epsilon(1e-4));
}

TEST_CASE("gauges: share below the threshold") {
    const std::vector<FilterNorms> layers = {{"a", {100, 1, 0.5, 2}}, {"b", {0.01, 0.00005}}, {"c", {0, 0}}};
    CHECK(share_below(layers) == doctest::Approx((2 + 1 + 2) / 8.0)); // relative to each layer's largest
    CHECK(share_below(layers, 0) == doctest::Approx(2 / 8.0));
    CHECK(share_below(layers, 1) == 1);
    CHECK(share_below({}) == 0);
}

TEST_CASE_TEMPLATE("gauges: errors", T, float, double) {
    const Net<T> net;
    const NoGrad no_grad;
    const auto y = net.run();
    CHECK_THROWS_WITH_AS(filter_norms(net, y), doctest::Contains("filter_norms: expected an output that was recorded"),
                         StateError);
}
