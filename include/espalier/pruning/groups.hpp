#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/trace.hpp>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// How residual joins couple channels.
enum class Joins {
    coupled, ///< a branch and its stream have the same channels: cutting one cuts the whole stream (every block of a
             ///< stage)
    indexed, ///< streams keep their width; a branch's last filters are cut alone, and its join becomes an indexed one
    mixed,   ///< both: whole channels of streams compete with single filters of branches, and whichever is worth less
             ///< goes
};

using espalier::to_text; // beside which this namespace has its own
/// `coupled`, `indexed` or `mixed`, as plans and flags spell it.
inline std::string to_text(Joins joins) {
    return joins == Joins::coupled ? "coupled" : joins == Joins::indexed ? "indexed" : "mixed";
}

/// One entry of one axis of one parameter or buffer.
template <class T> struct ChannelMember {
    Var<T> variable;  ///< parameter or buffer
    std::string name; ///< its path from the model
    int axis;         ///< counted from the first
    Index entry;      ///< along the axis
    ChannelRole role; ///< what the entry does to the channel
};

/// All that has to go when one channel goes.
template <class T> struct Channel {
    std::vector<ChannelMember<T>> members; ///< the entries of all parameters and buffers; of a stream's channel under
                                           ///< `Joins::mixed`, those of the branches that are added to it as well
    std::size_t id;                        ///< class of the union-find, for `ChannelGraph::channel`
};

/// Channels that live in the same axes of the same parameters, and so are ranked against each other.
template <class T> struct ChannelGroup {
    std::string name;                 ///< the first weight that makes them: `stage1.0.conv1`
    std::vector<Channel<T>> channels; ///< in the order of that weight's filters
    std::string blocked;              ///< why none can be cut; empty if they can
    bool is_branch = false;           ///< the end of a residual branch that may go alone, all of it

    /// Channels of this group.
    Index width() const { return static_cast<Index>(channels.size()); }
};

/// Which entries of which tensors are one channel, worked out from the channel rules of a recorded graph.
///
/// Every entry of every axis that a rule mentions is an element of a union-find; each link unites entries one by one,
/// so concats, slices, flattening and modules used twice need no special case. What a class holds is what a cut
/// removes.
template <class T> class ChannelGraph {
public:
    /// Reads the rules of all nodes and unites what they name.
    explicit ChannelGraph(Trace<T> trace, Joins joins = Joins::coupled);

    /// What it was made from.
    /// @{
    const Trace<T>& trace() const { return trace_; }
    Joins joins() const { return joins_; }
    /// @}
    /// All groups, in the order of the graph, blocked ones included.
    const std::vector<ChannelGroup<T>>& groups() const { return groups_; }

    /// Class of an entry of a node's axis (negative axes count from the last).
    std::size_t channel(const Node<T>* node, int axis, Index entry) const {
        return root(base(node, axis) + static_cast<std::size_t>(entry));
    }

private:
    using AxisKey = std::pair<const Node<T>*, int>;

    static AxisKey key(const Node<T>* node, int axis) { return {node, axis < 0 ? axis + node->shape.rank() : axis}; }
    std::size_t base(const Node<T>* node, int axis) const { return bases_.at(key(node, axis)); }
    std::size_t claim(const Node<T>* node, int axis) {
        const auto [it, is_new] = bases_.try_emplace(key(node, axis), parents_.size());
        if (is_new) {
            axes_.push_back(it->first);
            parents_.resize(parents_.size() + static_cast<std::size_t>(node->shape[axis]));
            std::iota(parents_.begin() + static_cast<std::ptrdiff_t>(it->second), parents_.end(), it->second);
        }
        return it->second;
    }
    std::size_t root(std::size_t i) const {
        while (parents_[i] != i) i = parents_[i];
        return i;
    }
    void unite(std::size_t a, std::size_t b) {
        const std::size_t x = root(a), y = root(b), first = std::min(x, y); // the first axis seen represents the class
        parents_[x] = parents_[y] = parents_[a] = parents_[b] = first;
    }

    void block(const Node<T>* node, int axis, const std::string& reason, Index begin = 0, Index count = -1) {
        if (node->shape.rank() == 0) return;
        const std::size_t first = claim(node, axis);
        const Index end = count < 0 ? node->shape[axis] : begin + count;
        for (Index i = begin; i < end; ++i) blocked_.emplace_back(first + static_cast<std::size_t>(i), reason);
    }
    /// Neither the image nor what a model holds: a tensor that the code of `forward` makes, which surgery can't reach.
    bool is_constant(const Node<T>* node) const {
        return node->is_leaf() && node != trace_.input.get() && !trace_.variables.count(node);
    }

    void read_links(const Node<T>& node);
    /// A class, and under mixed joins those of all streams that it is added into: whose removal takes it along.
    std::set<std::size_t> with_streams(std::size_t id) const;
    void collect_groups();
    static Index first_made(const Channel<T>& channel) {
        for (const auto& m : channel.members)
            if (m.role == ChannelRole::makes) return m.entry;
        return 0;
    }
    static std::string without_suffix(const std::string& name) {
        const std::string suffix = ".weight";
        return name.size() > suffix.size() && name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size())
                                                                     : name;
    }

    Trace<T> trace_;
    Joins joins_;
    std::map<AxisKey, std::size_t> bases_;
    std::vector<AxisKey> axes_; // in the order of their bases
    std::vector<std::size_t> parents_, branch_ends_;
    std::vector<std::pair<std::size_t, std::size_t>> joined_; // elements of branches and streams, under mixed joins
    std::map<std::size_t, std::set<std::size_t>> streams_;    // their classes
    std::map<AxisKey, ChannelRole> roles_;
    std::vector<std::pair<std::size_t, std::string>> blocked_;
    std::vector<ChannelGroup<T>> groups_;
};

