#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/cost.hpp>
#include <espalier/pruning/groups.hpp>
#include <espalier/pruning/placement.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// What a plan says of one channel group.
struct PlannedGroup {
    std::string name;           ///< as of the channel group
    Index width = 0;            ///< channels before the cut
    std::vector<Index> kept;    ///< channels that stay, ascending
    std::vector<double> scores; ///< of each channel, as ranked; empty if the group is blocked
    std::string note;           ///< why nothing was cut, or less than the ranking asked for; empty if neither
    bool blocked = false;       ///< can't be cut at all: `note` says why

    /// Channels that go.
    Index cut() const { return width - static_cast<Index>(kept.size()); }
};

/// Which channels of which groups go: made by `plan`, printed, saved, edited, and carried out by `apply`.
struct Plan {
    std::string criterion;                                  ///< name of what ranked
    Joins joins = Joins::coupled;                           ///< how residual joins couple
    Shape image;                                            ///< [H,W,C] that the network was traced with
    std::vector<PlannedGroup> groups;                       ///< all groups of the graph, in its order
    Cost before, after;                                     ///< `after` is a prediction; the certificate counts again
    double milliseconds_before = 0, milliseconds_after = 0; ///< predicted by a latency table; 0 without one

    /// The entry of one group. @throws StateError if there is none of that name
    /// @{
    const PlannedGroup& group(const std::string& name) const {
        for (const PlannedGroup& g : groups)
            if (g.name == name) return g;
        throw StateError("Plan::group: expected a group of this plan, got " + name);
    }
    PlannedGroup& group(const std::string& name) {
        return const_cast<PlannedGroup&>(static_cast<const Plan&>(*this).group(name));
    }
    /// @}
    /// Channels that go, over all groups.
    Index channels_cut() const {
        Index n = 0;
        for (const PlannedGroup& g : groups) n += g.cut();
        return n;
    }
};

/// A table: each group, its width, what stays, and why no more goes.
std::string to_text(const Plan& plan);

