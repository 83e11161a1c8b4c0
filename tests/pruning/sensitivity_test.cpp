#include "networks.hpp"

#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/sensitivity.hpp>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;
using pruning::SensitivityPoint;

namespace {

const Shape image{4, 4, 3};

/// A score that any change of the function shows in.
template <class M> double score(M& model) {
    const NoGrad no_grad;
    const ModeScope<float> mode(model, Mode::inference);
    double sum = 0;
    const Var<float> logits = model.forward(Var<float>(random_tensor<float>({3, 4, 4, 3}))); // outlives the loop
    for (const float y : logits.value()) sum += std::abs(double(y));
    return sum;
}

template <class M> std::vector<Tensor<float>> state(const M& model) {
    std::vector<Tensor<float>> all;
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list) all.push_back(var.value().clone());
    return all;
}

} // namespace

TEST_CASE("scan_sensitivity: each point is the real cut of that group, and the model is put back bit for bit") {
    for (const Joins joins : {Joins::coupled, Joins::indexed, Joins::mixed}) {
        Residual<float> model;
        shake(model);
        const auto before = state(model);
        const auto points =
            pruning::scan_sensitivity(model, image, score<Residual<float>>, {.ratios = {0.25, 1}, .joins = joins});
        const auto after = state(model);
        for (std::size_t i = 0; i < before.size(); ++i) CHECK(same_bits(before[i], after[i]));
        CHECK(points.front().group.empty());
        CHECK(points.front().score == score(model));
        CHECK(points.front().cost == cost(model, image));
        CHECK(points.size() == (joins == Joins::coupled ? 9u : joins == Joins::indexed ? 13u : 15u));
        for (const SensitivityPoint& point : points) {
            if (point.group.empty()) continue;
            Residual<float> fresh;
            shake(fresh);
            auto plan = pruning::plan(fresh, image, {.keep_channels = 0.99, .joins = joins});
            for (auto& g : plan.groups) {
                std::vector<Index> order;
                g.kept.clear();
                for (Index c = 0; c < g.width; ++c) g.kept.push_back(c);
                if (g.name != point.group) continue;
                order = g.kept;
                std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
                    return g.scores[static_cast<std::size_t>(a)] < g.scores[static_cast<std::size_t>(b)];
                });
                g.kept.assign(order.end() - static_cast<std::ptrdiff_t>(point.kept), order.end());
                std::sort(g.kept.begin(), g.kept.end());
                CHECK(point.width == g.width);
            }
            CHECK(pruning::apply(plan, fresh).certificate.holds());
            CHECK(score(fresh) == point.score);
            CHECK(cost(fresh, image) == point.cost);
        }
    }
}

TEST_CASE("scan_sensitivity: replicas share the work and give the same points") {
    Residual<float> one, two, three;
    for (auto* model : {&one, &two, &three}) shake<float>(*model);
    const std::vector<Residual<float>*> replicas{&one, &two, &three};
    std::vector<std::string> seen;
    const auto alone = pruning::scan_sensitivity(one, image, score<Residual<float>>);
    const auto points = pruning::scan_sensitivity(
        replicas, image, score<Residual<float>>,
        {.measured = [&](const SensitivityPoint& p) { seen.push_back(join_text(p.group, p.ratio)); }});
    REQUIRE(points.size() == alone.size());
    CHECK(seen.size() == points.size());
    for (std::size_t i = 0; i < points.size(); ++i) CHECK(points[i].score == alone[i].score);
}

TEST_CASE("scan_sensitivity: what is done is not measured again") {
    Chain<float> model;
    shake(model);
    int calls = 0;
    const auto count = [&](Chain<float>& m) { return ++calls, score(m); };
    auto half = pruning::scan_sensitivity(model, image, count, {.ratios = {0.5}});
    CHECK(calls == 3); // the whole network, and two groups
    half.pop_back();
    half.back().score = -1; // so that it can be recognized
    const auto all = pruning::scan_sensitivity(model, image, count, {.ratios = {0.5, 0.75}, .done = half});
    CHECK(calls == 6);
    REQUIRE(all.size() == 5);
    CHECK(all[1].score == -1);
    half.back().kept = 7;
    CHECK_THROWS_WITH_AS(pruning::scan_sensitivity(model, image, count, {.ratios = {0.5}, .done = half}),
                         doctest::Contains("points of this network, got 7 of 8 channels of group 'a.conv'"),
                         StateError);
}

TEST_CASE("scan_sensitivity: whatever evaluate does or throws, the model is as before") {
    Chain<float> model;
    shake(model);
    const auto before = state(model);
    int calls = 0;
    CHECK_THROWS_WITH(pruning::scan_sensitivity(model, image,
                                                [&](Chain<float>& m) -> double {
                                                    m.head.weight.set_value(zeros_like(m.head.weight.value()));
                                                    if (++calls == 3) throw StateError("enough");
                                                    return 0;
                                                }),
                      "enough");
    const auto after = state(model);
    for (std::size_t i = 0; i < before.size(); ++i) CHECK(same_bits(before[i], after[i]));

    const auto fails = [&](const std::vector<Chain<float>*>& replicas, std::vector<double> ratios, const char* text) {
        CHECK_THROWS_WITH_AS(
            pruning::scan_sensitivity(replicas, image, score<Chain<float>>, {.ratios = std::move(ratios)}),
            doctest::Contains(text), Error);
    };
    fails({}, {0.5}, "expected a model and ratios, got 0 and 1");
    fails({&model}, {}, "got 1 and 0");
    fails({&model}, {0.5, 1.5}, "ratios in (0,1], got 1.5");
    fails({&model}, {0}, "got 0");
    Chain<float> smaller;
    pruning::apply(pruning::plan(smaller, image, {.keep_channels = 0.5}), smaller);
    fails({&model, &smaller}, {0.5}, "expected copies of one network");
}