template <class T>
ChannelGraph<T>::ChannelGraph(Trace<T> trace, Joins joins) : trace_(std::move(trace)), joins_(joins) {
    for (const auto& node : trace_.nodes) read_links(*node);
    block(trace_.input.get(), -1, "input");
    block(trace_.output.node().get(), -1, "output");
    for (std::size_t i = 0; i < parents_.size(); ++i) parents_[i] = root(i);
    for (const auto& [branch, stream] : joined_) streams_[root(branch)].insert(root(stream));
    collect_groups();
}

template <class T> void ChannelGraph<T>::read_links(const Node<T>& node) {
    if (node.is_leaf()) return;
    const auto operand = [&](int i) {
        return i == ChannelRule::output ? &node : node.inputs[static_cast<std::size_t>(i)].get();
    };
    if (!node.rule.is_declared()) {
        const std::string reason = join_text("op ", node.op, " declares no channel rule (docs/custom_op.md)");
        block(&node, -1, reason);
        for (const auto& input : node.inputs)
            if (!trace_.variables.count(input.get())) block(input.get(), -1, reason);
    }
    for (const auto& [i, begin, count, reason] : node.rule.blocked()) block(operand(i), -1, reason, begin, count);
    if (joins_ == Joins::indexed && node.join && std::string(node.op) == "join") // where no branch is left, too
        block(&node, -1, "residual stream of indexed joins");
    for (const ChannelLink& link : node.rule.links()) {
        const Node<T>*a = operand(link.operand), *b = operand(link.other);
        if (a->shape.rank() == 0 || b->shape.rank() == 0) continue;
        const Index extent = a->shape[link.axis], other = b->shape[link.other_axis];
        const bool broadcast = (extent == 1) != (other == 1) && link.period < 0 && link.count < 0;
        if (broadcast) continue;
        for (const auto& [side, axis] : {std::pair(a, link.axis), std::pair(b, link.other_axis)})
            if (is_constant(side)) block(side, axis, join_text("constant operand of ", node.op));
        const std::size_t from = claim(a, link.axis), to = claim(b, link.other_axis);
        if (trace_.variables.count(a)) roles_.emplace(key(a, link.axis), link.role);
        const Index count = link.count < 0 ? extent - link.begin : link.count;
        for (Index i = 0; i < count; ++i) {
            const std::size_t x = from + static_cast<std::size_t>(link.begin + i);
            const std::size_t y =
                to + static_cast<std::size_t>(link.other_begin + (link.period > 0 ? i % link.period : i));
            if (link.joined && joins_ == Joins::indexed) {
                branch_ends_.push_back(x);
                blocked_.emplace_back(y, "residual stream of indexed joins");
            } else if (link.joined && joins_ == Joins::mixed) {
                branch_ends_.push_back(x);
                joined_.emplace_back(x, y);
            } else {
                unite(x, y);
            }
        }
    }
}

