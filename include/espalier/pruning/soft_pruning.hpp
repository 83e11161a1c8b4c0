#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/device_scope.hpp>
#include <espalier/pruning/mask.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// What `soft_prune` zeroes of a channel.
enum class Zeroing {
    channels, ///< filter, bias, gamma, beta and running mean: the network then answers as if it had been cut
    filters,  ///< filter alone, as in the authors' code: the batch norm's shift still leaks, but its scale lets the
              ///< gradient reach the filter
};

namespace detail {

template <class T> void zero_channels(const Plan& plan, const Network<T>& net, Zeroing what) {
    const DeviceScope<T> cpu(net.module, Device::cpu);
    const ChannelGraph<T> graph(trace_image(net, plan.image), plan.joins);
    const Removal<T> removal = detail::removal(plan, graph);
    expect<StateError>(!removal.empty(), "soft_prune: expected a plan that cuts channels, got one that keeps all");
    each_silenced(graph, removal, [what](const ChannelMember<T>& m) {
        Var<T> variable = m.variable;
        if (what == Zeroing::channels || m.role == ChannelRole::makes) fill_slice(m, variable.mutable_value(), T(0));
    });
}

} // namespace detail

/// Zeroes the channels that a plan cuts and leaves all shapes: they go on training and may regrow. Soft pruning ranks
/// and zeroes anew after each epoch and cuts at the end:
///
///     const es::pruning::PlanOptions<float> options{.criterion = es::FilterNorm{.norm = es::SliceNorm::l2}, .keep_macs
///     = 0.5}; const auto plan = [&] { return es::pruning::plan(model, image, options); };
///     training.after_epoch.push_back([&](const es::Progress&) { es::pruning::soft_prune(plan(), model); });
///     trainer.run(loader);
///     es::pruning::apply(plan(), model, &optimizer);
///
/// What a zeroed channel regrows from is the optimizer's momentum, which is left alone. Behind a relu a channel whose
/// scale and shift are zero as well gets no gradient of its own, so without momentum use `Zeroing::filters`.
/// @throws StateError, with nothing changed, if the plan does not fit the model or cuts nothing
/// Source: He et al. 2018, "Soft Filter Pruning" (arXiv 1808.06866), algorithm 1.
template <class M> void soft_prune(const Plan& plan, M& model, Zeroing what = Zeroing::channels) {
    detail::zero_channels(plan, network(model), what);
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::zero_channels);

} // namespace espalier::inline ESPALIER_BACKEND
