#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/follower.hpp>
#include <espalier/pruning/plan.hpp>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// Which entries of the network that was there first a pruned network still has.
///
/// It follows surgery, as an optimizer does, so its indices are relative to the first network however often one cuts:
/// two cuts in a row leave the lineage of the one combined cut. It says how to cut other weights of that architecture
/// in the same way, for instance the initial ones by what training found:
///
///     es::pruning::Lineage lineage;
///     es::pruning::apply(plan, model, &optimizer, &lineage);
///     auto initial = es::models::resnet20<float>({.seed = 1});
///     es::pruning::apply(es::pruning::plan(initial, {32, 32, 3}, lineage), initial);
///
/// `save_lineage` (io/lineage_file.hpp) puts it into a checkpoint.
class Lineage {
public:
    /// A variable's path from the model, and one of its axes, counted from the first.
    using Key = std::pair<std::string, int>;
    /// What is left of that axis.
    struct Axis {
        Index extent = 0;        ///< in the first network
        std::vector<Index> kept; ///< entries of the first network, ascending

        friend bool operator==(const Axis&, const Axis&) = default;
    };

    /// Every axis that lost entries.
    const std::map<Key, Axis>& axes() const { return axes_; }
    /// Says what is left of an axis: for readers of files.
    /// @throws StateError unless `kept` rises, below the extent
    void set(const Key& key, Axis axis);

    /// Follows surgery: what is kept of what was kept.
    /// @throws StateError if the cuts are not those of the network as this left it
    template <class T> Commit prepare(const std::vector<Cut<T>>& cuts) {
        std::map<Key, Axis> next = axes_;
        for (const Cut<T>& cut : cuts)
            if (cut.axis >= 0) compose(next[{cut.name, cut.axis}], {cut.extent, cut.kept}, cut.name);
        return [this, next = std::move(next)]() mutable noexcept { axes_.swap(next); };
    }

    friend bool operator==(const Lineage&, const Lineage&) = default;

private:
    static void compose(Axis& so_far, Axis cut, const std::string& name);

    std::map<Key, Axis> axes_;
};

namespace detail {

/// The first variable of a removal whose entries are not those of the lineage, in words; empty if all are.
template <class T> std::string departure(const Module<T>& model, const Removal<T>& removal, const Lineage& lineage) {
    std::set<const Node<T>*> constants; // made anew by every cut
    for (const auto& named : model.joins()) constants.insert(named.join->constant.node().get());
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list)
            for (int axis = 0; axis < var.rank() && !constants.count(var.node().get()); ++axis) {
                const auto it = lineage.axes().find({name, axis});
                const std::vector<Index> kept = removal.kept(var, axis);
                if (it == lineage.axes().end() ? static_cast<Index>(kept.size()) != var.size(axis)
                                               : kept != it->second.kept)
                    return join_text("axis ", axis, " of '", name, "'");
            }
    return "";
}

/// The plan that removes the channels of which the lineage has neither a maker nor an eater left.
template <class T> Plan plan_by(const Lineage& lineage, const ChannelGraph<T>& graph, const Shape& image) {
    const auto remains = [&](const ChannelMember<T>& m) {
        const auto it = lineage.axes().find({m.name, m.axis});
        const bool is_link = m.role == ChannelRole::makes || m.role == ChannelRole::eats;
        return is_link && (it == lineage.axes().end() ||
                           std::binary_search(it->second.kept.begin(), it->second.kept.end(), m.entry));
    };
    Plan plan;
    plan.criterion = "lineage";
    plan.joins = graph.joins();
    plan.image = image;
    for (const auto& group : graph.groups()) {
        PlannedGroup planned{.name = group.name,
                             .width = group.width(),
                             .kept = {},
                             .scores = {},
                             .note = group.blocked,
                             .blocked = !group.blocked.empty()};
        for (Index c = 0; c < group.width(); ++c) {
            const auto& members = group.channels[static_cast<std::size_t>(c)].members;
            if (planned.blocked || std::any_of(members.begin(), members.end(), remains)) planned.kept.push_back(c);
        }
        plan.groups.push_back(std::move(planned));
    }
    return plan;
}

template <class T> Plan replay(const Network<T>& net, const Shape& image, const Lineage& lineage) {
    expect<StateError>(!lineage.axes().empty(), "plan: expected a lineage with cuts, got an empty one");
    for (const auto& [key, axis] : lineage.axes()) {
        const Shape shape = net.module.find(key.first).shape();
        expect<StateError>(key.second < shape.rank() && shape[key.second] == axis.extent, "plan: expected '", key.first,
                           "' as before the cuts, of extent ", axis.extent, " along axis ", key.second, ", got ",
                           shape);
    }
    std::string problems;
    for (const Joins joins : {Joins::coupled, Joins::indexed, Joins::mixed}) {
        const ChannelGraph<T> graph(trace_image(net, image), joins);
        Plan plan = plan_by(lineage, graph, image);
        std::string departs;
        try {
            const Removal<T> removal = detail::removal(plan, graph);
            departs = departure(net.module, removal, lineage);
            plan.before = cost<T>(graph.trace(), net.module, [](const Var<T>& var) { return var.shape(); });
            plan.after = cost<T>(graph.trace(), net.module, [&](const Var<T>& var) { return removal.shape_of(var); });
        } catch (const StateError& error) { // with other joins the same entries may be a plan
            departs = error.what();
        }
        if (departs.empty()) return plan;
        problems += join_text(problems.empty() ? "" : "; ", departs, " with joins ", joins);
    }
    throw StateError("plan: expected a lineage that cuts whole channels of this network, got other entries for " +
                     problems);
}

} // namespace detail

/// The plan that cuts a network as another of the same architecture was cut: all of that one's cuts at once.
///
/// The network has the widths that the other one had before its first cut, and weights of its own; it is not changed.
/// Joins are those of the cuts, mixed after cuts of both kinds.
/// @throws StateError if the lineage is empty or not one of this architecture; the text names what does not fit
template <class M> Plan plan(M& model, const Shape& image, const Lineage& lineage) {
    return detail::replay(network(model), image, lineage);
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::replay);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

ESPALIER_BODY void Lineage::set(const Key& key, Axis axis) {
    for (std::size_t i = 0; i < axis.kept.size(); ++i)
        expect<StateError>(axis.kept[i] >= 0 && axis.kept[i] < axis.extent &&
                               (i == 0 || axis.kept[i - 1] < axis.kept[i]),
                           "Lineage: expected rising entries below ", axis.extent, " for axis ", key.second, " of '",
                           key.first, "', got ", axis.kept[i], " at position ", i);
    axes_[key] = std::move(axis);
}

ESPALIER_BODY void Lineage::compose(Axis& so_far, Axis cut, const std::string& name) {
    if (so_far.extent == 0) { // the first cut of this axis
        so_far = std::move(cut);
        return;
    }
    expect<StateError>(cut.extent == static_cast<Index>(so_far.kept.size()), "Lineage::prepare: expected a cut of the ",
                       so_far.kept.size(), " entries that are left of '", name, "', got one of ", cut.extent,
                       ": a cut before it was not followed");
    for (Index& kept : cut.kept) kept = so_far.kept[static_cast<std::size_t>(kept)];
    so_far.kept = std::move(cut.kept);
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND
#endif
