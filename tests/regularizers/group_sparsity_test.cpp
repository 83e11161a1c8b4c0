#include <espalier/regularizers/group_sparsity.hpp>

#include "coupled_example.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("shrinkage: by importance within a group", T, float, double) {
    const Var<T> v = parameter_on_device(Tensor<T>::from({7}, {1, 2, 3, 0, 5, 4, 4}));
    const CoupledChannels<T> channels{.axes = {{v, 0, {0, 1, 2, 3, 4, 5, 6}}}, .group = {0, 0, 0, 1, 1, 2, 2}};
    const auto s = shrinkage(channels, 4);
    // Importances 1, 4, 9 | 0, 25 | 16, 16: exponents 4 (9 - I) / 8, 4 (25 - I) / 25; none where all are alike.
    const std::vector<double> expected{16, std::exp2(2.5), 1, 16, 1, 1, 1};
    REQUIRE(s.size() == expected.size());
    for (std::size_t c = 0; c < s.size(); ++c) CHECK(s[c] == doctest::Approx(expected[c]).epsilon(1e-14)); // exp2
    for (const double one : shrinkage(channels, 0)) CHECK(one == 1);
}

TEST_CASE_TEMPLATE("group_sparsity: values", T, float, double) {
    const Var<T> v = parameter_on_device(Tensor<T>::from({3}, {1, -2, 3}));
    const CoupledChannels<T> channels{.axes = {{v, 0, {0, 1, 2}}}, .group = {0, 0, 0}};
    const double middle = std::exp2(2.5);
    check_close(group_sparsity(channels).value(), Tensor<double>::scalar(16 + 4 * middle + 9));
    check_close(group_sparsity(channels, {.norm = Norm::l2}).value(), Tensor<double>::scalar(16 + 2 * middle + 3));
    check_close(group_sparsity(channels, {.alpha = 0}).value(), Tensor<double>::scalar(14));
    group_sparsity(channels).backward(); // strengths are constants: 2 * strength * v
    check_close(v.grad(), Tensor<double>::from({3}, {32, -4 * middle, 6}));
}

TEST_CASE("group_sparsity: gradients with the strengths held") {
    const Coupled<double> net;
    for (const Norm norm : {Norm::l2, Norm::squared_l2}) {
        const auto strength = shrinkage(net.channels(), 3);
        group_sparsity(net.channels(), {.alpha = 3, .norm = norm}).backward();
        const Coupled<double> twin;
        channel_penalty(twin.channels(), strength, norm).backward(); // whose gradients are checked by differences
        CHECK(same_bits(net.filters.grad(), twin.filters.grad()));
        CHECK(same_bits(net.next.grad(), twin.next.grad()));
        for (Var<double> v : {net.filters, net.next, net.gamma}) v.clear_grad();
    }
}

TEST_CASE_TEMPLATE("group_sparsity: repeatable", T, float, double) {
    check_repeatable([] {
        const Coupled<T> net;
        const Var<T> y = group_sparsity(net.channels());
        y.backward();
        return std::vector<Tensor<T>>{y.value(), net.filters.grad(), net.next.grad(), net.gamma.grad()};
    });
}

TEST_CASE("group_sparsity: weak channels shrink faster than strong ones, and l2 reaches zero") {
    for (const Norm norm : {Norm::squared_l2, Norm::l2}) {
        Var<double> v = parameter_on_device(Tensor<double>::from({3}, {0.5, 1, 2}));
        const CoupledChannels<double> channels{.axes = {{v, 0, {0, 1, 2}}}, .group = {0, 0, 0}};
        for (int step = 0; step < 20; ++step) {
            v.clear_grad();
            group_sparsity(channels, {.norm = norm}).backward();
            for (Index i = 0; i < 3; ++i) v.mutable_value().set(v.value().at(i) - 0.005 * v.grad().at(i), i);
        }
        const double weak = v.value().at(0) / 0.5, strong = v.value().at(2) / 2;
        CHECK(std::abs(weak) < 0.3 * strong);
        if (norm == Norm::l2) CHECK(std::abs(v.value().at(0)) <= 0.08); // within one step of 0: 0.005 * 16
    }
}

TEST_CASE("group_sparsity: what does not fit, and nothing") {
    CHECK(group_sparsity(CoupledChannels<float>()).item() == 0);
    CHECK_THROWS_WITH_AS(group_sparsity(CoupledChannels<float>(), {.alpha = -1}),
                         "group_sparsity: expected alpha of at least 0, got -1", ShapeError);
}
