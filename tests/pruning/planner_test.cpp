#include "networks.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/pruning/planner.hpp>

#include <numeric>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;
using pruning::Normalization;
using pruning::Ranking;

namespace {
const Shape image{4, 4, 3};

/// Gives filter k of a weight [K,..] elements of value `norms[k]`.
void set_filters(Var<float> weight, const std::vector<float>& norms) {
    const Index inner = weight.size() / weight.size(0);
    for (Index k = 0; k < weight.size(0); ++k)
        std::fill_n(weight.mutable_value().mutable_data() + k * inner, inner, norms[static_cast<std::size_t>(k)]);
}
} // namespace

TEST_CASE("plan: the lowest scores go, globally or the same share of each group") {
    Chain<float> model;
    set_filters(model.a.conv.weight, {8, 1, 7, 2, 6, 3, 5, 4});
    set_filters(model.b.weight, {1, 1, 1, 1, 1, 1.1f});
    auto plan = pruning::plan(model, image, {.keep_channels = 10.0 / 14});
    CHECK(plan.group("a.conv").kept == std::vector<Index>{0, 2, 4, 6}); // scores are relative to the group's mean, 4.5
    CHECK(plan.group("b").cut() == 0);
    plan = pruning::plan(model, image, {.keep_channels = 0.5, .ranking = Ranking::local});
    CHECK(plan.group("a.conv").kept == std::vector<Index>{0, 2, 4, 6});
    CHECK(plan.group("b").kept == std::vector<Index>{3, 4, 5}); // ties: the first goes first
}

TEST_CASE("plan: targets are reached with the fewest cuts and what is predicted is within them") {
    models::ResNet<float> model(20, {.channels = 1});
    const Shape of{28, 28, 1};
    for (const Joins joins : {Joins::coupled, Joins::indexed})
        for (const double keep : {0.9, 0.5, 0.3}) {
            const auto macs = pruning::plan(model, of, {.keep_macs = keep, .joins = joins});
            const double share = static_cast<double>(macs.after.macs) / static_cast<double>(macs.before.macs);
            CHECK(share <= keep);
            CHECK(share > keep - 0.02); // one channel of a stream is less than 2 % of this network
            const auto parameters = pruning::plan(model, of, {.keep_parameters = keep, .joins = joins});
            CHECK(static_cast<double>(parameters.after.parameters) <=
                  keep * static_cast<double>(parameters.before.parameters));
        }
}

TEST_CASE("plan: minimum width, maximum ratio and rounding are solved together with the target") {
    models::ResNet<float> model(20, {.channels = 1});
    for (const Index round_to : {Index(1), Index(4), Index(8)})
        for (const Index least : {Index(1), Index(6)}) {
            const auto plan = pruning::plan(model, {28, 28, 1},
                                            {.criterion = RandomScore{},
                                             .keep_macs = 0.6,
                                             .minimum_width = least,
                                             .maximum_ratio = 0.75,
                                             .round_to = round_to});
            CHECK(static_cast<double>(plan.after.macs) <= 0.6 * static_cast<double>(plan.before.macs));
            for (const auto& g : plan.groups) {
                const Index kept = static_cast<Index>(g.kept.size());
                CHECK(kept >= std::min(least, g.width));
                CHECK(4 * kept >= g.width);
                CHECK((kept % round_to == 0 || kept == g.width));
            }
        }
}

TEST_CASE("surgery 8: rounding above the width keeps the whole group and never reaches 0") {
    Chain<float> model;
    CHECK_THROWS_WITH_AS(pruning::plan(model, image, {.keep_channels = 0.5, .round_to = 16}),
                         doctest::Contains("rounded to 16"), StateError);
    const auto plan = pruning::plan(model, image, {.keep_channels = 0.9, .round_to = 6});
    CHECK(plan.group("a.conv").kept.size() == 6);
    CHECK(plan.group("b").kept.size() == 6);
}

TEST_CASE("plan: a threshold cuts what is below it") {
    Chain<float> model;
    set_filters(model.a.conv.weight, {1, 0.001f, 0.5f, 0, 1, 1, 0.009f, 1});
    set_filters(model.b.weight, {1, 1, 0, 1, 1, 1});
    const auto plan = pruning::plan(model, image, {.threshold = 0.01, .normalization = Normalization::max});
    CHECK(plan.group("a.conv").kept == std::vector<Index>{0, 2, 4, 5, 7});
    CHECK(plan.group("b").kept == std::vector<Index>{0, 1, 3, 4, 5});
    CHECK_THROWS_WITH_AS(pruning::plan(model, image, {.threshold = 0.0}), doctest::Contains("got none"), StateError);
}

TEST_CASE("plan: a branch whose last filters all go takes its inner convolution along") {
    Residual<float> model;
    set_filters(model.two.b.conv.weight, {0, 0, 0, 0, 0, 0, 0, 0});
    const auto plan =
        pruning::plan(model, image, {.threshold = 1e-6, .normalization = Normalization::max, .joins = Joins::indexed});
    CHECK(plan.group("two.b.conv").kept.empty());
    CHECK(plan.group("two.a.conv").kept.empty());
    CHECK(plan.group("two.a.conv").note == "its branch is gone");
    CHECK(plan.group("one.a.conv").cut() == 0);
}

TEST_CASE("plan: options out of range and targets out of reach are one clear error") {
    Chain<float> model;
    const auto fails = [&](const pruning::PlanOptions<float>& options, const char* text) {
        CHECK_THROWS_WITH_AS(pruning::plan(model, image, options), doctest::Contains(text), Error);
    };
    fails({}, "exactly one of");
    fails({.keep_channels = 0.5, .keep_macs = 0.5}, "exactly one of");
    fails({.keep_macs = 1.5}, "share to keep in [0,1], got 1.5");
    fails({.keep_macs = -0.1}, "got -0.1");
    fails({.keep_macs = 0.5, .minimum_width = 0}, "minimum_width");
    fails({.keep_macs = 0.5, .maximum_ratio = 2}, "maximum_ratio");
    fails({.keep_macs = 0.5, .round_to = 0}, "round_to");
    fails({.keep_macs = 0.01}, "head: output");
    fails({.keep_macs = 0.1, .minimum_width = 6}, "minimum width");
}

TEST_CASE("plan: it prints as a table with a reason for every blocked group") {
    Chain<float> model;
    const std::string text = to_text(pruning::plan(model, image, {.keep_channels = 0.5}));
    CHECK(text.find("a.conv") != std::string::npos);
    CHECK(text.find("output") != std::string::npos);
    CHECK(text.find("of the MACs") != std::string::npos);
}
