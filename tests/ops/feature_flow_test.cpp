#include <espalier/ops/feature_flow.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

template <class T> using Stages = std::vector<std::vector<Var<T>>>;

// The definition: every difference by itself, in double. `scale` is the sum of the absolute values of the terms.
template <class T> double reference(const Stages<T>& stages, const FeatureFlowOptions& o, double* scale = nullptr) {
    double total = 0;
    const auto norm = [&](const std::vector<double>& d) {
        double sum = 0;
        for (const double v : d) sum += o.norm == FlowNorm::l1 ? std::abs(v) : v * v;
        const double size = o.reduction == FlowReduction::sum ? 1 : static_cast<double>(d.size());
        return o.norm == FlowNorm::l2 ? std::sqrt(sum / size) : sum / size;
    };
    for (const auto& stage_there : stages) {
        std::vector<Tensor<T>> stage;
        for (const Var<T>& map : stage_there) stage.push_back(map.value().to(Device::cpu));
        const bool features = o.difference == FlowDifference::features;
        const Index N = stage.empty() || stage[0].size() == 0 ? 0 : stage[0].size(0);
        for (Index n = 0; n < N; ++n) {
            const Index E = stage[0].size() / N;
            const auto at = [&](std::size_t l, Index e) { return static_cast<double>(stage[l].data()[n * E + e]); };
            const std::size_t steps = stage.size() - (features ? 1 : 0);
            const auto step = [&](std::size_t l, Index e) { return features ? at(l + 1, e) - at(l, e) : at(l, e); };
            for (std::size_t l = 0; l < steps; ++l) {
                std::vector<double> d, c;
                for (Index e = 0; e < E; ++e) {
                    d.push_back(step(l, e));
                    c.push_back(l > 0 ? step(l, e) - step(l - 1, e) : 0.0);
                }
                total += (o.gradient * norm(d) + o.curvature * norm(c)) / static_cast<double>(N);
            }
        }
    }
    if (scale) *scale = std::max(1.0, total);
    return total;
}

template <class T> std::vector<Var<T>> stage_of(const Shape& shape, Index maps, const char* name = "flow") {
    std::vector<Var<T>> stage;
    for (Index l = 0; l < maps; ++l)
        stage.push_back(
            parameter_on_device(uniform<T>(shape, Random(3, name).substream(static_cast<std::uint64_t>(l)), -1, 1)));
    return stage;
}

std::vector<FeatureFlowOptions> all_options() {
    std::vector<FeatureFlowOptions> all;
    for (const FlowNorm norm : {FlowNorm::l1, FlowNorm::l2, FlowNorm::squared_l2})
        for (const FlowReduction reduction : {FlowReduction::mean, FlowReduction::sum})
            for (const FlowDifference difference : {FlowDifference::features, FlowDifference::branches})
                for (const double curvature : {0.0, 0.3})
                    all.push_back({.gradient = 0.7,
                                   .curvature = curvature,
                                   .norm = norm,
                                   .reduction = reduction,
                                   .difference = difference});
    return all;
}

// The gradients of `feature_flow` at all maps, after backward(dy).
template <class T> std::vector<Tensor<T>> gradients(Stages<T> stages, const FeatureFlowOptions& options, T dy = T(1)) {
    for (auto& stage : stages)
        for (auto& map : stage) map.clear_grad();
    const auto y = feature_flow(stages, options);
    y.backward(Tensor<T>::scalar(dy, y.device()));
    std::vector<Tensor<T>> all;
    for (auto& stage : stages)
        for (auto& map : stage) all.push_back(map.grad());
    return all;
}

} // namespace

TEST_CASE_TEMPLATE("feature_flow: values", T, float, double) {
    // one map, two, many; more than a chunk of elements a sample, with a remainder; no batch beside the features
    const Stages<T> stages = {
        stage_of<T>({2, 9, 9, 7}, 4), stage_of<T>({2, 5, 5, 3}, 2), stage_of<T>({2, 3}, 1), stage_of<T>({5}, 3), {}};
    for (const FeatureFlowOptions& options : all_options()) {
        double scale = 1;
        const double expected = reference(stages, options, &scale);
        REQUIRE(expected > 0);
        // terms are summed in T in runs of at most 2048 / lanes, then in double
        check_close(feature_flow(stages, options).value(), Tensor<double>::scalar(expected), 16,
                    Tensor<double>::scalar(scale));
    }
}

