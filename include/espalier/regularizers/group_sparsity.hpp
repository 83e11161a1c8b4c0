#pragma once

#include <espalier/regularizers/coupled_channels.hpp>

#include <algorithm>

namespace espalier::inline ESPALIER_BACKEND {

/// How `group_sparsity` shrinks channels.
struct GroupSparsityOptions {
    double alpha = 4; ///< at least 0; the least channel of a group is pulled 2^alpha times as hard as the largest
    Norm norm = Norm::squared_l2; ///< of a channel: squared as in the paper, or l2, a group lasso that reaches 0
};

/// Strength with which each channel shrinks: 2^(alpha * (I_max - I_c) / (I_max - I_min)), I being the squared l2 norm
/// of a channel and the extremes those of its group; 1 in a group whose channels are all alike.
/// @throws ShapeError if the channels do not fit their variables
template <class T> std::vector<double> shrinkage(const CoupledChannels<T>& channels, double alpha) {
    const std::vector<double> importance = channel_norms(channels, Norm::squared_l2);
    Index groups = 0;
    for (const Index g : channels.group) groups = std::max(groups, g + 1);
    std::vector<std::pair<double, double>> range(static_cast<std::size_t>(groups), {HUGE_VAL, 0.0}); // least, largest
    const auto range_of = [&](std::size_t c) -> auto& { return range[static_cast<std::size_t>(channels.group[c])]; };
    for (std::size_t c = 0; c < importance.size(); ++c)
        range_of(c) = {std::min(range_of(c).first, importance[c]), std::max(range_of(c).second, importance[c])};
    std::vector<double> strength;
    for (std::size_t c = 0; c < importance.size(); ++c) {
        const auto [least, largest] = range_of(c);
        strength.push_back(largest > least ? std::exp2(alpha * (largest - importance[c]) / (largest - least)) : 1);
    }
    return strength;
}

/// y = sum over channels c of strength_c * norm_c: sparse training over everything that goes when a channel goes.
///
/// Strengths are those of `shrinkage` at this moment, constants for the gradient: weak channels are pulled towards 0,
/// strong ones nearly left alone. Give it the channels of `pruning::coupled_channels` (filters, batch-norm scales and
/// the inputs that eat the channel) and multiply it by a weight.
/// @throws ShapeError for a negative alpha, or if the channels do not fit their variables
/// Source: Fang et al. 2023, "DepGraph: Towards Any Structural Pruning" (arXiv 2301.12900), whose norm is
/// the squared one and whose alpha is 4.
template <class T> Var<T> group_sparsity(const CoupledChannels<T>& channels, const GroupSparsityOptions& options = {}) {
    expect(options.alpha >= 0, "group_sparsity: expected alpha of at least 0, got ", options.alpha);
    return channel_penalty(channels, shrinkage(channels, options.alpha), options.norm);
}

ESPALIER_COMPILED_FUNCTION(shrinkage);

} // namespace espalier::inline ESPALIER_BACKEND