namespace detail {

/// Which classes of a channel graph a plan removes, and what shapes that leaves.
template <class T> class Removal {
public:
    explicit Removal(const ChannelGraph<T>& graph) : graph_(graph) {
        for (const auto& group : graph.groups())
            for (const auto& channel : group.channels)
                for (const auto& m : channel.members) axes_.insert({m.variable.node().get(), m.axis});
        for (const Placement<T>& p : placements(graph.trace()))
            if (p.adds) joins_.emplace(p.state->constant.node().get(), p);
    }

    void remove(const Channel<T>& channel) {
        removed_.insert(channel.id);
        for (const auto& m : channel.members) { // of a stream's branches too, each of which may have gone before
            const Node<T>* const node = m.variable.node().get();
            if (gone_[{node, m.axis}].insert(m.entry).second) removed_.insert(graph_.channel(node, m.axis, m.entry));
        }
    }
    bool removes(const Node<T>* node, int axis, Index entry) const {
        return removed_.count(graph_.channel(node, axis, entry)) > 0;
    }
    bool removes(const Channel<T>& channel) const { return removed_.count(channel.id) > 0; }
    bool empty() const { return removed_.empty(); }

    /// Shape that a variable will have.
    Shape shape_of(const Var<T>& var) const {
        if (const auto it = joins_.find(var.node().get()); it != joins_.end()) return {constant_size(it->second)};
        Shape shape = var.shape();
        for (int axis = 0; axis < shape.rank(); ++axis)
            if (const auto it = gone_.find({var.node().get(), axis}); it != gone_.end())
                shape[axis] -= static_cast<Index>(it->second.size());
        return shape;
    }
    /// Entries of an axis that stay.
    std::vector<Index> kept(const Var<T>& var, int axis) const {
        std::vector<Index> entries;
        const bool has_channels = axes_.count({var.node().get(), axis}) > 0;
        for (Index i = 0; i < var.size(axis); ++i)
            if (!has_channels || !removes(var.node().get(), axis, i)) entries.push_back(i);
        return entries;
    }

    /// A channel that is only eaten by weights that make nothing any more is dead: this is how a branch whose last
    /// convolution lost all its filters goes as a whole, its inner convolutions included.
    void close() {
        for (bool changed = true; changed;) {
            changed = false;
            for (const auto& group : graph_.groups()) {
                if (!group.blocked.empty()) continue;
                for (const auto& channel : group.channels) {
                    if (removes(channel)) continue;
                    bool eaten = false, alive = false;
                    for (const auto& m : channel.members) {
                        if (m.role != ChannelRole::eats) continue;
                        eaten = true;
                        const Shape shape = shape_of(m.variable);
                        for (int axis = 0; axis < shape.rank();
                             ++axis) // with this channel gone its own axis may be empty too
                            if (axis == m.axis)
                                alive = alive || shape.product(0, axis) * shape.product(axis + 1, shape.rank()) > 0;
                    }
                    if (eaten && !alive) {
                        remove(channel);
                        changed = true;
                    }
                }
            }
        }
    }

    /// Whether a join will be indexed: it is already, or a channel of its branch goes and the stream's channel stays.
    bool indexes(const Placement<T>& p) const {
        if (p.state->indexed()) return true;
        for (Index c = 0; c < p.branch->shape.back(); ++c)
            if (removes(p.branch, -1, c) && !removes(p.node, -1, c)) return true;
        return false;
    }

private:
    Index constant_size(const Placement<T>& p) const {
        if (!indexes(p)) return 0;
        Index staying = 0;
        for (Index c = 0; c < p.node->shape.back(); ++c) staying += removes(p.node, -1, c) ? 0 : 1;
        return staying;
    }

    const ChannelGraph<T>& graph_;
    std::set<std::size_t> removed_;
    std::map<std::pair<const Node<T>*, int>, std::set<Index>> gone_;
    std::set<std::pair<const Node<T>*, int>> axes_; // that channels live in
    std::map<const Node<T>*, Placement<T>> joins_;  // by their constant
};

/// Whether a group is empty only because the weights that would eat it are.
template <class T> bool dies_with_branch(const Removal<T>& removal, const ChannelGroup<T>& group) {
    for (const auto& m : group.channels.front().members) {
        if (m.role != ChannelRole::eats) continue;
        const Shape shape = removal.shape_of(m.variable);
        if (shape.product(0, m.axis) * shape.product(m.axis + 1, shape.rank()) > 0) return false;
    }
    return true;
}

/// What a plan removes from the network that a graph was read off, with what dies of it.
/// @throws StateError if the plan is not one of this network; the text names the group and what does not fit
template <class T> Removal<T> removal(const Plan& plan, const ChannelGraph<T>& graph) {
    const auto& groups = graph.groups();
    expect<StateError>(plan.joins == graph.joins(), "plan: expected joins ", graph.joins(), ", got ", plan.joins);
    Removal<T> removal(graph);
    std::set<std::string> named;
    for (const PlannedGroup& planned : plan.groups) {
        const auto it =
            std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.name == planned.name; });
        expect<StateError>(it != groups.end(), "plan: expected groups of this network, got '", planned.name, "'");
        expect<StateError>(named.insert(planned.name).second, "plan: expected each group once, got '", planned.name,
                           "' twice");
        expect<StateError>(planned.width == it->width(), "plan: expected width ", it->width(), " for group '",
                           planned.name, "', got ", planned.width);
        for (std::size_t i = 0; i < planned.kept.size(); ++i)
            expect<StateError>(planned.kept[i] >= 0 && planned.kept[i] < planned.width &&
                                   (i == 0 || planned.kept[i - 1] < planned.kept[i]),
                               "plan: expected ascending channels below ", planned.width, " for group '", planned.name,
                               "', got ", planned.kept[i], " at position ", i);
        expect<StateError>(it->blocked.empty() || planned.cut() == 0, "plan: expected group '", planned.name,
                           "' whole (", it->blocked, "), got ", planned.kept.size(), " of ", planned.width,
                           " channels");
        for (Index c = 0; c < planned.width; ++c)
            if (!std::binary_search(planned.kept.begin(), planned.kept.end(), c))
                removal.remove(it->channels[static_cast<std::size_t>(c)]);
    }
    removal.close();
    for (const auto& group : groups) {
        if (group.is_branch) continue;
        const bool gone = std::all_of(group.channels.begin(), group.channels.end(),
                                      [&](const Channel<T>& c) { return removal.removes(c); });
        const auto asked = std::find_if(plan.groups.begin(), plan.groups.end(),
                                        [&](const PlannedGroup& p) { return p.name == group.name; });
        expect<StateError>(!gone || asked == plan.groups.end() || !asked->kept.empty() ||
                               dies_with_branch(removal, group),
                           "plan: expected at least one channel in group '", group.name, "', got none");
    }
    return removal;
}

} // namespace detail
} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::removal);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/core/table.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

ESPALIER_BODY std::string to_text(const Plan& plan) {
    const auto percent = [](Index part, Index whole) {
        return join_text(
            std::round(1000 * static_cast<double>(part) / static_cast<double>(std::max<Index>(1, whole))) / 10, " %");
    };
    Table table({"group", "width", "keeps", "cut", "note"});
    Index channels = 0;
    for (const PlannedGroup& g : plan.groups) {
        table.row({g.name, to_text(g.width), to_text(g.kept.size()), percent(g.cut(), g.width), g.note});
        channels += g.width;
    }
    return join_text(table.text(), "criterion ", plan.criterion, ", joins ", plan.joins,
                     "; removed: ", percent(plan.channels_cut(), channels), " of the channels, ",
                     percent(plan.before.parameters - plan.after.parameters, plan.before.parameters),
                     " of the parameters, ", percent(plan.before.macs - plan.after.macs, plan.before.macs),
                     " of the MACs (", plan.before.macs, " to ", plan.after.macs, "), ",
                     percent(plan.before.filters - plan.after.filters, plan.before.filters), " of the filters",
                     plan.milliseconds_before > 0 ? join_text("; predicted ", plan.milliseconds_before, " ms to ",
                                                              plan.milliseconds_after, " ms")
                                                  : "",
                     "\n");
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND
#endif