TEST_CASE("feature_flow: values by hand") {
    const auto map = [](double a, double b) { return on_device(Tensor<double>::from({1, 2}, {a, b})); };
    const Stages<double> stages = {{map(0, 0), map(3, 4), map(3, 0)}};
    const auto value = [&](const FeatureFlowOptions& options) { return feature_flow(stages, options).item(); };
    // d = (3,4), (0,-4); c = (-3,-8)
    using enum FlowReduction;
    CHECK(value({.gradient = 1, .curvature = 0, .reduction = sum}) == 11);
    CHECK(value({.gradient = 0, .curvature = 1, .reduction = sum}) == 11);
    CHECK(value({.gradient = 1, .curvature = 0, .reduction = mean}) == 5.5);
    CHECK(value({.gradient = 1, .curvature = 0, .norm = FlowNorm::l2, .reduction = sum}) == 9);
    CHECK(value({.gradient = 1, .curvature = 0, .norm = FlowNorm::l2, .reduction = mean}) ==
          doctest::Approx(9 / std::sqrt(2.0)));
    CHECK(value({.gradient = 1, .curvature = 2, .norm = FlowNorm::squared_l2, .reduction = sum}) == 41 + 2 * 73);
    // F = (0,0), (3,4), (3,0)
    CHECK(value({.gradient = 1, .curvature = 0, .reduction = sum, .difference = FlowDifference::branches}) == 10);
    CHECK(value({.gradient = 0, .curvature = 1, .reduction = sum, .difference = FlowDifference::branches}) == 11);
}

TEST_CASE("feature_flow: gradients") {
    for (const FeatureFlowOptions& options : all_options())
        for (const std::size_t count : {1u, 2u, 3u, 5u}) {
            if (count > 3 && device_under_test() != Device::cpu) continue;              // an emulated GPU is slow
            if (count == 1 && options.difference == FlowDifference::features) continue; // nothing to differentiate
            CAPTURE(count);
            CAPTURE(static_cast<int>(options.norm));
            // whole tenths, and an offset that keeps values and differences 500 steps from zero
            std::vector<Tensor<double>> inputs;
            for (std::size_t l = 0; l < count; ++l) {
                Tensor<double>& x = inputs.emplace_back(Shape{2, 3, 2});
                const Random random = Random(3, "tenths").substream(l);
                for (Index i = 0; i < x.size(); ++i)
                    x.mutable_data()[i] =
                        0.1 * static_cast<double>(random.below(17, static_cast<std::uint64_t>(i)) - 8) +
                        0.037 * static_cast<double>(l * l) + 0.013;
            }
            check_gradient([&](std::vector<Var<double>>& v) { return feature_flow(Stages<double>{v}, options); },
                           inputs);
        }
}

TEST_CASE("feature_flow: gradients of two stages, and of a map in both") {
    const auto inputs = [] {
        std::vector<Tensor<double>> list;
        for (const auto& v : stage_of<double>({2, 5}, 4)) list.push_back(v.value().to(Device::cpu));
        return list;
    }();
    check_gradient(
        [](std::vector<Var<double>>& v) {
            return feature_flow(Stages<double>{{v[0], v[1], v[2]}, {v[2], v[3]}, {v[0]}});
        },
        inputs);
}

TEST_CASE_TEMPLATE("feature_flow: gradients in long rows agree with double", T, float, double) {
    const auto stage = stage_of<T>({2, 20, 20, 11}, 5); // 4400 elements a sample: two chunks and a remainder
    std::vector<Var<double>> wide;
    for (const auto& map : stage) wide.push_back(parameter_on_device(map.value().template cast<double>()));
    for (const FeatureFlowOptions& options : all_options()) {
        const auto got = gradients<T>({stage}, options);
        const auto expected = gradients<double>({wide}, options);
        for (std::size_t i = 0; i < got.size(); ++i) {
            const auto wanted = expected[i].to(Device::cpu);
            double largest = 0;
            for (const double e : wanted) largest = std::max(largest, std::abs(e));
            // a seed adds at most five terms; the norms behind those of l2 have 4400 terms
            check_close(got[i], wanted, 64, Tensor<double>::scalar(largest));
        }
    }
}

