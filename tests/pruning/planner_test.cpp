#include "networks.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>

#include <memory>
#include <numeric>
#include <set>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;
using pruning::Normalization;
using pruning::Ranking;

namespace {
const Shape image{4, 4, 3};

/// A stem, then residual blocks and plain convolutions in random order, all of random widths.
struct Drawn : Module<float> {
    explicit Drawn(std::uint64_t seed) : random(seed, "network") {
        Index width = 3;
        for (int i = 0, count = 2 + draw(3); i < count; ++i) {
            const Index next = 2 + draw(15);
            plain.push_back(child("plain" + to_text(i), ConvBn<float>(width, next)));
            width = next;
            blocks.emplace_back();
            for (int b = 0, deep = draw(3); b < deep; ++b)
                blocks.back().push_back(
                    child(join_text("block", i, "_", b), Block<float>(width, static_cast<Index>(2 + draw(9)))));
        }
        head = std::make_unique<Linear<float>>(child("head", Linear<float>({.in = width, .out = 4})));
        shake<float>(*this);
    }
    Var<float> forward(const Var<float>& x) {
        Var<float> y = x;
        for (std::size_t i = 0; i < plain.size(); ++i) {
            y = plain[i].forward(y);
            for (const auto& block : blocks[i]) y = block.forward(y);
        }
        return head->forward(global_avg_pool(y));
    }
    int draw(int below) { return static_cast<int>(random.uniform(drawn++) * below); }

    Random random;
    std::uint64_t drawn = 0;
    std::vector<ConvBn<float>> plain;
    std::vector<std::vector<Block<float>>> blocks;
    std::unique_ptr<Linear<float>> head;
};

double share(Index part, Index whole) { return static_cast<double>(part) / static_cast<double>(whole); }

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
    CHECK(plan.group("b").note.empty());
    plan = pruning::plan(model, image, {.criterion = BatchNormScale{}, .keep_channels = 0.5}); // of a fresh network
    CHECK(plan.group("a.conv").note == "equal scores: the first go");
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

TEST_CASE("plan: on drawn networks limits hold, the target is met, and no smaller cut of the ranking meets it") {
    Index met = 0, refused = 0;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        Drawn model(seed);
        const pruning::PlanOptions<float> options{.criterion = RandomScore{seed},
                                                  .keep_macs = 0.15 + 0.1 * model.draw(8),
                                                  .ranking = model.draw(2) ? Ranking::global : Ranking::local,
                                                  .joins = model.draw(3) == 0 ? Joins::coupled
                                                           : model.draw(2)    ? Joins::indexed
                                                                              : Joins::mixed,
                                                  .minimum_width = 1 + model.draw(4),
                                                  .maximum_ratio = 0.4 + 0.2 * model.draw(4),
                                                  .round_to = 1 + model.draw(4)};
        const pruning::ChannelGraph<float> graph(pruning::trace(model, image), options.joins);
        const pruning::detail::Planner<float> planner(graph, model, options);
        Index fewest = 0; // of all counts, one by one
        while (fewest <= planner.candidates() &&
               share(planner.cut(fewest, image).after.macs, planner.original().cost.macs) > *options.keep_macs)
            ++fewest;
        if (fewest > planner.candidates()) {
            ++refused;
            CHECK_THROWS_WITH_AS(pruning::plan(model, image, options), doctest::Contains("at best"), StateError);
            continue;
        }
        ++met;
        const auto plan = pruning::plan(model, image, options), smallest = planner.cut(fewest, image);
        CHECK(share(plan.after.macs, plan.before.macs) <= *options.keep_macs);
        for (std::size_t g = 0; g < plan.groups.size(); ++g) {
            CHECK(plan.groups[g].kept == smallest.groups[g].kept);
            const Index width = plan.groups[g].width, kept = width - plan.groups[g].cut();
            if (kept == 0) { // a whole branch may go, and what fed it alone
                CHECK(options.joins != Joins::coupled);
                continue;
            }
            if (kept == width) continue;
            CHECK(kept >= options.minimum_width);
            CHECK(static_cast<double>(width - kept) <= options.maximum_ratio * static_cast<double>(width) + 1e-9);
            CHECK(kept % options.round_to == 0);
        }
        CHECK(pruning::apply(plan, model).certificate.holds());
        CHECK(cost(model, image) == plan.after);
    }
    CHECK(met > 20); // or the draws test nothing
    CHECK(refused > 2);
}

TEST_CASE("plan: at one threshold, mixed joins save at least what coupled and what indexed ones save") {
    for (std::uint64_t seed = 0; seed < 12; ++seed)
        for (const double threshold : {0.5, 0.9, 1.2}) {
            Drawn model(seed);
            const auto after = [&](Joins joins) {
                return pruning::plan(model, image, {.threshold = threshold, .joins = joins}).after.macs;
            };
            Index coupled = 0, indexed = 0, mixed = 0;
            try {
                coupled = after(Joins::coupled), indexed = after(Joins::indexed);
            } catch (const StateError&) { // no score below
                continue;
            }
            mixed = after(Joins::mixed);
            CHECK(mixed <= coupled);
            CHECK(mixed <= indexed);
        }
}

