#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/schedule.hpp>
#include <espalier/pruning/surgery.hpp>

#include <array>
#include <concepts>
#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// One step of `prune_gradually`.
template <class T> struct PruningStep {
    Index step = 0, steps = 0;        ///< this one, from 1, and all
    double keep = 1;                  ///< share of the original that this step had to reach
    Plan plan = {};                   ///< what it cut; no groups if earlier cuts had reached the share
    Surgery<T> surgery = {};          ///< cuts and certificate; none likewise
    Cost original = {}, current = {}; ///< of the network before the first cut, and now
};

namespace detail {

/// The share to keep of some options, whatever it is a share of.
template <class T> std::optional<double>& target_of(PlanOptions<T>& o) {
    for (auto* const target : std::array{&o.keep_channels, &o.keep_parameters, &o.keep_macs, &o.keep_latency})
        if (*target) return *target;
    throw ShapeError("prune_gradually: expected a share to keep as target, got none");
}
/// What a network has left of what its target is a share of.
template <class T> double share_now(const Network<T>& net, const Shape& image, const PlanOptions<T>& o) {
    const Original now = original_of_graph(ChannelGraph<T>(trace_image(net, image), o.joins), net.module, o.latencies);
    const Original& whole = *o.original;
    const auto share = [](auto part, auto all) { return static_cast<double>(part) / static_cast<double>(all); };
    if (o.keep_latency) return now.milliseconds / whole.milliseconds;
    if (o.keep_macs) return share(now.cost.macs, whole.cost.macs);
    if (o.keep_parameters) return share(now.cost.parameters, whole.cost.parameters);
    return share(now.channels, whole.channels);
}

} // namespace detail

/// Prunes a model for images [H,W,C] in steps and trains it between them.
///
///     es::pruning::prune_gradually(model, {32, 32, 3}, {.criterion = es::FoldedNorm{}, .keep_macs = 0.3}, {.steps =
///     5},
///                                  [&](const es::pruning::PruningStep<float>&) { fine_tune(); }, &optimizer);
///
/// Each step ranks anew, cuts to its share of the original network, and calls `fine_tune(step)`, the last step too. The
/// original is that of the options, or else the model as it is before the first step, so shares and ratios never
/// compound. A step whose share is reached already cuts nothing.
/// @return the steps, with plans and certificates
/// @throws what `plan` and `apply` throw; for options out of range, and if the target can't be met, before the first
/// cut
template <class M, class F, Follower<typename M::Scalar>... Followers>
    requires std::invocable < F&, const PruningStep<typename M::Scalar>
& > std::vector<PruningStep<typename M::Scalar>> prune_gradually(M& model, const Shape& image,
                                                                 PlanOptions<typename M::Scalar> options,
                                                                 const Gradual& by, F&& fine_tune,
                                                                 Followers*... followers) {
    using T = typename M::Scalar;
    std::optional<double>& keep = detail::target_of(options);
    const double target = *keep;
    share_kept(target, 0, by); // checks both
    if (!options.original) options.original = original(model, image, options.joins, options.latencies);
    plan(model, image, options); // the whole way can be gone
    std::vector<PruningStep<T>> all;
    for (Index step = 1; step <= by.steps; ++step) {
        keep = share_kept(target, step, by);
        PruningStep<T>& now = all.emplace_back(PruningStep<T>{.step = step, .steps = by.steps, .keep = *keep});
        if (detail::share_now(network(model), image, options) > now.keep) {
            now.plan = plan(model, image, options);
            now.surgery = apply(now.plan, model, followers...);
        }
        now.original = options.original->cost;
        now.current = cost(model, image);
        fine_tune(static_cast<const PruningStep<T>&>(now));
    }
    return all;
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::share_now);

} // namespace espalier::inline ESPALIER_BACKEND