TEST_CASE_TEMPLATE("feature_flow: at zero the gradient is zero", T, float, double) {
    for (const FeatureFlowOptions& options : all_options()) {
        const Tensor<T> x =
            options.difference == FlowDifference::features ? random_tensor<T>({2, 30}) : Tensor<T>::zeros({2, 30});
        const Stages<T> still = {
            {parameter_on_device(x.clone()), parameter_on_device(x.clone()), parameter_on_device(x.clone())}};
        CHECK(feature_flow(still, options).item() == T(0));
        for (const auto& g : gradients(still, options)) CHECK(same_bits(g, Tensor<T>::zeros({2, 30})));
    }
}

TEST_CASE_TEMPLATE("feature_flow: l1 seeds are signs", T, float, double) {
    const auto map = [](T a, T b, T c) { return parameter_on_device(Tensor<T>::from({1, 3}, {a, b, c})); };
    const Stages<T> stages = {{map(0, 1, 2), map(0, 5, 1)}};
    const auto g = gradients<T>(stages, {.gradient = 2, .reduction = FlowReduction::sum});
    CHECK(g[0].to_vector() == std::vector<T>{0, -2, 2});
    CHECK(g[1].to_vector() == std::vector<T>{0, 2, -2});
    const auto scaled = gradients<T>(stages, {.gradient = 2, .reduction = FlowReduction::sum}, T(-3));
    CHECK(scaled[1].to_vector() == std::vector<T>{0, -6, 6});
}

TEST_CASE_TEMPLATE("feature_flow: another backward makes the gradients again, with the same bits", T, float, double) {
    for (const FeatureFlowOptions& options : all_options()) {
        Stages<T> stages = {stage_of<T>({3, 9, 9, 7}, 4), stage_of<T>({2, 5}, 3, "second")};
        const Var<T> y = feature_flow(stages, options);
        std::vector<Tensor<T>> before;
        for (const T dy : {T(1), T(1), T(0.5)}) {
            for (auto& stage : stages)
                for (auto& map : stage) map.clear_grad();
            y.backward(Tensor<T>::scalar(dy, y.device()));
            std::vector<Tensor<T>> now;
            for (auto& stage : stages)
                for (auto& map : stage) now.push_back(map.grad());
            for (std::size_t i = 0; i < before.size(); ++i) {
                Tensor<T> expected = before[i].to(Device::cpu).clone();
                for (Index e = 0; e < expected.size(); ++e) expected.mutable_data()[e] *= dy;
                CHECK(same_bits(now[i], expected));
            }
            if (before.empty()) before = now;
        }
    }
}

TEST_CASE_TEMPLATE("feature_flow: same bits for any number of threads", T, float, double) {
    for (const FeatureFlowOptions& options : all_options())
        check_repeatable([&] {
            const Index N = device_under_test() == Device::cpu ? 5 : 2;
            const Stages<T> stages = {stage_of<T>({N, 14, 15, 11}, 4), stage_of<T>({N, 4, 4, 22}, 3)};
            auto all = gradients(stages, options);
            all.push_back(feature_flow(stages, options).value());
            return all;
        });
}

TEST_CASE_TEMPLATE("feature_flow: a model's flow", T, float, double) {
    const auto first = stage_of<T>({2, 4, 4, 3}, 3), second = stage_of<T>({2, 2, 2, 6}, 3, "second");
    const auto entry = stage_of<T>({2, 2, 2, 6}, 1, "entry");
    const Flow<T> flow{.stages = {{first, {}}, {second, entry[0]}}, .branches = {}};
    const auto value = [&](const FeatureFlowOptions& options) { return feature_flow(flow, options).item(); };
    SUBCASE("aligned: the entry is the second stage's first map") {
        const Stages<T> stages = {first, {entry[0], second[0], second[1], second[2]}};
        CHECK(value({}) == feature_flow(stages).item());
    }
    SUBCASE("skip: it is left out") {
        CHECK(value({.boundary = FlowBoundary::skip}) == feature_flow(Stages<T>{first, second}).item());
    }
    SUBCASE("branches: the number of terms of ResNet's table") {
        Flow<T> resnet; // 9 branches of ones a stage: 27 first differences of 1, no second ones
        for (Index stage = 0; stage < 3; ++stage)
            resnet.branches.emplace_back(9, on_device(Tensor<T>::ones({2, 2, 2, 4})));
        CHECK(feature_flow(resnet, {.difference = FlowDifference::branches}).item() == T(27));
        for (auto& stage : resnet.branches) // alternating signs: every second difference is 2, and there are 24
            for (std::size_t l = 1; l < 9; l += 2) stage[l] = on_device(Tensor<T>::full({2, 2, 2, 4}, T(-1)));
        CHECK(feature_flow(resnet, {.gradient = 0, .difference = FlowDifference::branches}).item() == T(48));
    }
    SUBCASE("branches that are not there") {
        CHECK_THROWS_WITH_AS(value({.difference = FlowDifference::branches}),
                             doctest::Contains("feature_flow: expected a flow with residual branches"), ShapeError);
    }
}

