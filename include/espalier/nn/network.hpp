#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/ops/concat.hpp>
#include <espalier/ops/reshape.hpp>

#include <functional>
#include <tuple>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

/// Outputs [N,..,K] of a network as one: [N, sum of the elements of each].
template <class T> Var<T> side_by_side(const std::vector<Var<T>>& outputs) {
    std::vector<Var<T>> rows;
    for (const Var<T>& output : outputs) rows.push_back(flatten(output));
    return concat(rows, 1);
}

template <class T> Var<T> logits(const Var<T>& output) { return output; }
template <class O> auto logits(const O& output) {
    if constexpr (requires { output.logits; })
        return output.logits;
    else if constexpr (requires { output.begin(); })
        return side_by_side(std::vector(output.begin(), output.end()));
    else
        return std::apply([](const auto&... each) { return side_by_side(std::vector{each...}); }, output);
}

} // namespace detail

/// A model seen as what pruning, export and stored examples need of it: one type for every model, so that they are
/// compiled once a scalar type. The model outlives it.
template <class T> struct Network {
    Module<T>& module;                            ///< the model: its parameters, buffers and mode
    std::function<Var<T>(const Var<T>&)> forward; ///< images [N,H,W,C] to logits [N,K]
};

/// The network of any model whose `forward` returns a `Var`, something with a member `logits`, or several `Var`s as a
/// vector, an array, a pair or a tuple; several [N,..,K] become one [N, sum of the elements of each]. Networks of
/// several inputs: `SeveralInputs`.
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

ESPALIER_COMPILED_FUNCTION(detail::side_by_side);

} // namespace espalier::inline ESPALIER_BACKEND
