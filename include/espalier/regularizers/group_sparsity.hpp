#pragma once

#include <espalier/regularizers/coupled_channels.hpp>

#include <algorithm>

namespace espalier::inline ESPALIER_BACKEND {

/// How `group_sparsity` shrinks channels.
struct GroupSparsityOptions {
    double alpha = 4; ///< at least 0; the least channel of a group is pulled 2^alpha times as hard as the largest
    Norm norm = Norm::squared_l2; ///< of a channel: squared as in the paper, or l2, a group lasso that reaches 0
};

namespace detail {
/// What `shrinkage` makes of the squared l2 norms.
inline Tensor<double> strengths_of(const ChannelMaps& maps, const Tensor<double>& importance, double alpha) {
    Tensor<double> strength = empty_like(importance);
    dispatch(importance.device(), [&](auto on) {
        kernels::relative_strengths(on, alpha, flat(importance), flat(maps.members.first), flat(maps.members.numbers),
                                    mutable_flat(strength));
    });
    return strength;
}
} // namespace detail

/// Strength with which each channel shrinks: 2^(alpha * (I_max - I_c) / (I_max - I_min)), I being the squared l2 norm
/// of a channel and the extremes those of its group; 1 in a group whose channels are all alike. Waits for a GPU.
/// @throws ShapeError if the channels do not fit their variables
template <class T> std::vector<double> shrinkage(const CoupledChannels<T>& channels, double alpha) {
    detail::check_channels("shrinkage", channels);
    const auto maps = detail::maps_of(channels);
    const Tensor<double> importance = detail::channel_sums(channels, *maps, Norm::squared_l2);
    return detail::strengths_of(*maps, importance, alpha).to_vector();
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
    detail::check_channels("group_sparsity", channels);
    const auto maps = detail::maps_of(channels);
    const Tensor<double> importance = detail::channel_sums(channels, *maps, Norm::squared_l2);
    const Tensor<double> sums = options.norm == Norm::l1 ? detail::channel_sums(channels, *maps, Norm::l1) : importance;
    return detail::penalise(channels, maps, sums, detail::strengths_of(*maps, importance, options.alpha), options.norm);
}

ESPALIER_COMPILED_FUNCTION(shrinkage);

} // namespace espalier::inline ESPALIER_BACKEND
