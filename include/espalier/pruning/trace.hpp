#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/device_scope.hpp>
#include <espalier/nn/network.hpp>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
/// From a recorded forward pass to a smaller network: groups, scores, plan, surgery, certificate.
namespace pruning {

/// One recorded forward pass: what groups, cost and criteria are read off.
template <class T> struct Trace {
    std::vector<std::shared_ptr<Node<T>>> nodes;               ///< inputs before users; the last made the logits
    std::shared_ptr<Node<T>> input;                            ///< the images
    Var<T> output;                                             ///< logits [N,K]
    std::unordered_map<const Node<T>*, NamedVar<T>> variables; ///< parameters and buffers of the model
};

namespace detail {

template <class T> Trace<T> trace_batch(const Network<T>& net, const Tensor<T>& x) {
    const ModeScope<T> scope(net.module, Mode::inference);
    // Wanting a gradient, so that ops before the first parameter are recorded too.
    const Var<T> input = parameter(x.to(net.module.device()));
    Trace<T> trace;
    trace.output = net.forward(input);
    trace.input = input.node();
    trace.nodes = topological_order(trace.output.node());
    for (const auto& list : {net.module.parameters(), net.module.buffers()})
        for (const auto& named : list) trace.variables.emplace(named.var.node().get(), named);
    return trace;
}
template <class T> Trace<T> trace_image(const Network<T>& net, const Shape& image) {
    return trace_batch(net, Tensor<T>::zeros(batch_of(1, image)));
}

} // namespace detail

/// Runs `model.forward` on x [N,H,W,C] in inference mode and keeps the graph.
///
/// `forward` may return a `Var` or anything with a member `logits`. The model is unchanged afterwards.
template <class M> Trace<typename M::Scalar> trace(M& model, const Tensor<typename M::Scalar>& x) {
    return detail::trace_batch(network(model), x);
}

/// As above for one image of the given shape [H,W,C], all zero: enough for groups and cost.
template <class M> Trace<typename M::Scalar> trace(M& model, const Shape& image) {
    return detail::trace_image(network(model), image);
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::trace_batch);
ESPALIER_COMPILED_FUNCTION(pruning::detail::trace_image);

} // namespace espalier::inline ESPALIER_BACKEND
