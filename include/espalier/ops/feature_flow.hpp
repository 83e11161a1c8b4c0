#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/elementwise.hpp>
#include <espalier/ops/feature_flow.cpu.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/feature_flow.cuda.cuh>
#endif

#include <cmath>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// The feature maps x_0, x_1, ... of one stage of a network, all [N,H,W,C] or all [N,C], in the order of the layers.
template <class T> struct FlowStage {
    std::vector<Var<T>> maps; ///< of one shape
    /// The previous stage's last map, brought to this stage's shape by the shortcut around the first block; undefined
    /// where there is none.
    Var<T> entry;
};
/// What a forward pass hands to feature flow regularization.
template <class T> struct Flow {
    std::vector<FlowStage<T>> stages; ///< in the order of the network
    std::vector<std::vector<Var<T>>> branches =
        {}; ///< F_0, F_1, ... of the residual blocks of each stage; may be empty
};

namespace detail {

template <class T> using FlowTensors = std::vector<std::vector<Tensor<T>>>; // maps that were checked, by stage

/// What a backward pass takes over from the value: the seeds of all maps, or what they will be multiplied with.
template <class T> struct FlowKept {
    std::vector<Tensor<T>> seeds;        ///< on the CPU; empty if an earlier backward gave them away
    std::vector<Tensor<double>> weights; ///< on a GPU: `flow_finish_kernel`'s of each stage, empty but for l2
};

/// The options' weights for one stage, with the reduction.
inline kernels::FlowPair flow_weights(const FeatureFlowOptions& options, Index samples, Index elements) {
    const double size = static_cast<double>(elements);
    const double spread = options.reduction == FlowReduction::sum ? 1
                          : options.norm == FlowNorm::l2          ? std::sqrt(size)
                                                                  : size;
    const double scale = 1 / (static_cast<double>(samples) * spread);
    return {scale * options.gradient, scale * options.curvature};
}

/// The value, and with `wanted` the gradient with respect to each map, stage after stage.
template <class T>
Tensor<T> flow_value(Cpu on, const FlowTensors<T>& stages, const FeatureFlowOptions& options, bool wanted,
                     FlowKept<T>& kept) {
    double total = 0;
    for (const auto& stage : stages) {
        const Index samples = stage[0].size(0), elements = stage[0].size() / samples;
        const auto matrix = [&](auto* data) {
            return View<std::remove_pointer_t<decltype(data)>, 2>(data, {samples, elements});
        };
        kernels::FlowMaps<T> maps;
        kernels::FlowSeeds<T> seed_views;
        for (const Tensor<T>& map : stage) {
            maps.push_back(matrix(map.data()));
            if (wanted) seed_views.push_back(matrix(kept.seeds.emplace_back(empty_like(map)).mutable_data()));
        }
        Tensor<double> value({samples});
        kernels::feature_flow(on, maps, seed_views, options.norm, options.difference,
                              flow_weights(options, samples, elements), mutable_view<1>(value));
        for (const double v : value) total += v;
    }
    return Tensor<T>::scalar(static_cast<T>(total));
}
/// Adds dy times the seeds to the inputs that need a gradient.
template <class T>
void flow_gradients(Cpu on, const FlowTensors<T>& stages, const FeatureFlowOptions& options, FlowKept<T>& kept,
                    const Tensor<T>& dy, const Inputs<T>& input) {
    if (kept.seeds.empty()) flow_value(on, stages, options, true, kept);
    for (std::size_t i = 0; i < kept.seeds.size(); ++i) {
        Tensor<T> dx = std::move(kept.seeds[i]);
        if (!input[i].needs_grad()) continue;
        if (const T scale = dy.item(); scale != T(1)) {
            const Tensor<T> seed = std::exchange(dx, empty_like(dx));
            kernels::elementwise(
                on, [scale](T s) { return scale * s; }, mutable_strided(dx), strided(seed));
        }
        input[i].add_grad(std::move(dx));
    }
    kept.seeds.clear();
}

#if ESPALIER_CUDA
template <class T>
kernels::FlowStageShape flow_shape(const std::vector<Tensor<T>>& stage, const FeatureFlowOptions& options) {
    expect<DeviceError>(stage.size() <= kernels::flow_most_maps, "feature_flow: expected at most ",
                        kernels::flow_most_maps, " maps a stage on a GPU, got ", stage.size());
    const Index samples = stage[0].size(0);
    const bool features = options.difference == FlowDifference::features;
    return {samples,
            stage[0].size() / samples,
            static_cast<int>(stage.size()) - features,
            options.norm == FlowNorm::l1,
            features,
            options.curvature != 0,
            options.norm == FlowNorm::l2};
}
/// As on the CPU, but seeds are made by `flow_gradients`, when dy is there.
template <class T>
Tensor<T> flow_value(Cuda on, const FlowTensors<T>& stages, const FeatureFlowOptions& options, bool,
                     FlowKept<T>& kept) {
    Index samples = 0;
    for (const auto& stage : stages) samples += stage[0].size(0);
    Tensor<double> values({samples}, Device::cuda);
    double* value = values.mutable_data();
    for (const auto& stage : stages) {
        const auto shape = flow_shape(stage, options);
        kernels::FlowPointers<T> at{};
        for (std::size_t l = 0; l < stage.size(); ++l) at.maps[l] = stage[l].data();
        auto& weights =
            kept.weights.emplace_back(Shape{shape.lengths ? shape.samples * shape.steps * 2 : 0}, Device::cuda);
        kernels::flow_value(on, at, shape, flow_weights(options, shape.samples, shape.elements), weights.mutable_data(),
                            value);
        value += shape.samples;
    }
    Tensor<T> y(Shape{}, Device::cuda);
    kernels::flow_total(on, flat(values), y.mutable_data());
    return y;
}
template <class T>
void flow_gradients(Cuda on, const FlowTensors<T>& stages, const FeatureFlowOptions& options, FlowKept<T>& kept,
                    const Tensor<T>& dy, const Inputs<T>& input) {
    std::size_t i = 0; // of the input
    for (std::size_t s = 0; s < stages.size(); ++s) {
        const auto shape = flow_shape(stages[s], options);
        kernels::FlowPointers<T> at{};
        std::vector<Tensor<T>> seeds(stages[s].size());
        for (std::size_t l = 0; l < seeds.size(); ++l) {
            at.maps[l] = stages[s][l].data();
            if (!input[i + l].needs_grad()) continue;
            seeds[l] = empty_like(stages[s][l]);
            at.seeds[l] = seeds[l].mutable_data();
        }
        kernels::flow_seeds(on, at, shape, flow_weights(options, shape.samples, shape.elements), kept.weights[s].data(),
                            dy.data());
        for (Tensor<T>& seed : seeds) {
            if (seed.defined()) input[i].add_grad(std::move(seed));
            ++i;
        }
    }
}
#endif

template <class T>
Var<T> flow_of_maps(const std::vector<std::vector<Var<T>>>& stages, const FeatureFlowOptions& options) {
    expect(options.gradient >= 0 && options.curvature >= 0, "feature_flow: expected weights of at least 0, got ",
           options.gradient, " and ", options.curvature);
    const std::size_t fewest = options.difference == FlowDifference::features ? 2 : 1;
    std::vector<Var<T>> operands;
    std::vector<std::vector<Tensor<T>>> maps;
    bool wanted = false;
    for (const auto& stage : stages) {
        for (const Var<T>& map : stage) {
            expect(map.defined() && map.rank() >= 1, "feature_flow: expected maps [N,...], got ",
                   map.defined() ? to_text(map.shape()) : "an undefined one");
            expect(map.shape() == stage[0].shape(), "feature_flow: expected maps of one shape a stage, got ",
                   stage[0].shape(), " and ", map.shape());
        }
        if (stage.size() < fewest || stage[0].size() == 0) continue; // adds nothing
        maps.emplace_back();
        for (const Var<T>& map : stage) {
            operands.push_back(map);
            maps.back().push_back(map.value());
            wanted = wanted || map.needs_grad();
        }
    }

    for (const Var<T>& operand : operands) expect_same_device("feature_flow", operands[0], operand);
    FlowKept<T> kept;
    Tensor<T> y;
    const auto of_any = [&] { return stages.empty() || stages[0].empty() ? Device::cpu : stages[0][0].device(); };
    const Device device = operands.empty() ? of_any() : operands[0].device();
    dispatch(device, [&](auto on) { y = flow_value(on, maps, options, wanted && grad_enabled(), kept); });
    auto backward = [maps, options, kept = std::move(kept)](const Tensor<T>& dy, const Inputs<T>& input) mutable {
        dispatch(dy.device(), [&](auto on) { flow_gradients(on, maps, options, kept, dy, input); });
    };
    return record<T>("feature_flow", y, operands, ChannelRule::declared(), std::move(backward));
}

template <class T> Var<T> flow_of_network(const Flow<T>& flow, const FeatureFlowOptions& options) {
    if (options.difference == FlowDifference::branches) {
        expect(!flow.branches.empty(),
               "feature_flow: expected a flow with residual branches, which models of this library hand out "
               "with Options::taps, got none");
        return flow_of_maps(flow.branches, options);
    }
    std::vector<std::vector<Var<T>>> stages;
    for (const FlowStage<T>& stage : flow.stages) {
        auto& maps = stages.emplace_back(stage.maps);
        if (options.boundary == FlowBoundary::aligned && stage.entry.defined()) maps.insert(maps.begin(), stage.entry);
    }
    return flow_of_maps(stages, options);
}

} // namespace detail

