#pragma once

#include <espalier/nn/module.hpp>

#include <functional>

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

template <class T> const Var<T>& logits(const Var<T>& output) { return output; }
template <class O> const auto& logits(const O& output) { return output.logits; }

} // namespace detail

/// A model seen as what pruning, export and stored examples need of it: one type for every model, so that they are
/// compiled once a scalar type. The model outlives it.
template <class T> struct Network {
    Module<T>& module;                            ///< the model: its parameters, buffers and mode
    std::function<Var<T>(const Var<T>&)> forward; ///< images [N,H,W,C] to logits [N,K]
};

/// The network of any model whose `forward` returns a `Var` or something with a member `logits`.
template <class M> Network<typename M::Scalar> network(M& model) {
    return {model, [&model](const auto& x) { return detail::logits(model.forward(x)); }};
}

/// Sets a module's mode, and sets it back at the end of the scope.
template <class T> class ModeScope {
public:
    /// The module outlives the scope.
    ModeScope(Module<T>& module, Mode mode) : module_(module), previous_(module.mode()) { module_.set_mode(mode); }
    ~ModeScope() { module_.set_mode(previous_); }
    ModeScope(const ModeScope&) = delete;
    ModeScope& operator=(const ModeScope&) = delete;

private:
    Module<T>& module_;
    Mode previous_;
};

/// Shape [N,H,W,C] of `count` images of shape [H,W,C].
inline Shape batch_of(Index count, const Shape& image) {
    Shape batch{count};
    for (const Index extent : image) batch.append(extent);
    return batch;
}

} // namespace espalier::inline ESPALIER_BACKEND