template <class T> std::set<std::size_t> ChannelGraph<T>::with_streams(std::size_t id) const {
    std::set<std::size_t> all;
    for (std::vector<std::size_t> open{id}; !open.empty();) {
        const std::size_t next = open.back();
        open.pop_back();
        if (!all.insert(next).second) continue;
        if (const auto it = streams_.find(next); it != streams_.end())
            open.insert(open.end(), it->second.begin(), it->second.end());
    }
    return all;
}

template <class T> void ChannelGraph<T>::collect_groups() {
    // A class's signature: the parameter axes it lives in and what blocks it. Classes of one signature are a group.
    struct Class {
        Channel<T> channel;
        std::set<std::string> reasons;
        bool is_branch = false;
    };
    std::map<std::size_t, Class> classes;
    std::map<const Node<T>*, std::size_t> position; // of the op that first uses a variable, to order groups by depth
    for (std::size_t n = 0; n < trace_.nodes.size(); ++n)
        for (const auto& input : trace_.nodes[n]->inputs) position.try_emplace(input.get(), n);
    std::vector<AxisKey> axes = axes_;
    std::stable_sort(axes.begin(), axes.end(),
                     [&](const AxisKey& a, const AxisKey& b) { return position[a.first] < position[b.first]; });
    for (const AxisKey& axis : axes) {
        const auto variable = trace_.variables.find(axis.first);
        if (variable == trace_.variables.end()) continue;
        const auto role = roles_.find(axis);
        for (Index entry = 0; entry < axis.first->shape[axis.second]; ++entry) {
            for (const std::size_t id : with_streams(channel(axis.first, axis.second, entry)))
                classes[id].channel.members.push_back({variable->second.var, variable->second.name, axis.second, entry,
                                                       role == roles_.end() ? ChannelRole::rides : role->second});
        }
    }
    for (const auto& [element, reason] : blocked_)
        for (const std::size_t id : with_streams(root(element)))
            if (const auto it = classes.find(id); it != classes.end()) it->second.reasons.insert(reason);
    for (const std::size_t element : branch_ends_)
        if (const auto it = classes.find(root(element)); it != classes.end()) it->second.is_branch = true;

    using Signature = std::pair<std::vector<std::pair<std::string, int>>, std::set<std::string>>;
    std::map<Signature, std::size_t> known;
    std::vector<std::pair<std::size_t, std::size_t>> depth; // of each group, by its first maker
    for (auto& [id, c] : classes) {
        const auto maker = std::find_if(c.channel.members.begin(), c.channel.members.end(),
                                        [](const auto& m) { return m.role == ChannelRole::makes; });
        if (maker == c.channel.members.end()) continue; // the image's channels: nothing makes them
        Signature signature;
        for (const auto& m : c.channel.members) signature.first.emplace_back(m.name, m.axis);
        std::sort(signature.first.begin(), signature.first.end());
        signature.second = c.reasons;
        const auto [it, is_new] = known.try_emplace(signature, groups_.size());
        if (is_new) {
            ChannelGroup<T> group;
            group.name = without_suffix(maker->name);
            group.is_branch = c.is_branch;
            for (const std::string& reason : c.reasons) group.blocked += (group.blocked.empty() ? "" : "; ") + reason;
            depth.emplace_back(position[maker->variable.node().get()], groups_.size());
            groups_.push_back(std::move(group));
        }
        c.channel.id = id;
        groups_[it->second].channels.push_back(std::move(c.channel));
    }
    std::sort(depth.begin(), depth.end());
    std::vector<ChannelGroup<T>> ordered;
    std::map<std::string, int>
        used; // one layer can end several groups, as the stem of a network with option-A shortcuts
    for (const auto& [at, index] : depth) {
        ChannelGroup<T> group = std::move(groups_[index]);
        if (const int copy = used[group.name]++; copy > 0) group.name += "#" + std::to_string(copy + 1);
        std::stable_sort(group.channels.begin(), group.channels.end(),
                         [](const Channel<T>& a, const Channel<T>& b) { return first_made(a) < first_made(b); });
        ordered.push_back(std::move(group));
    }
    groups_ = std::move(ordered);
}

/// The channel groups of a model for images [H,W,C].
template <class M>
ChannelGraph<typename M::Scalar> channel_graph(M& model, const Shape& image, Joins joins = Joins::coupled) {
    return ChannelGraph<typename M::Scalar>(trace(model, image), joins);
}

} // namespace pruning

ESPALIER_COMPILED_CLASS(pruning::ChannelGraph);

} // namespace espalier::inline ESPALIER_BACKEND
