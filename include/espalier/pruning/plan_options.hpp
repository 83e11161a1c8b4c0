#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/criteria.hpp>
#include <espalier/pruning/original.hpp>
#include <espalier/pruning/ranking.hpp>

#include <array>
#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// What to cut. Exactly one target is set, or else each scope has a ratio; every `keep_...` is a share in [0, 1] of the
/// original network, which is the model as it is unless `original` says otherwise.
template <class T> struct PlanOptions {
    Criterion<T> criterion = FilterNorm{};      ///< what a channel is worth
    std::optional<double> keep_channels = {};   ///< of all that may be cut, if the criterion has scores for them or not
    std::optional<double> keep_parameters = {}; ///< of the network's parameters
    std::optional<double> keep_macs = {};       ///< of the network's multiply-adds
    std::optional<double> keep_latency = {};    ///< of the milliseconds that `latencies` predicts
    std::optional<double> threshold = {};       ///< cut every channel whose (normalized) score is below
    Ranking ranking = Ranking::global;          ///< who competes with whom
    Normalization normalization = Normalization::mean; ///< of the scores of each group
    std::vector<Scope> scopes = {};                    ///< groups that compete among themselves
    Joins joins = Joins::coupled;                      ///< how residual joins couple channels
    Index minimum_width = 1;  ///< channels that every group keeps; the end of a branch may lose all as well
    double maximum_ratio = 1; ///< largest share of a group's original width that may go, in [0, 1]
    Index round_to = 1;       ///< widths are rounded up to a multiple, never beyond what is there and never to 0
    const LatencyTable* latencies = nullptr; ///< what predicts milliseconds; outlives the call
    std::optional<Original> original = {};   ///< what shares and ratios are relative to, if cuts came before
};

namespace detail {

/// @throws ShapeError for numbers out of range; StateError for parts that do not fit each other
template <class T> void check_options(const PlanOptions<T>& o) {
    const auto share = [](double value) { return value >= 0 && value <= 1; };
    int targets = o.threshold.has_value() ? 1 : 0;
    for (const auto& keep : std::array{o.keep_channels, o.keep_parameters, o.keep_macs, o.keep_latency}) {
        targets += keep.has_value() ? 1 : 0;
        expect(!keep || share(*keep), "plan: expected a share to keep in [0,1], got ", keep.value_or(0));
    }
    bool fixed = false;
    for (const Scope& scope : o.scopes) {
        fixed = fixed || scope.ratio.has_value();
        expect(!scope.ratio || share(*scope.ratio), "plan: expected a ratio in [0,1] for scope '", scope.groups,
               "', got ", scope.ratio.value_or(0));
        expect(!scope.maximum_ratio || share(*scope.maximum_ratio), "plan: expected maximum_ratio in [0,1] for scope '",
               scope.groups, "', got ", scope.maximum_ratio.value_or(0));
        expect(scope.minimum_width.value_or(1) >= 1, "plan: expected minimum_width of at least 1 for scope '",
               scope.groups, "', got ", scope.minimum_width.value_or(1));
    }
    expect(
        targets == 1 || (targets == 0 && fixed),
        "plan: expected exactly one of keep_channels, keep_parameters, keep_macs, keep_latency, threshold (or scopes "
        "with ratios); got ",
        targets);
    expect(share(o.maximum_ratio), "plan: expected maximum_ratio in [0,1], got ", o.maximum_ratio);
    expect(o.minimum_width >= 1, "plan: expected minimum_width of at least 1, got ", o.minimum_width);
    expect(o.round_to >= 1, "plan: expected round_to of at least 1, got ", o.round_to);
    expect(!o.keep_latency || o.latencies, "plan: expected latencies with keep_latency, got none (sweep_widths)");
    expect<StateError>(!o.original || o.original->joins == o.joins, "plan: expected joins ", o.joins,
                       " of the original, got ", o.original ? o.original->joins : o.joins);
    expect<StateError>(!o.keep_latency || !o.original || o.original->milliseconds > 0,
                       "plan: expected an original with a predicted latency, got none");
    expect(!o.threshold || o.ranking == Ranking::global,
           "plan: expected a global ranking with a threshold, got a local one");
}

} // namespace detail
} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::check_options);

} // namespace espalier::inline ESPALIER_BACKEND
