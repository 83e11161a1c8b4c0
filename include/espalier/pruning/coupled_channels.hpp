#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/plan.hpp>
#include <espalier/regularizers/coupled_channels.hpp>

#include <algorithm>
#include <functional>
#include <map>
#include <utility>
#include <vector>

// What joins pruning and regularizers: these lie below and know no graph, so the graph's channels go down to them as a
// plain value.

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// What of a channel a penalty takes by default: filters, batch-norm scales, and the inputs that eat it.
inline std::vector<ChannelRole> penalised_roles() {
    return {ChannelRole::makes, ChannelRole::scales, ChannelRole::eats};
}

namespace detail {

template <class T>
CoupledChannels<T> coupled(const ChannelGraph<T>& graph, const std::vector<ChannelRole>& roles,
                           const std::function<bool(const Channel<T>&)>& wanted) {
    expect(graph.joins() != Joins::mixed, "coupled_channels: expected joins that are coupled or indexed, got ",
           graph.joins(), ", where an entry is in two channels");
    CoupledChannels<T> result;
    std::map<std::pair<const Node<T>*, int>, std::size_t> known; // position in `axes`
    Index groups = 0;
    for (const ChannelGroup<T>& group : graph.groups()) {
        if (!group.blocked.empty()) continue;
        for (const Channel<T>& channel : group.channels) {
            if (!wanted(channel)) continue;
            for (const ChannelMember<T>& m : channel.members) {
                if (std::find(roles.begin(), roles.end(), m.role) == roles.end()) continue;
                const auto [it, is_new] = known.try_emplace({m.variable.node().get(), m.axis}, result.axes.size());
                if (is_new)
                    result.axes.push_back({m.variable, m.axis,
                                           std::vector<Index>(static_cast<std::size_t>(m.variable.size(m.axis)), -1)});
                result.axes[it->second].channel[static_cast<std::size_t>(m.entry)] = result.count();
            }
            result.group.push_back(groups);
        }
        ++groups;
    }
    return result;
}

} // namespace detail

/// The channels of a graph that may be cut, with their entries in the given roles: for `group_sparsity`.
/// @throws ShapeError for mixed joins, under which a branch's channel is one of its own and one of its stream
template <class T>
CoupledChannels<T> coupled_channels(const ChannelGraph<T>& graph,
                                    const std::vector<ChannelRole>& roles = penalised_roles()) {
    return detail::coupled<T>(graph, roles, [](const Channel<T>&) { return true; });
}
/// Those of a model's channels that a plan would cut, what dies with a branch included: for `GrowingL2`.
/// @throws StateError if the plan is not one of this model, ShapeError as above
template <class M>
CoupledChannels<typename M::Scalar> coupled_channels(const Plan& plan, M& model,
                                                     const std::vector<ChannelRole>& roles = penalised_roles()) {
    using T = typename M::Scalar;
    const ChannelGraph<T> graph = channel_graph(model, plan.image, plan.joins);
    const auto removal = detail::removal(plan, graph);
    return detail::coupled<T>(graph, roles, [&](const Channel<T>& channel) { return removal.removes(channel); });
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::coupled);

} // namespace espalier::inline ESPALIER_BACKEND
