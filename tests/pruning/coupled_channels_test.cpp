#include "networks.hpp"

#include <espalier/pruning/coupled_channels.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/regularizers/group_sparsity.hpp>
#include <espalier/regularizers/growing_l2.hpp>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;

namespace {
const Shape image{4, 4, 3};

template <class T>
const typename CoupledChannels<T>::Axis* axis_of(const CoupledChannels<T>& c, const Var<T>& v, int axis) {
    for (const auto& a : c.axes)
        if (a.of.node() == v.node() && a.axis == axis) return &a;
    return nullptr;
}
} // namespace

TEST_CASE_TEMPLATE("coupled_channels: filters, scales and the inputs that eat them are one channel", T, float, double) {
    Chain<T> model;
    const auto channels = pruning::coupled_channels(pruning::channel_graph(model, image));
    CHECK(channels.count() == 14);
    CHECK(channels.axes.size() == 6);
    for (const auto& [variable, axis, first, extent] : {std::tuple{model.a.conv.weight, 0, 0, 8},
                                                        {model.a.bn.gamma, 0, 0, 8},
                                                        {model.b.weight, 3, 0, 8},
                                                        {model.b.weight, 0, 8, 6},
                                                        {model.b_bn.gamma, 0, 8, 6},
                                                        {model.head.weight, 1, 8, 6}}) {
        const auto* const found = axis_of(channels, variable, axis);
        REQUIRE(found);
        for (int e = 0; e < extent; ++e) CHECK(found->channel[std::size_t(e)] == first + e);
    }
    CHECK(axis_of(channels, model.b.bias, 0) == nullptr); // shifts only if asked for
    CHECK(std::vector<Index>(8, 0) == std::vector<Index>(channels.group.begin(), channels.group.begin() + 8));
    CHECK(std::vector<Index>(6, 1) == std::vector<Index>(channels.group.begin() + 8, channels.group.end()));
}

TEST_CASE("coupled_channels: a stream, flattened maps, and blocked groups") {
    Residual<double> residual;
    auto channels = pruning::coupled_channels(pruning::channel_graph(residual, image), {ChannelRole::makes});
    // Stem and three branch ends make the stream: one norm over four filters.
    double sum = 0;
    for (const Var<double>& w : {residual.stem.conv.weight, residual.one.b.conv.weight, residual.two.b.conv.weight,
                                 residual.three.b.conv.weight})
        for (const double v : w.value().rows(0, 1)) sum += v * v;
    CHECK(channel_norms(channels)[0] == doctest::Approx(std::sqrt(sum)).epsilon(1e-14));
    channels = pruning::coupled_channels(pruning::channel_graph(residual, image, Joins::indexed), {ChannelRole::makes});
    CHECK(axis_of(channels, residual.stem.conv.weight, 0) == nullptr); // the stream keeps its width

    Flattened<double> flat;
    channels = pruning::coupled_channels(pruning::channel_graph(flat, image), {ChannelRole::eats});
    for (const auto& a : channels.axes)
        if (a.of.node() == flat.hidden.weight.node())
            CHECK(std::count(a.channel.begin(), a.channel.end(), Index(0)) == 16); // a column for each of 4 x 4 pixels

    Undeclared<double> blocked;
    channels = pruning::coupled_channels(pruning::channel_graph(blocked, image));
    CHECK(channels.count() == 5); // those of `b` alone
}

TEST_CASE("coupled_channels: those of a plan shrink until the cut changes nothing") {
    Chain<double> model;
    shake(model);
    const auto plan = pruning::plan(model, image, {.keep_channels = 0.5});
    const GrowingL2<double> grow(pruning::coupled_channels(plan, model), {.increment = 0.2, .every = 1, .ceiling = 8});
    CHECK(grow.chosen().count() == plan.channels_cut());
    const auto kept =
        pruning::channel_graph(model, image).groups()[0].channels[std::size_t(plan.group("a.conv").kept[0])];
    const pruning::ChannelSlice<double> first(&kept.members[0], 1);
    const double before = pruning::slice_norm(first, SliceNorm::l2);
    for (Index step = 0; step < 200; ++step) {
        for (auto& [name, v] : model.parameters()) v.clear_grad();
        grow(step).backward();
        for (auto& [name, v] : model.parameters())
            if (v.grad().defined())
                for (Index i = 0; i < v.size(); ++i) v.mutable_value().mutable_data()[i] -= 0.05 * v.grad().data()[i];
    }
    for (const double norm : channel_norms(grow.chosen())) CHECK(norm < 1e-8); // (1 - 0.05 * 8)^160 of it
    CHECK(pruning::slice_norm(first, SliceNorm::l2) == before);                // the others are left alone
    pruning::apply(plan, model);
    CHECK_THROWS_WITH_AS(grow(0), doctest::Contains("read the channels again after surgery"), ShapeError);
}

TEST_CASE("coupled_channels: a plan of another model") {
    Chain<float> model;
    Residual<float> other;
    const auto plan = pruning::plan(other, image, {.keep_channels = 0.5});
    CHECK_THROWS_WITH_AS(pruning::coupled_channels(plan, model), doctest::Contains("expected groups of this network"),
                         StateError);
}

TEST_CASE("coupled_channels: mixed joins") {
    Residual<float> model;
    CHECK_THROWS_WITH_AS(
        pruning::coupled_channels(pruning::channel_graph(model, image, Joins::mixed)),
        "coupled_channels: expected joins that are coupled or indexed, got mixed, where an entry is in "
        "two channels",
        ShapeError);
}
