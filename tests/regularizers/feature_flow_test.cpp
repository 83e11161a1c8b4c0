#include <espalier/regularizers/feature_flow.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

template <class T> Flow<T> flow_of_five() {
    Flow<T> flow;
    flow.stages.push_back({{}, {}});
    for (const char* name : {"a", "b", "c"}) {
        flow.stages[0].maps.push_back(parameter(random_tensor<T>({2, 3, 3, 4}, name)));
        if (*name != 'a') flow.stages[0].maps.push_back(parameter(random_tensor<T>({2, 3, 3, 4}, name + 1)));
    }
    flow.branches.push_back(flow.stages[0].maps);
    return flow;
}

} // namespace

TEST_CASE_TEMPLATE("FeatureFlow: the weighted term of every option", T, float, double) {
    const Flow<T> flow = flow_of_five<T>();
    for (const FlowNorm norm : {FlowNorm::l1, FlowNorm::l2, FlowNorm::squared_l2})
        for (const FlowDifference difference : {FlowDifference::features, FlowDifference::branches}) {
            const FeatureFlowOptions options{
                .gradient = 0.1, .curvature = 0.05, .norm = norm, .difference = difference};
            CHECK(FeatureFlow(options)(flow).item() == feature_flow(flow, options).item());
        }
}

TEST_CASE("FeatureFlow: the weights grow during warm-up") {
    const Flow<double> flow = flow_of_five<double>();
    const FeatureFlow regularize({.gradient = 0.1, .curvature = 0.3}, 4);
    const double full = regularize(flow).item();
    REQUIRE(full > 0);
    for (const Index step : {0, 1, 2, 3, 4, 5, 1000}) {
        const double share = std::min(1.0, static_cast<double>(step) / 4);
        CHECK(regularize.strength(step) == share);
        CHECK(regularize(flow, step).item() == doctest::Approx(share * full).epsilon(1e-14));
    }
    CHECK(FeatureFlow({.gradient = 1}).strength(0) == 1);
    CHECK(regularize.options().gradient == 0.1); // it has no state that a step could change
}

TEST_CASE("FeatureFlow: gradients during warm-up") {
    const Flow<double> flow = flow_of_five<double>();
    const FeatureFlow regularize({.gradient = 0.7, .curvature = 0.3, .norm = FlowNorm::l2}, 4); // no kinks nearby
    check_gradient(
        [&](std::vector<Var<double>>& v) {
            Flow<double> now;
            now.stages.push_back({{v[0], v[1]}, {}});
            now.stages[0].entry = v[2];
            return regularize(now, 3);
        },
        {flow.stages[0].maps[0].value(), flow.stages[0].maps[1].value(), flow.stages[0].maps[3].value()});
}

TEST_CASE("FeatureFlow: smooth features have a smaller term than rough ones") {
    const auto term = [](double step, double wobble) {
        Flow<double> flow;
        flow.stages.push_back({{}, {}});
        for (int l = 0; l < 5; ++l)
            flow.stages[0].maps.push_back(
                Var<double>(Tensor<double>::full({2, 3}, step * l + (l % 2 == 0 ? wobble : -wobble))));
        return FeatureFlow({.gradient = 1, .curvature = 1})(flow).item();
    };
    CHECK(term(0, 0) == 0);
    CHECK(term(0.25, 0) == doctest::Approx(4 * 0.25)); // even steps: length and no curvature
    CHECK(term(0, 0.25) == doctest::Approx(4 * 0.5 + 3 * 1.0));
}

TEST_CASE("FeatureFlow: errors") {
    CHECK_THROWS_WITH_AS(FeatureFlow({.gradient = -1}),
                         doctest::Contains("FeatureFlow: expected weights of at least 0"), ShapeError);
    CHECK_THROWS_WITH_AS(FeatureFlow({}, -1), doctest::Contains("expected a warm-up of at least 0 steps, got -1"),
                         ShapeError);
}
