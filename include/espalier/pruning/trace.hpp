#pragma once

#include <espalier/nn/module.hpp>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// One recorded forward pass: what groups, cost and criteria are read off.
template <class T> struct Trace {
    std::vector<std::shared_ptr<Node<T>>> nodes; ///< inputs before users; the last made the logits
    std::shared_ptr<Node<T>> input;
    Var<T> output;                                             ///< logits [N,K]
    std::unordered_map<const Node<T>*, NamedVar<T>> variables; ///< parameters and buffers of the model
};

namespace detail {

template <class T> const Var<T>& logits(const Var<T>& output) { return output; }
template <class O> const auto& logits(const O& output) { return output.logits; }

/// Sets a module's mode and restores it at the end of the scope.
template <class T> class ModeScope {
public:
    ModeScope(Module<T>& module, Mode mode) : module_(module), previous_(module.mode()) { module_.set_mode(mode); }
    ~ModeScope() { module_.set_mode(previous_); }
    ModeScope(const ModeScope&) = delete;
    ModeScope& operator=(const ModeScope&) = delete;

private:
    Module<T>& module_;
    Mode previous_;
};

} // namespace detail

/// Runs `model.forward` on x [N,H,W,C] in inference mode and keeps the graph.
///
/// `forward` may return a `Var` or anything with a member `logits`. The model is unchanged afterwards.
template <class M> Trace<typename M::Scalar> trace(M& model, const Tensor<typename M::Scalar>& x) {
    using T = typename M::Scalar;
    const detail::ModeScope<T> scope(model, Mode::inference);
    const Var<T> input = parameter(x); // wanting a gradient, so that ops before the first parameter are recorded too
    Trace<T> trace;
    trace.output = detail::logits(model.forward(input));
    trace.input = input.node();
    trace.nodes = topological_order(trace.output.node());
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& named : list) trace.variables.emplace(named.var.node().get(), named);
    return trace;
}

/// As above for one image of the given shape [H,W,C], all zero: enough for groups and cost.
template <class M> Trace<typename M::Scalar> trace(M& model, const Shape& image) {
    Shape batch{1};
    for (const Index extent : image) batch.append(extent);
    return trace(model, Tensor<typename M::Scalar>::zeros(batch));
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND
