#include "scores.hpp"

#include <espalier/pruning/filter_norm.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {
double combine(Combine rule, const std::vector<double>& scores) {
    Combiner combiner(rule);
    for (const double s : scores) combiner.add(s);
    return combiner.value();
}
template <class T> const pruning::Channel<T>& channel_of(const pruning::ChannelGraph<T>& graph, const char* group) {
    for (const auto& g : graph.groups())
        if (g.name == group) return g.channels[1];
    FAIL("no group ", group);
    return graph.groups()[0].channels[0];
}
} // namespace

TEST_CASE("criterion: what each rule makes of the scores 2, -3, 4") {
    CHECK(combine(Combine::mean, {2, -3, 4}) == 1);
    CHECK(combine(Combine::sum, {2, -3, 4}) == 3);
    CHECK(combine(Combine::max, {2, -3, 4}) == 4);
    CHECK(combine(Combine::product, {2, -3, 4}) == -24);
    CHECK(combine(Combine::first, {2, -3, 4}) == 2);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const Combine rule : {Combine::mean, Combine::sum, Combine::max, Combine::product}) {
        CHECK(std::isnan(combine(rule, {})));
        CHECK(std::isnan(combine(rule, {1, nan, 2})));
        CHECK(std::isnan(combine(rule, {nan, 1})));
        CHECK(combine(rule, {-7}) == -7);
    }
    CHECK(std::isnan(combine(Combine::first, {nan, 1})));
    CHECK(combine(Combine::first, {1, nan}) == 1); // nobody asks the others
}

TEST_CASE("criterion: names of rules and roles") {
    CHECK(to_text(Combine::mean) + to_text(Combine::sum) + to_text(Combine::max) + to_text(Combine::product) +
              to_text(Combine::first) ==
          "meansummaxproductfirst");
    CHECK(to_text(ChannelRoles{ChannelRole::eats, ChannelRole::makes}) == "makes+eats");
    CHECK(to_text(ChannelRoles{ChannelRole::scales, ChannelRole::shifts, ChannelRole::mean, ChannelRole::variance,
                               ChannelRole::rides}) == "scales+shifts+mean+variance+rides");
    CHECK(ChannelRoles{ChannelRole::eats, ChannelRole::makes} == ChannelRoles{ChannelRole::makes, ChannelRole::eats});
    CHECK_FALSE(ChannelRoles{ChannelRole::makes}.has(ChannelRole::eats));
}

TEST_CASE("criterion: slices of a channel behind a flatten, and of one that is concatenated with itself") {
    const auto shapes = [](const auto& channel, ChannelRoles roles) {
        std::vector<std::string> all;
        pruning::each_slice(channel, roles, [&](const auto& slice) {
            all.push_back(join_text(slice[0].name, " ", slice[0].axis, " x", slice.size()));
        });
        return all;
    };
    using Texts = std::vector<std::string>;
    Flattened<float> flattened;
    const auto graph = pruning::channel_graph(flattened, {4, 4, 3});
    const auto& channel = channel_of(graph, "a.conv");
    CHECK(shapes(channel, {ChannelRole::makes, ChannelRole::eats}) ==
          Texts{"a.conv.weight 0 x1", "hidden.weight 1 x16"});
    CHECK(shapes(channel, {ChannelRole::scales}) == Texts{"a.bn.gamma 0 x1"});
    CHECK(shapes(channel, {}).empty());

    Concats<float> concats;
    const auto twice = pruning::channel_graph(concats, {4, 4, 3});
    CHECK(shapes(channel_of(twice, "a.conv"), {ChannelRole::scales, ChannelRole::eats}) ==
          Texts{"a.bn.gamma 0 x1", "bn.gamma 0 x2", "c.conv.weight 3 x2"});

    // Elements of a slice that eats: columns 1, 7, 13, ... of hidden.weight [10,96], row by row.
    std::vector<Index> offsets;
    pruning::each_slice(channel, {ChannelRole::eats}, [&](const auto& slice) {
        pruning::each_offset(slice, [&](Index i) { offsets.push_back(i); });
    });
    REQUIRE(offsets.size() == 160);
    CHECK(offsets[0] == 1);
    CHECK(offsets[1] == 97);
    CHECK(offsets[10] == 7);
}

TEST_CASE_TEMPLATE("criterion: a stream's channel by every rule", T, float, double) {
    Residual<T> model;
    std::vector<double> sums; // of filter 5 of each layer that makes the stream
    for (const Var<T>& w :
         {model.stem.conv.weight, model.one.b.conv.weight, model.two.b.conv.weight, model.three.b.conv.weight}) {
        double sum = 0;
        for (Index i = 0; i < w.size() / 8; ++i)
            sum += std::abs(static_cast<double>(w.value().data()[5 * w.size() / 8 + i]));
        sums.push_back(sum);
    }
    const auto stream = [&](Combine rule) { return scores(model, FilterNorm{.combine = rule}, "stem.conv")[5]; };
    CHECK(stream(Combine::mean) == doctest::Approx((sums[0] + sums[1] + sums[2] + sums[3]) / 4));
    CHECK(stream(Combine::sum) == doctest::Approx(sums[0] + sums[1] + sums[2] + sums[3]));
    CHECK(stream(Combine::max) == doctest::Approx(*std::max_element(sums.begin(), sums.end())));
    CHECK(stream(Combine::product) == doctest::Approx(sums[0] * sums[1] * sums[2] * sums[3]));
    CHECK(stream(Combine::first) == doctest::Approx(sums[0]));
}

TEST_CASE("criterion: scores worked out by groups know their own graph only") {
    Chain<double> model;
    const auto graph = pruning::channel_graph(model, {4, 4, 3});
    const auto score = pruning::score_groups(graph, [](const auto& group) {
        std::vector<double> all;
        for (Index c = 0; c < group.width(); ++c) all.push_back(static_cast<double>(group.width() * 100 + c));
        return all;
    });
    CHECK(score(graph.groups()[0].channels[3]) == 803);
    CHECK(score(graph.groups()[1].channels[0]) == 600);
    pruning::Channel<double> foreign = graph.groups()[0].channels[3];
    foreign.id = 1 << 20;
    CHECK(error_of([&] { score(foreign); }) ==
          "Score: expected a channel of the graph that was prepared for, got a.conv.weight");
}

TEST_CASE("criterion: a user's own is ten lines") {
    struct LargestWeight {
        std::string name() const { return "largest weight"; }
        pruning::Score<double> prepare(const pruning::ChannelGraph<double>&) const {
            return [](const pruning::Channel<double>& channel) {
                return pruning::combined(channel, {ChannelRole::makes}, Combine::max, [](const auto& filter) {
                    double largest = 0;
                    pruning::each_value(filter, [&](double v) { largest = std::max(largest, std::abs(v)); });
                    return largest;
                });
            };
        }
    };
    Chain<double> model;
    fill_filter(model.b.weight, 1, 7.0);
    CHECK(scores(model, LargestWeight{}, "b")[1] == 7);
    CHECK(pruning::Criterion<double>(LargestWeight{}).name() == "largest weight");
}
