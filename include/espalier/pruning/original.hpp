#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/cost.hpp>
#include <espalier/pruning/groups.hpp>
#include <espalier/pruning/latency_table.hpp>

#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// What shares and ratios of a plan are relative to: the network before its first cut.
///
/// Taken once and given to every later plan (`PlanOptions::original`), so that half of the MACs is half of the first
/// network's, however many cuts lie between.
struct Original {
    Joins joins = Joins::coupled;                      ///< whose groups these are
    Cost cost;                                         ///< of one image
    Index channels = 0;                                ///< of all groups that may be cut
    double milliseconds = 0;                           ///< predicted by a latency table; 0: not asked for
    std::vector<std::pair<std::string, Index>> widths; ///< of the groups that may be cut, by name

    /// Width of a group, or of the one that an earlier cut split it from: `conv` for `conv#2`.
    /// @throws StateError if the original had none of that name
    Index width(const std::string& group) const {
        for (const std::string& whole : {group, group.substr(0, group.rfind('#'))})
            for (const auto& [name, width] : widths)
                if (name == whole) return width;
        throw StateError("Original::width: expected a group of the original network, got '" + group + "'");
    }
};

namespace detail {

template <class T>
Original original_of_graph(const ChannelGraph<T>& graph, const Module<T>& model, const LatencyTable* table) {
    const auto now = [](const Var<T>& var) { return var.shape(); };
    Original original;
    original.joins = graph.joins();
    original.cost = cost<T>(graph.trace(), model, now);
    if (table) original.milliseconds = predicted_latency<T>(*table, graph.trace(), now);
    for (const ChannelGroup<T>& group : graph.groups())
        if (group.blocked.empty()) {
            original.channels += group.width();
            original.widths.emplace_back(group.name, group.width());
        }
    return original;
}

} // namespace detail

/// The model as it is now, for images [H,W,C], as what later plans with these joins are relative to; with a table, its
/// predicted latency too.
template <class M>
Original original(M& model, const Shape& image, Joins joins = Joins::coupled, const LatencyTable* table = nullptr) {
    using T = typename M::Scalar;
    return detail::original_of_graph<T>(channel_graph(model, image, joins), model, table);
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::original_of_graph);

} // namespace espalier::inline ESPALIER_BACKEND
