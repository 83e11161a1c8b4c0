#include <espalier/regularizers/penalties.hpp>

#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/linear.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

// Two convolutions of different size, a batch norm and a linear layer.
template <class T> struct Net : Module<T> {
    Conv2d<T> first = this->child("first", Conv2d<T>({.in = 2, .out = 3}));
    BatchNorm<T> bn = this->child("bn", BatchNorm<T>({.channels = 3}));
    Conv2d<T> second = this->child("second", Conv2d<T>({.in = 3, .out = 4, .size = 1}));
    Linear<T> head = this->child("head", Linear<T>({.in = 4, .out = 2}));

    Net() {
        int i = 0;
        for (auto& [name, var] : this->parameters()) {
            const std::string stream = "parameter " + std::to_string(i++);
            var.set_value(away_from_zero<T>(var.shape(), stream.c_str()));
        }
        this->to(device_under_test());
    }
};

template <class T> double sum_over(const Tensor<T>& x, double (*f)(double)) {
    double sum = 0;
    for (const T v : x.to_vector()) sum += f(static_cast<double>(v));
    return sum;
}
double absolute(double v) { return std::abs(v); }
double square(double v) { return v * v; }

// Every filter's norm by itself.
template <class T> double filters(const Tensor<T>& w, bool rooted) {
    double total = 0;
    const Index size = w.size() / w.size(0);
    for (Index k = 0; k < w.size(0); ++k)
        total += std::sqrt(sum_over(w.rows(k, k + 1), square)) * (rooted ? std::sqrt(static_cast<double>(size)) : 1);
    return total;
}
template <class T> void check_scalar(const Var<T>& got, double expected) {
    CHECK(got.shape() == Shape{});
    check_close(got.value(), Tensor<double>::scalar(expected)); // a few roundings of the sum of positive terms
}

} // namespace

TEST_CASE_TEMPLATE("penalties: which parameters they take", T, float, double) {
    const Net<T> net;
    const auto weights = weights_of(net);
    REQUIRE(weights.size() == 3);
    CHECK(weights[0].node() == net.first.weight.node());
    CHECK(weights[1].node() == net.second.weight.node());
    CHECK(weights[2].node() == net.head.weight.node());
    const auto scales = batch_norm_scales_of(net);
    REQUIRE(scales.size() == 1);
    CHECK(scales[0].node() == net.bn.gamma.node());
    REQUIRE(batch_norm_scales_of(net.bn).size() == 1); // a name without a dot
    CHECK(weights_of(net.bn).empty());
}

TEST_CASE_TEMPLATE("penalties: values", T, float, double) {
    const Net<T> net;
    double l1 = 0, squared = 0;
    for (const auto& w : weights_of(net)) {
        l1 += sum_over(w.value(), absolute);
        squared += sum_over(w.value(), square);
    }
    check_scalar(l1_penalty(weights_of(net)), l1);
    check_scalar(squared_l2_penalty(weights_of(net)), squared);
    check_scalar(batch_norm_scale_penalty(net), sum_over(net.bn.gamma.value(), absolute));
    for (const bool rooted : {false, true})
        check_scalar(group_lasso(net, rooted ? GroupWeight::root_of_size : GroupWeight::one),
                     filters(net.first.weight.value(), rooted) + filters(net.second.weight.value(), rooted));
}

TEST_CASE("penalties: gradients") {
    Net<double> net;
    std::vector<Tensor<double>> inputs;
    const auto parameters = net.parameters();
    for (const auto& [name, var] : parameters) inputs.push_back(var.value().clone());
    const Index every = device_under_test() == Device::cpu ? 1 : 5; // an emulated GPU is slow
    const auto check = [&](const auto& penalty) {
        // the penalty of a model reads the model's own variables, so those are what is perturbed
        for (auto& [name, var] : parameters) Var<double>(var).clear_grad();
        penalty().backward();
        for (const auto& [name, var] : parameters) {
            if (!var.grad().defined()) continue;
            Var<double> v = var;
            for (Index i = 0; i < v.size(); i += every) {
                Tensor<double> flat = v.mutable_value().reshape({-1}); // shares its memory
                const double x = flat.at(i), step = 1e-6;
                const NoGrad no_grad;
                flat.set(x + step, i);
                const double above = penalty().item();
                flat.set(x - step, i);
                const double below = penalty().item();
                flat.set(x, i);
                CHECK(v.grad().reshape({-1}).at(i) == doctest::Approx((above - below) / (2 * step)).epsilon(1e-6));
            }
        }
    };
    check([&] { return batch_norm_scale_penalty(net); });
    check([&] { return group_lasso(net); });
    check([&] { return group_lasso(net, GroupWeight::one); });
    check_gradient([](std::vector<Var<double>>& v) { return l1_penalty(v); }, inputs);
    check_gradient([](std::vector<Var<double>>& v) { return squared_l2_penalty(v); }, inputs);
}

TEST_CASE_TEMPLATE("penalties: who gets a gradient, and none at zero", T, float, double) {
    Net<T> net;
    net.first.weight.mutable_value().rows(0, 1).fill(T(0)); // filter 0
    group_lasso(net).backward();
    CHECK(same_bits(net.first.weight.grad().rows(0, 1), Tensor<T>::zeros({1, 3, 3, 2})));
    CHECK(!net.head.weight.grad().defined());
    CHECK(!net.bn.gamma.grad().defined());
    net.clear_grad();
    net.bn.gamma.set_value(to_device(Tensor<T>::from({3}, {T(-2), T(0), T(3)})));
    batch_norm_scale_penalty(net).backward();
    CHECK(net.bn.gamma.grad().to_vector() == std::vector<T>{-1, 0, 1});
    CHECK(!net.first.weight.grad().defined());
}

TEST_CASE_TEMPLATE("penalties: repeatable", T, float, double) {
    check_repeatable([] {
        std::vector<Tensor<T>> all;
        std::vector<Var<T>> v = {parameter_on_device(random_tensor<T>({64, 3, 3, 40}))};
        for (const auto& y : {l1_penalty(v), squared_l2_penalty(v)}) {
            y.backward();
            all.push_back(y.value());
            all.push_back(v[0].grad().clone());
        }
        return all;
    });
}

TEST_CASE_TEMPLATE("penalties: nothing to penalise", T, float, double) {
    CHECK(l1_penalty(std::vector<Var<T>>{}).item() == T(0));
    Net<T> net;
    CHECK(group_lasso(net.bn).item() == T(0));
    // a convolution with no filters left
    net.first.weight.set_value(to_device(Tensor<T>({0, 3, 3, 2})));
    net.bn.gamma.set_value(to_device(Tensor<T>({0})));
    auto y = group_lasso(net) + batch_norm_scale_penalty(net) + l1_penalty(weights_of(net));
    y.backward();
    CHECK(std::isfinite(y.item()));
    CHECK(net.first.weight.grad().size() == 0);
}
