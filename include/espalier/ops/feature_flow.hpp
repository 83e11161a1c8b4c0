#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/elementwise.hpp>
#include <espalier/ops/feature_flow.cpu.hpp>

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

/// The value of maps that were checked, and with `seeds` the gradient with respect to each of them, stage after stage.
template <class T>
double flow_pass(const std::vector<std::vector<Tensor<T>>>& stages, const FeatureFlowOptions& options,
                 std::vector<Tensor<T>>* seeds) {
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
            if (seeds) seed_views.push_back(matrix(seeds->emplace_back(empty_like(map)).mutable_data()));
        }
        const double size = static_cast<double>(elements);
        const double spread = options.reduction == FlowReduction::sum ? 1
                              : options.norm == FlowNorm::l2          ? std::sqrt(size)
                                                                      : size;
        const double scale = 1 / (static_cast<double>(samples) * spread);
        Tensor<double> value({samples}, stage[0].device());
        dispatch(stage[0].device(), [&](auto on) {
            kernels::feature_flow(on, maps, seed_views, options.norm, options.difference,
                                  {scale * options.gradient, scale * options.curvature}, mutable_view<1>(value));
        });
        for (const double v : value) total += v;
    }
    return total;
}

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

    std::vector<Tensor<T>> seeds;
    const double total = flow_pass(maps, options, wanted && grad_enabled() ? &seeds : nullptr);
    auto backward = [maps, options, seeds = std::move(seeds)](const Tensor<T>& dy, const Inputs<T>& input) mutable {
        if (seeds.empty()) flow_pass(maps, options, &seeds); // an earlier backward gave them away
        for (std::size_t i = 0; i < seeds.size(); ++i) {
            Tensor<T> dx = std::move(seeds[i]);
            if (!input[i].needs_grad()) continue;
            if (const T scale = dy.item(); scale != T(1)) {
                const Tensor<T> seed = std::exchange(dx, empty_like(dx));
                dispatch(dx.device(), [&](auto on) {
                    kernels::elementwise(
                        on, [scale](T s) { return scale * s; }, mutable_strided(dx), strided(seed));
                });
            }
            input[i].add_grad(std::move(dx));
        }
        seeds.clear();
    };
    return record<T>("feature_flow", Tensor<T>::scalar(static_cast<T>(total)), operands, ChannelRule::declared(),
                     std::move(backward));
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
/// Stages too short for a difference, and empty maps, add nothing. `options.boundary` is for the overload that takes a
/// `Flow`. One pass over the maps makes the value and all gradients, whose memory backward hands on; another backward
/// makes them again.
/// @throws ShapeError if the maps of a stage differ in shape, have no batch axis, or a weight is negative
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