TEST_CASE("plan: mixed joins know the groups of both, and score streams as coupled ones do") {
    models::ResNet<float> model(8, {.channels = 3});
    shake<float>(model);
    const Shape of{8, 8, 3};
    const auto plan_with = [&](Joins joins) {
        return pruning::plan(model, of, {.criterion = FoldedNorm{}, .keep_channels = 0.6, .joins = joins});
    };
    const auto coupled = plan_with(Joins::coupled), indexed = plan_with(Joins::indexed),
               mixed = plan_with(Joins::mixed);
    const auto scores = [](const pruning::Plan& plan) {
        std::multiset<std::vector<double>> all;
        for (const auto& g : plan.groups)
            if (!g.blocked) all.insert(g.scores);
        return all;
    };
    const auto both = scores(mixed);
    for (const auto& plan : {coupled, indexed})
        for (const auto& s : scores(plan)) CHECK(both.count(s) > 0);
    CHECK(pruning::apply(mixed, model).certificate.holds());
}

TEST_CASE("plan: shares and ratios are of the original network, however many cuts came before") {
    Residual<float> model;
    shake<float>(model);
    const auto original = pruning::original(model, image);
    const auto cut = [&](const pruning::PlanOptions<float>& options) {
        const auto plan = pruning::plan(model, image, options);
        pruning::apply(plan, model);
        return plan;
    };
    cut({.keep_macs = 0.8, .original = original});
    const auto half = cut({.keep_macs = 0.5, .original = original});
    CHECK(share(half.after.macs, original.cost.macs) <= 0.5);
    CHECK(share(half.after.macs, original.cost.macs) > 0.3); // and not 0.8 * 0.5
    CHECK_THROWS_WITH_AS(cut({.keep_macs = 0.7, .original = original}), doctest::Contains("nothing to cut"),
                         StateError);
    CHECK_THROWS_WITH_AS(cut({.keep_macs = 0.1, .maximum_ratio = 0.5, .original = original}),
                         doctest::Contains("maximum ratio"), StateError);
    for (const auto& [name, width] : original.widths) CHECK(half.group(name).kept.size() > 0);
    CHECK_THROWS_WITH_AS(cut({.keep_macs = 0.4, .joins = Joins::indexed, .original = original}),
                         doctest::Contains("joins indexed of the original, got coupled"), StateError);
    Chain<float> other;
    CHECK_THROWS_WITH_AS(pruning::plan(other, image, {.keep_macs = 0.4, .original = original}),
                         doctest::Contains("expected a group of the original network, got 'a.conv'"), StateError);
}

TEST_CASE("plan: scopes rank within themselves, by a ratio of their own or up to the common target") {
    Chain<float> model;
    set_filters(model.a.conv.weight, {8, 1, 7, 2, 6, 3, 5, 4});
    set_filters(model.b.weight, {1, 1, 1, 1, 1, 1.1f});
    SUBCASE("a ratio needs no target and leaves the others whole") {
        const auto plan = pruning::plan(model, image, {.scopes = {{.groups = "a.*", .ratio = 0.25}}});
        CHECK(plan.group("a.conv").kept == std::vector<Index>{0, 2, 4, 5, 6, 7});
        CHECK(plan.group("b").cut() == 0);
    }
    SUBCASE("a ratio beside a target") {
        const auto plan =
            pruning::plan(model, image, {.keep_channels = 0.5, .scopes = {{.groups = "b", .ratio = 0.5}}});
        CHECK(plan.group("b").kept == std::vector<Index>{3, 4, 5});
        CHECK(plan.group("a.conv").kept == std::vector<Index>{0, 2, 4, 6});
    }
    SUBCASE("without a ratio each scope loses the same share") {
        const auto plan =
            pruning::plan(model, image, {.keep_channels = 0.5, .scopes = {{.groups = "a.*"}, {.groups = "b"}}});
        CHECK(plan.group("a.conv").cut() == 4);
        CHECK(plan.group("b").cut() == 3);
    }
    SUBCASE("limits of its own, and a function instead of a glob") {
        const auto plan = pruning::plan(
            model, image,
            {.keep_channels = 0.5,
             .scopes = {{.groups = "short names", .minimum_width = 5, .holds = [](const std::string& name) {
                             return name.size() < 2;
                         }}}});
        CHECK(plan.group("b").kept.size() == 5);
        CHECK(plan.group("a.conv").kept.size() == 2);
    }
    SUBCASE("what can't be is one clear error") {
        const auto fails = [&](std::vector<pruning::Scope> scopes, const char* text) {
            CHECK_THROWS_WITH_AS(pruning::plan(model, image, {.scopes = std::move(scopes)}), doctest::Contains(text),
                                 Error);
        };
        fails({{.groups = "c*", .ratio = 0.5}}, "expected groups in scope 'c*', got none of a.conv, b, head");
        fails({{.groups = "a*", .ratio = 0.5}, {.groups = "*conv"}},
              "'a.conv' in one scope, got it in 'a*' and '*conv'");
        fails({{.groups = "a*", .ratio = 1.2}}, "ratio in [0,1] for scope 'a*', got 1.2");
        fails({{.groups = "a*", .ratio = std::nan("")}}, "got nan");
        fails({{.groups = "a*", .ratio = 0.9, .maximum_ratio = 0.5}},
              "expected to cut 0.9 of the channels of scope 'a*', got 0.5 at best (a.conv: maximum ratio)");
        fails({{.groups = "a*"}}, "exactly one of");
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
    fails({.keep_macs = std::nan("")}, "got nan");
    fails({.keep_latency = 0.5}, "expected latencies with keep_latency");
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
