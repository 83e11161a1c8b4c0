#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/certificate.hpp>
#include <espalier/pruning/follower.hpp>
#include <espalier/pruning/mask.hpp>
#include <espalier/tensor/random.hpp>

#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// What `apply` did.
template <class T> struct Surgery {
    std::vector<Cut<T>> cuts; ///< each slice of each variable, as the followers got them
    Certificate certificate;  ///< of masked and pruned network
};

namespace detail {

/// Other values for variables, and other channel lists for joins.
template <class T> struct Change {
    std::vector<std::pair<Var<T>, Tensor<T>>> values;
    std::vector<std::pair<std::shared_ptr<JoinState<T>>, std::vector<Index>>> kept;
};

/// A change is in the model until the end of the scope, or for good. Neither way allocates, so neither can fail.
template <class T> class ChangeScope {
public:
    explicit ChangeScope(Change<T> change) : other_(std::move(change)) { swap(); }
    ~ChangeScope() {
        if (!for_good_) swap();
    }
    ChangeScope(const ChangeScope&) = delete;
    ChangeScope& operator=(const ChangeScope&) = delete;
    void keep() noexcept { for_good_ = true; }

private:
    void swap() noexcept {
        for (auto& [var, value] : other_.values) {
            Tensor<T> previous = var.value();
            var.set_value(std::move(value));
            value = std::move(previous);
        }
        for (auto& [join, kept] : other_.kept) join->kept.swap(kept);
    }

    Change<T> other_; // what the model does not have now
    bool for_good_ = false;
};

/// The same values in memory of their own.
template <class T> Change<T> copies(const Module<T>& model) {
    Change<T> change;
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list) change.values.emplace_back(var, var.value().clone());
    return change;
}

/// The new state of one join, shortcut or split: which channels of the wide map the narrow one's remaining channels
/// are, renumbered among those that stay, and what a join's others get.
template <class T> struct NewPlacement {
    std::shared_ptr<JoinState<T>> state;
    std::vector<Index> kept;
    Tensor<T> constant; ///< undefined: as before
};

template <class T>
NewPlacement<T> new_placement(const Placement<T>& p, const ChannelGraph<T>& graph, const Removal<T>& removal) {
    const JoinState<T>& old = *p.state;
    const Index C = p.node->shape.back(), J = p.branch->shape.back();
    std::vector<Index> renumbered(static_cast<std::size_t>(C), -1);
    Index streams = 0;
    for (Index c = 0; c < C; ++c)
        if (!removal.removes(p.node, -1, c)) renumbered[static_cast<std::size_t>(c)] = streams++;
    const bool was_indexed = old.indexed() || !p.adds;
    Tensor<T> constant = old.indexed() ? old.constant.value().clone() : Tensor<T>::zeros({C});
    const Var<T> shift = p.adds ? ending_shift(p, graph.trace()) : Var<T>();

    NewPlacement<T> result{p.state, {}, {}};
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

/// Every variable sliced and every join rewired, and the slices that are taken; nothing is changed yet.
template <class T>
std::pair<Change<T>, std::vector<Cut<T>>> cut(const Module<T>& model, const ChannelGraph<T>& graph,
                                              const Removal<T>& removal) {
    std::set<const Node<T>*> constants; // sliced with their joins
    for (const auto& named : model.joins()) constants.insert(named.join->constant.node().get());

    Change<T> change;
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
            if (value.shape() != var.shape()) change.values.emplace_back(var, value);
        }

    std::set<const JoinState<T>*> rewired; // a module used twice has one join
    for (const Placement<T>& p : placements(graph.trace())) {
        if (!rewired.insert(p.state.get()).second) continue;
        NewPlacement<T> placement = new_placement(p, graph, removal);
        change.kept.emplace_back(placement.state, std::move(placement.kept));
        if (!placement.constant.defined()) continue;
        const Var<T>& constant = placement.state->constant;
        std::string name;
        for (const auto& [candidate, var] : model.parameters())
            if (var.node() == constant.node()) name = candidate;
        cuts.push_back({name, constant, -1, constant.size(), {}});
        change.values.emplace_back(constant, placement.constant);
    }
    return {std::move(change), std::move(cuts)};
}

/// `prepare(cuts)` is the last step that may fail: what else must shrink with the model.
template <class T>
Surgery<T> operate(const Plan& plan, const Network<T>& net,
                   const std::function<std::vector<Commit>(const std::vector<Cut<T>>&)>& prepare) {
    const DeviceScope<T> cpu(net.module, Device::cpu);
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
    const auto unchanged = [](const Var<T>& var) { return var.shape(); };
    const Cost predicted = cost<T>(graph.trace(), net.module, [&](const Var<T>& var) { return removal.shape_of(var); });

    auto [change, cuts] = cut(net.module, graph, removal);
    result.cuts = std::move(cuts);
    Tensor<T> masked_reference, masked_fast;
    {
        const ChangeScope<T> scope(copies(net.module));
        mask(graph, removal);
        masked_reference = logits(Path::fixed_order);
        masked_fast = logits(Path::fast);
    }
    ChangeScope<T> pruned(std::move(change));
    const Tensor<T> reference = logits(Path::fixed_order), fast = logits(Path::fast);
    const Cost counted = cost<T>(trace_image(net, plan.image), net.module, unchanged);
    certificate.reference_path_bit_equal = same_bits(masked_reference, reference);
    for (const auto& node : graph.trace().nodes)
        if (!node->rule.keeps_zero() && !certificate.reference_path_bit_equal)
            certificate.note = join_text(node->op, " moves zero: a cut channel was not silent");
    certificate.reference_path_max_error = relative_error(masked_reference, reference);
    certificate.fast_path_max_relative_error = relative_error(masked_fast, fast);
    certificate.predicted_macs = predicted.macs;
    certificate.counted_macs = counted.macs;
    certificate.counted_parameters = counted.parameters;
    certificate.predicted_parameters = predicted.parameters;
    std::vector<Commit> commits = prepare(result.cuts);
    pruned.keep();
    for (Commit& commit : commits) commit();
    return result;
}

} // namespace detail

/// Removes the channels that a plan cuts: parameters, buffers and joins become smaller, so does what the followers keep
/// for them (optimizer state, averages), and the same `forward` then runs the smaller network.
///
/// All or nothing: whatever fails, and whoever, leaves model and followers as they were. The plan is checked whole
/// before anything changes; the cut network proves itself while the full one is kept; then each follower prepares, and
/// from there on nothing can fail. Gradients are not kept. A network on a GPU is cut on the CPU, and goes back.
/// The certificate compares logits for `images` random images before and after.
/// @throws StateError if the plan does not fit the model or cuts nothing, and whatever a follower throws
template <class M, Follower<typename M::Scalar>... F>
Surgery<typename M::Scalar> apply(const Plan& plan, M& model, F*... followers) {
    using T = typename M::Scalar;
    return detail::operate<T>(plan, network(model), [&](const std::vector<Cut<T>>& cuts) {
        return std::vector<Commit>{followers->prepare(cuts)...};
    });
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::operate);

} // namespace espalier::inline ESPALIER_BACKEND
