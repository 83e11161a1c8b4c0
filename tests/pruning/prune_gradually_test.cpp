#include "networks.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/pruning/prune_gradually.hpp>
#include <espalier/train/sgd.hpp>

using namespace espalier;
using namespace espalier::test;
using pruning::Decline;
using pruning::Gradual;
using pruning::Joins;
using pruning::PruningStep;
using pruning::Ranking;
using pruning::share_kept;

namespace {
const Shape image{8, 8, 3};
constexpr auto declines = {Decline::linear, Decline::cubic, Decline::geometric};

template <class M> auto groups_of(M& model, Joins joins = Joins::coupled) {
    return pruning::channel_graph(model, image, joins).groups();
}
} // namespace

TEST_CASE("prune_gradually: shares are of the original, whatever the target, the decline and the joins") {
    using Target = std::optional<double> pruning::PlanOptions<float>::*;
    using Options = pruning::PlanOptions<float>;
    for (const Target target : {&Options::keep_macs, &Options::keep_parameters, &Options::keep_channels})
        for (const Decline decline : declines)
            for (const Joins joins : {Joins::coupled, Joins::indexed, Joins::mixed}) {
                models::ResNet<float> model(8, {.classes = 4, .seed = 3});
                const Cost whole = cost(model, image);
                Index channels = 0; // that may be cut, before
                for (const auto& g : groups_of(model, joins))
                    if (g.blocked.empty()) channels += g.width();
                const auto share = [&] {
                    const Cost now = cost(model, image);
                    Index left = 0;
                    for (const auto& g : groups_of(model, joins))
                        if (g.blocked.empty()) left += g.width();
                    const auto of = [](Index part, Index all) { return double(part) / double(all); };
                    return target == &Options::keep_macs         ? of(now.macs, whole.macs)
                           : target == &Options::keep_parameters ? of(now.parameters, whole.parameters)
                                                                 : of(left, channels);
                };
                Options options{.criterion = RandomScore{7}, .joins = joins};
                options.*target = 0.4;
                double previous = 1;
                const auto steps = pruning::prune_gradually(
                    model, image, options, {.steps = 4, .decline = decline}, [&](const PruningStep<float>& s) {
                        CHECK(s.keep == share_kept(0.4, s.step, {4, decline}));
                        CHECK(share() <= s.keep);
                        CHECK(share() > s.keep - 0.05); // one channel of a stream is less than 5 % of this network
                        CHECK(share() <= previous);
                        CHECK(s.original == whole);
                        CHECK(s.current == cost(model, image));
                        if (!s.plan.groups.empty()) CHECK(s.surgery.certificate.holds());
                        previous = share();
                    });
                REQUIRE(steps.size() == 4);
                CHECK(steps.back().step == 4);
                CHECK(steps.back().steps == 4);
                CHECK(share() <= 0.4);
                CHECK(share() > 0.35); // as above: nothing compounds
            }
}

TEST_CASE("prune_gradually: by fixed scores, many steps end with the channels of one") {
    models::ResNet<float> model(8, {.classes = 4, .seed = 3}), once(8, {.classes = 4, .seed = 3});
    // Scores without normalization do not change while nothing is trained: filters keep their own norms. A filter loses
    // inputs and so norm, therefore the score is that of gamma, which is one number.
    for (auto* net : {&model, &once})
        for (auto& [name, var] : net->parameters())
            if (name.ends_with("gamma")) var.set_value(uniform<float>(var.shape(), Random(3, name), 0.1, 1));
    const pruning::PlanOptions<float> options{
        .criterion = BatchNormScale{}, .keep_channels = 0.5, .normalization = pruning::Normalization::none};
    pruning::prune_gradually(model, image, options, {.steps = 5}, [](const auto&) {});
    pruning::prune_gradually(once, image, options, {}, [](const auto&) {});
    for (const auto& [name, var] : once.parameters()) CHECK(same_bits(var.value(), model.find(name).value()));
}

TEST_CASE("prune_gradually: the maximum ratio is one of the original widths") {
    models::ResNet<float> model(8, {.classes = 4, .seed = 3});
    std::map<std::string, Index> widths;
    for (const auto& g : groups_of(model)) widths[g.name] = g.width();
    pruning::prune_gradually(model, image,
                             {.criterion = RandomScore{}, .keep_macs = 0.35, .maximum_ratio = 0.5, .round_to = 2},
                             {.steps = 5, .decline = Decline::linear}, [](const auto&) {});
    for (const auto& g : groups_of(model)) {
        CHECK(2 * g.width() >= widths.at(g.name));
        if (g.blocked.empty()) CHECK(g.width() % 2 == 0);
    }
}