TEST_CASE_TEMPLATE("feature_flow: empty flows, stages, batches and widths", T, float, double) {
    CHECK(feature_flow(Stages<T>{}).item() == T(0));
    CHECK(feature_flow(Flow<T>{}).item() == T(0));
    const auto lone = stage_of<T>({2, 3}, 1);
    CHECK(!feature_flow(Stages<T>{lone, {}}).needs_grad());
    const auto too_short = feature_flow(Stages<T>{stage_of<T>({2, 3}, 1)});
    CHECK(too_short.item() == T(0));
    CHECK(too_short.device() == device_under_test()); // where it can be added to a loss
    // an empty stage before one with maps
    for (const Shape& empty : {Shape{2, 4, 4, 0}, Shape{0, 4, 4, 3}}) {
        const Stages<T> stages = {stage_of<T>(empty, 3), stage_of<T>({2, 3}, 2)};
        auto y = feature_flow(stages);
        CHECK(y.item() == feature_flow(Stages<T>{stages[1]}).item());
        y.backward();
        CHECK(stages[1][0].grad().defined());
    }
}

TEST_CASE_TEMPLATE("feature_flow: records nothing that is not wanted", T, float, double) {
    const Stages<T> stages = {stage_of<T>({2, 3}, 3)};
    SUBCASE("under NoGrad") {
        const NoGrad no_grad;
        CHECK(!feature_flow(stages).needs_grad());
    }
    SUBCASE("for constants") {
        CHECK(!feature_flow(Stages<T>{{stages[0][0].detach(), stages[0][1].detach()}}).needs_grad());
    }
    SUBCASE("for one constant among parameters") {
        Stages<T> mixed = {{stages[0][0].detach(), stages[0][1]}};
        feature_flow(mixed).backward();
        CHECK(!mixed[0][0].grad().defined());
        CHECK(mixed[0][1].grad().defined());
    }
    SUBCASE("its channels end here") {
        const auto y = feature_flow(stages);
        CHECK(y.node()->rule.is_declared());
        CHECK(y.node()->rule.links().empty());
    }
}

TEST_CASE_TEMPLATE("feature_flow: errors", T, float, double) {
    const auto x = stage_of<T>({2, 3}, 2), y = stage_of<T>({2, 4}, 1);
    const auto throws = [](const char* text, const Stages<T>& stages, const FeatureFlowOptions& options = {}) {
        CHECK_THROWS_WITH_AS(feature_flow(stages, options), doctest::Contains(text), ShapeError);
    };
    throws("feature_flow: expected maps of one shape a stage, got [2,3] and [2,4]", {{x[0], x[1], y[0]}});
    throws("expected maps [N,...], got []", {{on_device(Tensor<T>::scalar(1))}});
    throws("expected maps [N,...], got an undefined one", {{x[0], Var<T>()}});
    throws("expected weights of at least 0, got -1 and 1", {x}, {.gradient = -1});
    throws("expected weights of at least 0, got 1 and nan", {x}, {.curvature = std::nan("")});
    if (device_under_test() != Device::cpu)
        CHECK_THROWS_WITH_AS(feature_flow(Stages<T>{stage_of<T>({1, 1}, 241)}),
                             doctest::Contains("at most 240 maps a stage on a GPU, got 241"), DeviceError);
}
