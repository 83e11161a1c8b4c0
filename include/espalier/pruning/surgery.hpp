#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/certificate.hpp>
#include <espalier/pruning/cut.hpp>
#include <espalier/pruning/mask.hpp>
#include <espalier/tensor/random.hpp>

#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// What `apply` did.
template <class T> struct Surgery {
    std::vector<Cut<T>> cuts; ///< each slice of each variable, for optimizers, averages and lineage
    Certificate certificate;  ///< of masked and pruned network
};

namespace detail {

/// Everything that surgery may change, and the way back.
template <class T> class Snapshot {
public:
    explicit Snapshot(const Module<T>& model) {
        for (const auto& list : {model.parameters(), model.buffers()})
            for (const auto& named : list) values_.emplace_back(named.var, named.var.value().clone());
        for (const auto& named : model.joins()) joins_.emplace_back(named.join, named.join->kept);
    }
    void restore() {
        for (auto& [var, value] : values_) var.set_value(value.clone());
        for (auto& [join, kept] : joins_) join->kept = kept;
    }

private:
    std::vector<std::pair<Var<T>, Tensor<T>>> values_;
    std::vector<std::pair<std::shared_ptr<JoinState<T>>, std::vector<Index>>> joins_;
};

/// The new state of one join or shortcut: which stream channels its branch's remaining channels go to, renumbered among
/// the stream channels that stay, and what the others get.
template <class T> struct NewPlacement {
    std::shared_ptr<JoinState<T>> state;
    std::vector<Index> kept;
    Tensor<T> constant; ///< undefined: as before
};

template <class T>
NewPlacement<T> new_placement(const Placement<T>& p, const ChannelGraph<T>& graph, const Removal<T>& removal) {
    const JoinState<T>& old = *p.node->join;
    const Index C = p.node->shape.back(), J = p.branch->shape.back();
    std::vector<Index> renumbered(static_cast<std::size_t>(C), -1);
    Index streams = 0;
    for (Index c = 0; c < C; ++c)
        if (!removal.removes(p.node, -1, c)) renumbered[static_cast<std::size_t>(c)] = streams++;
    const bool was_indexed = old.indexed() || !p.adds;
    Tensor<T> constant = old.indexed() ? old.constant.value().clone() : Tensor<T>::zeros({C});
    const Var<T> shift = p.adds ? ending_shift(p, graph.trace()) : Var<T>();

    NewPlacement<T> result{p.node->join, {}, {}};
    for (Index j = 0; j < J; ++j) {
        const Index c = was_indexed ? old.kept[static_cast<std::size_t>(j)] : j;
        const Index at = renumbered[static_cast<std::size_t>(c)];
        if (!removal.removes(p.branch, -1, j)) {
            expect<StateError>(at >= 0, "apply: expected stream channel ", c, " to stay with its branch channel");
            result.kept.push_back(at);
        } else if (at >= 0 && shift.defined()) {
            constant.mutable_data()[c] = shift.value().data()[j];
        }
    }
    if (p.adds && removal.indexes(p)) {
        std::vector<Index> staying;
        for (Index c = 0; c < C; ++c)
            if (renumbered[static_cast<std::size_t>(c)] >= 0) staying.push_back(c);
        result.constant = take(constant, 0, staying);
    } else if (p.adds) {
        result.kept.clear(); // still dense
    }
    return result;
}

/// Slices every variable and rewires every join; throws before anything changed.
template <class T>
std::vector<Cut<T>> cut(const Module<T>& model, const ChannelGraph<T>& graph, const Removal<T>& removal) {
    std::vector<NewPlacement<T>> joins;
    std::set<const JoinState<T>*> rewired; // a module used twice has one join
    for (const Placement<T>& p : placements(graph.trace()))
        if (rewired.insert(p.node->join.get()).second) joins.push_back(new_placement(p, graph, removal));
    std::set<const Node<T>*> constants; // sliced with their joins
    for (const auto& named : model.joins()) constants.insert(named.join->constant.node().get());

    std::vector<std::pair<Var<T>, Tensor<T>>> sliced;
    std::vector<Cut<T>> cuts;
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list) {
            if (constants.count(var.node().get())) continue;
            Tensor<T> value = var.value();
            for (int axis = 0; axis < var.rank(); ++axis) {
                std::vector<Index> kept = removal.kept(var, axis);
                if (static_cast<Index>(kept.size()) == var.size(axis)) continue;
                value = take(value, axis, kept);
                cuts.push_back({name, var, axis, var.size(axis), std::move(kept)});
            }
            if (value.shape() != var.shape()) sliced.emplace_back(var, value);
        }

