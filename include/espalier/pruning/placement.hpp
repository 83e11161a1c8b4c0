#pragma once

#include <espalier/ops/join.hpp>
#include <espalier/pruning/trace.hpp>

#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning::detail {

/// Where a recorded node places a branch's channels into a wider stream, and through which state.
template <class T> struct Placement {
    const Node<T>* node;
    const Node<T>* branch;
    bool adds; ///< a residual join (it has a constant); otherwise channels that nothing is placed on are zero
};

template <class T> std::vector<Placement<T>> placements(const Trace<T>& trace) {
    std::vector<Placement<T>> all;
    for (const auto& node : trace.nodes)
        if (node->join) {
            const bool adds = std::string(node->op) == "join"; // else `place`
            all.push_back({node.get(), node->inputs[1].get(), adds});
        }
    return all;
}

/// The variable whose entry j is all that is left of branch channel j when its filter is zero: the shift of the op that
/// ends the branch. Undefined when that op has none.
template <class T> Var<T> ending_shift(const Placement<T>& placement, const Trace<T>& trace) {
    for (const ChannelLink& link : placement.branch->rule.links())
        if (link.role == ChannelRole::shifts) {
            const auto it =
                trace.variables.find(placement.branch->inputs[static_cast<std::size_t>(link.operand)].get());
            if (it != trace.variables.end()) return it->second.var;
        }
    return {};
}

} // namespace pruning::detail
} // namespace espalier::inline ESPALIER_BACKEND
