#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/pruning/filter_norm.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// Sum of the Euclidean distances of each point to all others. All points have the same number of coordinates.
std::vector<double> distance_sums(const std::vector<std::vector<double>>& points);

/// score[i] = x[i] / sum of all x[j] that come at or after i in ascending order; equal ones in the order of their
/// index. 0 / 0 counts as 0; a NaN makes all scores NaN.
std::vector<double> lamp_scores(const std::vector<double>& x);

namespace detail {

template <class T> Score<T> score_by_geometric_median(const ChannelGraph<T>& graph, ChannelRoles roles, Combine rule) {
    return score_groups(graph, [&](const ChannelGroup<T>& group) {
        std::vector<std::vector<std::vector<double>>> points; // of each slice, for each channel its elements
        for (const Channel<T>& channel : group.channels) {
            std::size_t s = 0; // channels of a group live in the same axes, so slices correspond
            each_slice(channel, roles, [&](ChannelSlice<T> slice) {
                if (s == points.size()) points.emplace_back();
                auto& point = points[s++].emplace_back();
                each_value(slice, [&](double v) { point.push_back(v); });
            });
        }
        std::vector<Combiner> scores(group.channels.size(), Combiner(rule));
        for (const auto& of_slice : points) {
            const std::vector<double> sums = distance_sums(of_slice);
            for (std::size_t c = 0; c < sums.size(); ++c) scores[c].add(sums[c]);
        }
        std::vector<double> values;
        for (const Combiner& score : scores) values.push_back(score.value());
        return values;
    });
}

template <class T> Score<T> score_by_lamp(const ChannelGraph<T>& graph, ChannelRoles roles, Combine rule) {
    const Score<T> square = score_by_norm<T>(SliceNorm::squared_l2, roles, rule);
    return score_groups(graph, [&](const ChannelGroup<T>& group) {
        std::vector<double> squares;
        for (const Channel<T>& channel : group.channels) squares.push_back(square(channel));
        return lamp_scores(squares);
    });
}

} // namespace detail
} // namespace pruning

/// Distance from the geometric median: sum of the l2 distances of the filter to all other filters of its layer that
/// belong to the same group. A filter among others like it is redundant, however large it is.
/// Source: He et al. 2019, "Filter Pruning via Geometric Median", section 3.3.
struct GeometricMedian {
    ChannelRoles roles = {ChannelRole::makes}; ///< slices that are compared, each with its like of other channels
    Combine combine = Combine::mean;           ///< of the sums of each slice

    /// As of every criterion. NaN for a channel without such a slice; 0 in a group of one channel.
    /// @{
    std::string name() const {
        return pruning::detail::criterion_name(
            "geometric median", roles == GeometricMedian().roles && combine == Combine::mean, roles, combine);
    }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return pruning::detail::score_by_geometric_median(graph, roles, combine);
    }
    /// @}
};

/// Squared l2 norm over the sum of those of the group's channels that are not smaller: the share that a channel would
/// have of what is left when all smaller ones are gone. In (0, 1], and 1 for the largest of each group.
///
/// Made to be compared between layers as it is: use `Normalization::none`.
/// Source: Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning", section 2, with channels of a
/// group for weights of a layer.
struct Lamp {
    ChannelRoles roles = {ChannelRole::makes}; ///< slices whose squared norms count
    Combine combine = Combine::mean;           ///< of those norms, before they are compared

    /// As of every criterion. NaN for a channel without such a slice; 0 for one that is zero.
    /// @{
    std::string name() const {
        return pruning::detail::criterion_name("lamp", roles == Lamp().roles && combine == Combine::mean, roles,
                                               combine);
    }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return pruning::detail::score_by_lamp(graph, roles, combine);
    }
    /// @}
};

ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_geometric_median);
ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_lamp);

#if ESPALIER_BODIES
ESPALIER_BODY std::vector<double> pruning::distance_sums(const std::vector<std::vector<double>>& points) {
    std::vector<double> sums(points.size(), 0);
    parallel_for(static_cast<Index>(points.size()), [&](Index i) {
        const auto& a = points[static_cast<std::size_t>(i)];
        double sum = 0;
        for (const auto& b : points) { // in order, and the point itself at distance 0: same bits on any thread count
            double square = 0;
            for (std::size_t e = 0; e < a.size(); ++e) square += (a[e] - b[e]) * (a[e] - b[e]);
            sum += std::sqrt(square);
        }
        sums[static_cast<std::size_t>(i)] = sum;
    });
    return sums;
}

ESPALIER_BODY std::vector<double> pruning::lamp_scores(const std::vector<double>& x) {
    std::vector<double> scores(x.size(), 0);
    for (const double v : x)
        if (std::isnan(v)) return std::vector<double>(x.size(), v); // which no order can be made of
    std::vector<std::size_t> order(x.size());
    std::iota(order.begin(), order.end(), std::size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return x[a] < x[b]; });
    double rest = 0;
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
        rest += x[*it];
        if (rest > 0) scores[*it] = x[*it] / rest;
    }
    return scores;
}
#endif

} // namespace espalier::inline ESPALIER_BACKEND
