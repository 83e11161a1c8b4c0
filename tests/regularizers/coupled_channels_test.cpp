#include <espalier/regularizers/coupled_channels.hpp>

#include "support/check.hpp"

#include "coupled_example.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

/// The definition: for each channel the norm over all elements of all its slices, one by one.
template <class T> std::vector<double> reference_norms(const CoupledChannels<T>& channels, Norm kind) {
    std::vector<double> norms(static_cast<std::size_t>(channels.count()), 0.0);
    for (std::size_t c = 0; c < norms.size(); ++c) {
        for (const auto& a : channels.axes) {
            const Tensor<T> x = a.of.value().to(Device::cpu);
            const Index inner = x.shape().product(a.axis + 1, x.rank()), extent = x.size(a.axis);
            for (Index i = 0; i < x.size(); ++i) {
                if (a.channel[static_cast<std::size_t>(i / inner % extent)] != static_cast<Index>(c)) continue;
                const double v = static_cast<double>(x.data()[i]);
                norms[c] += kind == Norm::l1 ? std::abs(v) : v * v;
            }
        }
        if (kind == Norm::l2) norms[c] = std::sqrt(norms[c]);
    }
    return norms;
}

} // namespace

TEST_CASE_TEMPLATE("channel_penalty: values over all members of a channel", T, float, double) {
    const Coupled<T> net;
    for (const Norm kind : {Norm::l1, Norm::l2, Norm::squared_l2}) {
        const auto channels = net.channels();
        const std::vector<double> expected = reference_norms(channels, kind), got = channel_norms(channels, kind);
        REQUIRE(got.size() == 5);
        double y = 0;
        for (std::size_t c = 0; c < got.size(); ++c) {
            CHECK(got[c] == doctest::Approx(expected[c]).epsilon(1e-14)); // both in double, in another order
            y += net.weights[c] * expected[c];
        }
        check_close(channel_penalty(channels, net.weights, kind).value(), Tensor<double>::scalar(y));
    }
}

TEST_CASE("channel_penalty: gradients, also of a weight with two axes of channels and of entries without one") {
    const Coupled<double> net;
    for (const Norm kind : {Norm::l1, Norm::l2, Norm::squared_l2})
        check_gradient(
            [&](std::vector<Var<double>>& v) {
                return channel_penalty(Coupled<double>::channels(v[0], v[1], v[2]), net.weights, kind);
            },
            {net.filters.value(), net.next.value(), net.gamma.value()});
}

TEST_CASE_TEMPLATE("channel_penalty: no gradient at zero, and none to entries without a channel", T, float, double) {
    Coupled<T> net;
    const auto clear = [](Var<T>& v, const auto& at) {
        Tensor<T> x = v.value().to(Device::cpu).clone();
        for (Index i = 0; i < x.size(); ++i)
            if (at(i)) x.mutable_data()[i] = T(0);
        v.set_value(to_device(x));
    };
    clear(net.filters, [](Index i) { return i < 36; }); // both filters of channel 0 and both of its entries of gamma
    net.gamma.set_value(to_device(Tensor<T>::from({4}, {T(0), T(0), T(2), T(3)})));
    clear(net.next, [](Index i) { return i % 4 < 2; }); // its inputs 0 and 1
    CHECK(channel_norms(net.channels())[0] == 0);
    for (const Norm kind : {Norm::l1, Norm::l2, Norm::squared_l2}) {
        for (Var<T> v : std::vector{net.filters, net.next, net.gamma}) v.clear_grad();
        channel_penalty(net.channels(), net.weights, kind).backward();
        CHECK(same_bits(net.filters.grad().rows(0, 2), Tensor<T>::zeros({2, 3, 3, 2})));
        CHECK(net.gamma.grad().at(0) == T(0));
        CHECK(net.gamma.grad().at(2) != T(0));
        CHECK(net.gamma.grad().at(3) == T(0)); // in no channel
    }
}

TEST_CASE_TEMPLATE("channel_penalty: repeatable", T, float, double) {
    check_repeatable([] {
        Coupled<T> net;
        std::vector<Tensor<T>> all;
        for (const Norm kind : {Norm::l1, Norm::l2, Norm::squared_l2}) {
            const Var<T> y = channel_penalty(net.channels(), net.weights, kind);
            y.backward();
            for (const Tensor<T>& t : {y.value(), net.filters.grad(), net.next.grad(), net.gamma.grad()})
                all.push_back(t.clone());
        }
        return all;
    });
}

TEST_CASE("channel_penalty: channels that are changed, of other variables, and a middle axis") {
    const Coupled<double> net, other;
    auto channels = net.channels();
    const double before = channel_penalty(channels, net.weights, Norm::l1).item();
    std::swap(channels.axes[0].channel[0], channels.axes[0].channel[2]);
    CHECK(channel_norms(channels, Norm::l1)[0] == doctest::Approx(reference_norms(channels, Norm::l1)[0]));
    channels = net.channels();
    for (auto& axis : channels.axes) axis.of.set_value(axis.of.value().clone()); // same variables, other memory
    CHECK(channel_penalty(channels, net.weights, Norm::l1).item() == before);
    channels = {.axes = {{other.next, 2, {1, 0}}, {other.gamma, 0, {0, 0, 0, 1}}}, .group = {0, 0}};
    for (const Norm kind : {Norm::l1, Norm::l2, Norm::squared_l2})
        for (std::size_t c = 0; c < 2; ++c)
            CHECK(channel_norms(channels, kind)[c] == doctest::Approx(reference_norms(channels, kind)[c]));
    check_gradient(
        [](std::vector<Var<double>>& v) {
            return channel_penalty<double>({.axes = {{v[0], 2, {1, 0}}}, .group = {0, 0}}, {2, 3}, Norm::l2);
        },
        {other.next.value()});
}

TEST_CASE_TEMPLATE("channel_penalty: nothing to penalise", T, float, double) {
    CHECK(channel_penalty(CoupledChannels<T>(), {}, Norm::l2).item() == T(0));
    CoupledChannels<T> none{.axes = {{parameter_on_device(Tensor<T>({0, 3, 3, 2})), 0, {}}}, .group = {0}};
    const Var<T> y = channel_penalty(none, {1.0}, Norm::l2); // a channel whose filters are all gone
    y.backward();
    CHECK(y.item() == T(0));
    CHECK(none.axes[0].of.grad().size() == 0);
}

TEST_CASE("channel_penalty: what does not fit") {
    Coupled<float> net;
    CHECK_THROWS_WITH_AS(channel_penalty(net.channels(), {1, 2}, Norm::l2),
                         doctest::Contains("channel_penalty: expected 5 weights, one a channel, got 2"), ShapeError);
    auto channels = net.channels();
    channels.axes[0].channel[0] = 5;
    CHECK_THROWS_WITH_AS(channel_norms(channels), doctest::Contains("channel_norms: expected channels below 5, got 5"),
                         ShapeError);
    channels = net.channels();
    net.gamma.set_value(to_device(Tensor<float>({3})));
    CHECK_THROWS_WITH_AS(
        channel_penalty(channels, net.weights, Norm::l2),
        doctest::Contains("expected axis 0 with 4 entries, got [3]; read the channels again after surgery"),
        ShapeError);
}