TEST_CASE("prune_gradually: fine-tuning between, with an optimizer that follows") {
    Chain<float> model;
    shake(model);
    Sgd<float> optimizer(model, {.learning_rate = 0.01, .momentum = 0.9});
    const auto step = [&] {
        model.clear_grad();
        const auto y = model.forward(Var<float>(random_tensor<float>({2, 8, 8, 3})));
        y.backward(random_tensor<float>(y.shape(), "dy"));
        optimizer.step(); // throws if its state did not follow
    };
    step();
    Index calls = 0;
    pruning::prune_gradually(
        model, image, {.keep_channels = 0.5}, {.steps = 3},
        [&](const auto&) {
            ++calls;
            step();
        },
        &optimizer);
    CHECK(calls == 3);
    CHECK(optimizer.steps() == 4);
    CHECK(model.a.conv.weight.size(0) + model.b.weight.size(0) == 7);
}

TEST_CASE("prune_gradually: a share that was reached before cuts nothing, and is still trained") {
    Chain<float> model;
    Index cuts = 0, calls = 0;
    pruning::prune_gradually(model, image, {.keep_channels = 12.0 / 14, .round_to = 6},
                             {.steps = 6, .decline = Decline::linear}, [&](const auto& s) {
                                 ++calls;
                                 cuts += !s.plan.groups.empty();
                                 CHECK(s.plan.groups.empty() == s.surgery.cuts.empty());
                             });
    CHECK(calls == 6);
    CHECK(cuts == 1); // widths of 8 and 6 can only become 6 and 6
}

TEST_CASE("prune_gradually: bad input is an error before the first cut") {
    Chain<float> model;
    const Cost whole = cost(model, image);
    const auto never = [](const auto&) { FAIL("called"); };
    CHECK_THROWS_WITH_AS(pruning::prune_gradually(model, image, {.threshold = 0.1}, {}, never),
                         "prune_gradually: expected a share to keep as target, got none", ShapeError);
    CHECK_THROWS_WITH_AS(pruning::prune_gradually(model, image, {.keep_macs = 0.5}, {.steps = 0}, never),
                         "share_kept: expected at least 1 step, got 0", ShapeError);
    CHECK_THROWS_WITH_AS(pruning::prune_gradually(model, image, {.keep_macs = 1.5}, {.steps = 3}, never),
                         "share_kept: expected a target in [0,1], got 1.5", ShapeError);
    CHECK_THROWS_WITH_AS( // each of the first steps could be met
        pruning::prune_gradually(model, image, {.keep_macs = 0.1, .minimum_width = 4}, {.steps = 5}, never),
        doctest::Contains("plan: expected to keep 0.1 of the MACs"), StateError);
    CHECK(cost(model, image) == whole);
}

TEST_CASE("prune_gradually: a later call goes on from the first call's original") {
    Chain<float> model;
    const auto original = pruning::original(model, image);
    pruning::prune_gradually(model, image, {.keep_channels = 0.8}, {.steps = 2}, [](const auto&) {});
    const auto steps =
        pruning::prune_gradually(model, image, {.keep_channels = 0.5, .original = original}, {}, [](const auto&) {});
    CHECK(model.a.conv.weight.size(0) + model.b.weight.size(0) == 7);
    CHECK(steps[0].original == original.cost);
}

TEST_CASE("prune_gradually: streams of indexed joins keep their width where an earlier cut left no branch") {
    Residual<float> model;
    auto plan = pruning::plan(model, image, {.keep_channels = 0.9, .joins = Joins::indexed});
    for (auto& g : plan.groups) { // channel 0 goes from the end of every branch, and nothing else
        const Index first = g.name.ends_with("b.conv") ? 1 : 0;
        for (g.kept.clear(); first + Index(g.kept.size()) < g.width;) g.kept.push_back(first + Index(g.kept.size()));
    }
    pruning::apply(plan, model);
    for (const auto& g : groups_of(model, Joins::indexed))
        if (g.name.starts_with("stem")) CHECK(g.blocked == "residual stream of indexed joins");
    pruning::prune_gradually(model, image, {.keep_macs = 0.6, .joins = Joins::indexed}, {.steps = 2},
                             [](const auto& s) { CHECK(s.surgery.certificate.holds()); });
    CHECK(model.stem.conv.weight.size(0) == 8);
}