/// y = sum over stages and l of gradient * |d_l| + curvature * |d_l - d_{l-1}|, a scalar.
///
/// Each stage lists maps of one shape [N,...]: features x with d_l = x_{l+1} - x_l, so that the second term is
/// |x_{l+1} - 2 x_l + x_{l-1}|, or branches F with d_l = F_l. |.| is a norm of each sample's difference, averaged over
/// the batch. With mean reduction it is also divided by the number of elements a sample (l1, squared l2) or by its
/// square root (l2), so that weights do not depend on it. At 0 the gradient of |.| is 0, for l1 element by element.
/// Stages too short for a difference, and empty maps, add nothing. y is on the device of the maps. `options.boundary`
/// is for the overload that takes a `Flow`. One pass over the maps makes the value and all gradients, whose memory
/// backward hands on; another backward makes them again. On a GPU every backward makes them, times its dy.
/// @throws ShapeError if the maps of a stage differ in shape, have no batch axis, or a weight is negative; DeviceError
/// for more than 240 maps a stage on a GPU
/// Source: the discrete gradient and curvature of Wu et al. 2021 (arXiv 2106.02914), as reconstructed from its
/// abstract.
template <class T>
Var<T> feature_flow(const std::vector<std::vector<Var<T>>>& stages, const FeatureFlowOptions& options = {}) {
    return detail::flow_of_maps(stages, options);
}

/// As above for what a model's forward pass hands out: its branches or its features, by `options.difference`, and at
/// the beginning of a stage what `options.boundary` says.
/// @throws ShapeError also if branches are asked for and the flow has none
template <class T> Var<T> feature_flow(const Flow<T>& flow, const FeatureFlowOptions& options = {}) {
    return detail::flow_of_network(flow, options);
}

ESPALIER_COMPILED_FUNCTION(detail::flow_of_maps);
ESPALIER_COMPILED_FUNCTION(detail::flow_of_network);

} // namespace espalier::inline ESPALIER_BACKEND
