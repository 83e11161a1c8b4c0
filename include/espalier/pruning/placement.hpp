#pragma once

#include <espalier/ops/join.hpp>
#include <espalier/pruning/trace.hpp>

#include <memory>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning::detail {

/// Which channels of a wide map are those of a narrow one, by the list in a state: where a join adds a branch into its
/// stream, where a shortcut places its channels among zeros, what a split takes.
template <class T> struct Placement {
    const Node<T>* node;   ///< the wide one
    const Node<T>* branch; ///< the narrow one
    std::shared_ptr<JoinState<T>> state;
    bool adds; ///< a residual join (it has a constant)
};

template <class T> std::vector<Placement<T>> placements(const Trace<T>& trace) {
    std::vector<Placement<T>> all;
    for (const auto& node : trace.nodes)
        if (node->join) {
            const std::string op = node->op;
            const bool takes = op == "slice";
            all.push_back({takes ? node->inputs[0].get() : node.get(), takes ? node.get() : node->inputs[1].get(),
                           node->join, op == "join"});
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
