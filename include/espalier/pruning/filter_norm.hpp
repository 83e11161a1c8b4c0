#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/criterion.hpp>

#include <cmath>
#include <memory>
#include <string>
#include <unordered_map>

namespace espalier::inline ESPALIER_BACKEND {

/// Size of a filter, or of what else a channel has in a weight.
enum class SliceNorm {
    l1,         ///< sum |w|
    l2,         ///< sqrt(sum w^2)
    squared_l2, ///< sum w^2
    linf,       ///< max |w|
};
/// `l1`, `l2`, `squared l2` or `linf`.
inline std::string to_text(SliceNorm norm) {
    constexpr const char* names[] = {"l1", "l2", "squared l2", "linf"};
    return names[static_cast<int>(norm)];
}

namespace pruning {

/// Norm of the elements of a slice; NaN if one of them is.
template <class T> double slice_norm(ChannelSlice<T> slice, SliceNorm norm) {
    double value = 0;
    each_value(slice, [&](double v) {
        if (norm == SliceNorm::linf)
            value = std::abs(v) > value || v != v ? std::abs(v) : value;
        else
            value += norm == SliceNorm::l1 ? std::abs(v) : v * v;
    });
    return norm == SliceNorm::l2 ? std::sqrt(value) : value;
}

namespace detail {

template <class T> Score<T> score_by_norm(SliceNorm norm, ChannelRoles roles, Combine rule) {
    return [=](const Channel<T>& channel) {
        return combined(channel, roles, rule, [norm](ChannelSlice<T> slice) { return slice_norm(slice, norm); });
    };
}

template <class T> Score<T> score_by_folded_norm(const ChannelGraph<T>& graph, double epsilon, Combine rule) {
    struct Folding {
        Tensor<T> gamma, variance;
    };
    std::unordered_map<const Node<T>*, const Node<T>*> made_by; // result of a product -> its weight
    auto foldings = std::make_shared<std::unordered_map<const Node<T>*, Folding>>();
    const auto& variables = graph.trace().variables;
    for (const auto& node : graph.trace().nodes) {
        if (node->rule.weight() >= 0)
            made_by[node.get()] = node->inputs[static_cast<std::size_t>(node->rule.weight())].get();
        if (std::string(node->op) != "batch_norm" || !made_by.count(node->inputs[0].get())) continue;
        (*foldings)[made_by[node->inputs[0].get()]] = {variables.at(node->inputs[1].get()).var.value(),
                                                       variables.at(node->inputs[4].get()).var.value()};
    }
    const auto folded = [foldings, epsilon](ChannelSlice<T> slice) {
        const auto it = foldings->find(slice[0].variable.node().get());
        if (it == foldings->end()) return slice_norm(slice, SliceNorm::l2);
        double square = 0;
        for (std::size_t i = 0; i < slice.size(); ++i) {
            const double gamma = static_cast<double>(it->second.gamma.data()[slice[i].entry]);
            square += gamma * gamma * slice_norm(slice.subspan(i, 1), SliceNorm::squared_l2) /
                      (static_cast<double>(it->second.variance.data()[slice[i].entry]) + epsilon);
        }
        return std::sqrt(square);
    };
    return [folded, rule](const Channel<T>& channel) { return combined(channel, {ChannelRole::makes}, rule, folded); };
}

} // namespace detail
} // namespace pruning

/// Norm of the filter. Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1 (l1).
///
/// With more roles, of all that the channel has in other variables too: `{makes, eats, scales}` counts input channels
/// of the next weights and batch norm's scales, as dependency-graph pruning does (Fang et al. 2023, "DepGraph", section
/// 3.2).
struct FilterNorm {
    SliceNorm norm = SliceNorm::l1;            ///< of each slice
    ChannelRoles roles = {ChannelRole::makes}; ///< slices that count
    Combine combine = Combine::mean;           ///< of their norms

    /// As of every criterion. NaN for a channel without such a slice.
    /// @{
    std::string name() const {
        return pruning::detail::criterion_name("filter " + to_text(norm),
                                               roles == FilterNorm().roles && combine == Combine::mean, roles, combine);
    }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>&) const {
        return pruning::detail::score_by_norm<T>(norm, roles, combine);
    }
    /// @}
};

/// |gamma| of the batch norm behind the filter. Source: Liu et al. 2017, "Network Slimming", section 3.
struct BatchNormScale {
    Combine combine = Combine::mean; ///< of the scales of a channel that several batch norms scale

    /// As of every criterion. NaN for a channel without batch norm.
    /// @{
    std::string name() const {
        return pruning::detail::criterion_name("batch-norm scale", combine == Combine::mean, {ChannelRole::scales},
                                               combine);
    }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>&) const {
        return pruning::detail::score_by_norm<T>(SliceNorm::l1, {ChannelRole::scales}, combine);
    }
    /// @}
};

/// l2 norm of the filter with its batch norm folded in: |gamma| ||w|| / sqrt(running_var + epsilon).
///
/// A batch norm makes the raw norm meaningless, since it rescales whatever the filter gives. Filters without one count
/// by their own norm.
struct FoldedNorm {
    double epsilon = 1e-5;           ///< of the network's batch norms
    Combine combine = Combine::mean; ///< of the filters of a channel that several layers make

    /// As of every criterion.
    /// @{
    std::string name() const {
        return pruning::detail::criterion_name("batch-norm-folded l2", combine == Combine::mean, {ChannelRole::makes},
                                               combine);
    }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return pruning::detail::score_by_folded_norm<T>(graph, epsilon, combine);
    }
    /// @}
};

ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_norm);
ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_folded_norm);

} // namespace espalier::inline ESPALIER_BACKEND
