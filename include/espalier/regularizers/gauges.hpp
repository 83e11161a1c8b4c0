#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/module.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Norms of the filters of one layer with its batch norm folded in: |gamma_k| |w_k|_2 / sqrt(variance_k + epsilon).
struct FilterNorms {
    std::string name;          ///< of the layer's weight
    std::vector<double> norms; ///< one a filter
    bool ends_branch = false;  ///< what the layer makes goes into a residual join
};

namespace detail {

inline const ChannelLink* find_role(const ChannelRule& rule, ChannelRole role) {
    for (const ChannelLink& link : rule.links())
        if (link.role == role) return &link;
    return nullptr;
}
/// Squared l2 norm of every slice of an axis.
template <class T> std::vector<double> squared_slices(const Tensor<T>& weight, int axis) {
    const Tensor<T> w = weight.to(Device::cpu);
    const int along = axis < 0 ? axis + w.rank() : axis;
    const Index extent = w.size(along), inner = w.shape().product(along + 1, w.rank());
    std::vector<double> squares(static_cast<std::size_t>(extent));
    for (Index i = 0; i < w.size(); ++i) {
        const double v = static_cast<double>(w.data()[i]);
        squares[static_cast<std::size_t>(i / inner % extent)] += v * v;
    }
    return squares;
}

} // namespace detail

/// Filter norms of every layer of `model` whose result goes straight into a batch norm, in the order of the graph; and
/// of layers that end a residual branch without batch norm, where there is nothing to fold in.
///
/// The graph is the one that made `output`, for instance the logits of a training step; it says what feeds what, so no
/// naming is assumed. Weights and running variances are those of now. Filter norms say nothing before batch norm is
/// folded in: it undoes any scale of a filter.
/// @param epsilon what the batch norms add to the variance
/// @throws StateError if `output` was not recorded
template <class T>
std::vector<FilterNorms> filter_norms(const Module<T>& model, const Var<T>& output, double epsilon = 1e-5) {
    expect<StateError>(output.needs_grad() && !output.node()->is_leaf(),
                       "filter_norms: expected an output that was recorded, got one without a graph");
    std::unordered_map<const Node<T>*, NamedVar<T>> variables;
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& named : list) variables.emplace(named.var.node().get(), named);
    const auto variable = [&](const Node<T>& node, const ChannelLink* link) -> const NamedVar<T>* {
        if (!link || link->operand < 0) return nullptr;
        const auto it = variables.find(node.inputs[static_cast<std::size_t>(link->operand)].get());
        return it == variables.end() ? nullptr : &it->second;
    };

    const auto nodes = topological_order(output.node());
    std::unordered_set<const Node<T>*> ends; // of branches
    for (const auto& node : nodes)
        for (const ChannelLink& link : node->rule.links())
            if (link.joined) ends.insert(node->inputs[static_cast<std::size_t>(link.operand)].get());

    std::vector<FilterNorms> layers;
    for (const auto& node : nodes) {
        const NamedVar<T>* const scale = variable(*node, detail::find_role(node->rule, ChannelRole::scales));
        const NamedVar<T>* const variance = variable(*node, detail::find_role(node->rule, ChannelRole::variance));
        const bool folds = scale && variance, ends_branch = ends.count(node.get()) > 0;
        if (node->is_leaf() || (!folds && !ends_branch)) continue;
        const Node<T>& layer = folds ? *node->inputs[0] : *node;
        const ChannelLink* const makes = detail::find_role(layer.rule, ChannelRole::makes);
        const NamedVar<T>* const weight = variable(layer, makes);
        if (!weight) continue;
        FilterNorms& norms = layers.emplace_back(
            FilterNorms{weight->name, detail::squared_slices(weight->var.value(), makes->axis), ends_branch});
        if (!folds) {
            for (double& n : norms.norms) n = std::sqrt(n);
            continue;
        }
        const std::vector<T> gammas = scale->var.value().to_vector(), variances = variance->var.value().to_vector();
        for (std::size_t k = 0; k < norms.norms.size(); ++k) {
            const double v = static_cast<double>(variances[k]) + epsilon;
            norms.norms[k] = std::abs(static_cast<double>(gammas[k])) * std::sqrt(norms.norms[k] / v);
        }
    }
    return layers;
}

/// Share of all filters whose norm is at most `threshold` times the largest of their layer; 0 without filters.
///
/// A layer of zeros counts as a whole. The default calls a filter dead that has under 1 % of its layer's largest norm.
inline double share_below(const std::vector<FilterNorms>& layers, double threshold = 0.01) {
    std::size_t all = 0, below = 0;
    for (const FilterNorms& layer : layers) {
        double largest = 0;
        for (const double norm : layer.norms) largest = std::max(largest, norm);
        for (const double norm : layer.norms) below += norm <= threshold * largest;
        all += layer.norms.size();
    }
    return all == 0 ? 0 : static_cast<double>(below) / static_cast<double>(all);
}

ESPALIER_COMPILED_FUNCTION(filter_norms);

} // namespace espalier::inline ESPALIER_BACKEND
