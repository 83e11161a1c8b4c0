#pragma once

#include <espalier/pruning/plan.hpp>

#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning::detail {

/// Entries of a variable that a mask must leave alone: the shift that an indexed join keeps as its constant.
template <class T> std::set<const Node<T>*> kept_shifts(const ChannelGraph<T>& graph) {
    std::set<const Node<T>*> kept;
    if (graph.joins() != Joins::coupled)
        for (const Placement<T>& p : placements(graph.trace()))
            if (const Var<T> shift = p.adds ? ending_shift(p, graph.trace()) : Var<T>(); shift.defined())
                kept.insert(shift.node().get());
    return kept;
}

/// Calls f for every entry that makes, scales, shifts or describes a removed channel: filter, bias, gamma, beta and
/// running mean together. What remains of an indexed branch's channel is the shift that its join will keep.
template <class T, class F> void each_silenced(const ChannelGraph<T>& graph, const Removal<T>& removal, const F& f) {
    const auto spared = kept_shifts(graph);
    for (const auto& group : graph.groups())
        for (const auto& channel : group.channels) {
            if (!removal.removes(channel)) continue;
            for (const auto& m : channel.members) {
                if (m.role == ChannelRole::eats || m.role == ChannelRole::variance) continue;
                if (m.role == ChannelRole::shifts && group.is_branch && spared.count(m.variable.node().get())) continue;
                f(m);
            }
        }
}

/// Sets the slice of x that a member is: one filter, one scale.
template <class T, class X> void fill_slice(const ChannelMember<T>& m, Tensor<X>& x, X value) {
    const Index outer = x.shape().product(0, m.axis), inner = x.shape().product(m.axis + 1, x.rank());
    for (Index o = 0; o < outer; ++o)
        std::fill_n(x.mutable_data() + (o * x.size(m.axis) + m.entry) * inner, inner, value);
}

/// Zeroes what `each_silenced` names.
template <class T> void mask(const ChannelGraph<T>& graph, const Removal<T>& removal) {
    each_silenced(graph, removal, [](const ChannelMember<T>& m) {
        Var<T> variable = m.variable;
        fill_slice(m, variable.mutable_value(), T(0));
    });
}

} // namespace pruning::detail

} // namespace espalier::inline ESPALIER_BACKEND