    for (auto& [var, value] : sliced) var.set_value(value);
    for (const NewPlacement<T>& j : joins) {
        j.state->kept = j.kept;
        if (!j.constant.defined()) continue;
        std::string name;
        for (const auto& [candidate, var] : model.parameters())
            if (var.node() == j.state->constant.node()) name = candidate;
        const Index extent = j.state->constant.size();
        j.state->constant.set_value(j.constant);
        cuts.push_back({name, j.state->constant, -1, extent, {}});
    }
    return cuts;
}

/// `finish(cuts)` is the last step that may fail: what else must shrink with the model.
template <class T>
Surgery<T> operate(const Plan& plan, const Network<T>& net,
                   const std::function<void(const std::vector<Cut<T>>&)>& finish) {
    const ChannelGraph<T> graph(trace_image(net, plan.image), plan.joins);
    const Removal<T> removal = detail::removal(plan, graph);
    expect<StateError>(!removal.empty(), "apply: expected a plan that cuts channels, got one that keeps all");

    Surgery<T> result;
    Certificate& certificate = result.certificate;
    certificate.images = 8;
    const Var<T> images(normal<T>(batch_of(certificate.images, plan.image), Random(2021, "certificate")));
    const auto logits = [&](Path path) {
        const NoGrad no_grad;
        const PathScope scope(path);
        const ModeScope<T> mode(net.module, Mode::inference);
        return net.forward(images).value();
    };
    for (const auto& node : graph.trace().nodes)
        if (!node->rule.keeps_zero())
            certificate.note = join_text(node->op, " moves zero: a cut channel was not silent");
    const auto unchanged = [](const Var<T>& var) { return var.shape(); };
    const Cost predicted = cost<T>(graph.trace(), net.module, [&](const Var<T>& var) { return removal.shape_of(var); });

    Snapshot<T> before(net.module);
    try {
        mask(graph, removal);
        const Tensor<T> masked_reference = logits(Path::fixed_order), masked_fast = logits(Path::fast);
        before.restore();
        result.cuts = cut(net.module, graph, removal);
        const Tensor<T> reference = logits(Path::fixed_order), fast = logits(Path::fast);
        const Cost counted = cost<T>(trace_image(net, plan.image), net.module, unchanged);
        certificate.reference_path_bit_equal = same_bits(masked_reference, reference);
        certificate.reference_path_max_error = relative_error(masked_reference, reference);
        certificate.fast_path_max_relative_error = relative_error(masked_fast, fast);
        certificate.predicted_macs = predicted.macs;
        certificate.counted_macs = counted.macs;
        certificate.counted_parameters = counted.parameters;
        certificate.predicted_parameters = predicted.parameters;
        finish(result.cuts);
    } catch (...) {
        before.restore();
        throw;
    }
    return result;
}

} // namespace detail

/// Removes the channels that a plan cuts: parameters, buffers, joins and optimizer state become smaller, and the same
/// `forward` then runs the smaller network.
///
/// All or nothing: the plan is checked whole before anything changes, and whatever fails later puts everything back.
/// The certificate compares logits for `images` random images before and after. Each optimizer gets `apply(cuts)`.
/// @throws StateError if the plan does not fit the model or cuts nothing
template <class M, class... Optimizers>
Surgery<typename M::Scalar> apply(const Plan& plan, M& model, Optimizers*... optimizers) {
    using T = typename M::Scalar;
    return detail::operate<T>(plan, network(model),
                              [&](const std::vector<Cut<T>>& cuts) { (optimizers->apply(cuts), ...); });
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::operate);

} // namespace espalier::inline ESPALIER_BACKEND
