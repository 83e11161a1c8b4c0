#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/activation.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/ops/pool.hpp>
#include <espalier/ops/reshape.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// Squeeze and excitation: each channel times a weight in (0, 1) that is worked out from the means of all channels,
/// y = x * sigmoid(W2 relu(W1 mean(x) + b1) + b2).
///
/// Source: Hu et al. 2018, equations 2 to 4.
template <class T> class SqueezeExcite : public Module<T> {
public:
    /// For maps of `channels` channels, through `hidden` units.
    SqueezeExcite(Index channels, Index hidden)
        : squeeze_(this->child("squeeze", Linear<T>({.in = channels, .out = hidden}))),
          excite_(this->child("excite", Linear<T>({.in = hidden, .out = channels}))) {}

    /// x [N,H,W,channels] -> y of the same shape.
    Var<T> forward(const Var<T>& x) const {
        const Var<T> weight = sigmoid(excite_.forward(relu(squeeze_.forward(global_avg_pool(x)))));
        return x * reshape(weight, {x.size(0), 1, 1, x.size(-1)});
    }

private:
    Linear<T> squeeze_, excite_;
};

} // namespace models

ESPALIER_COMPILED_CLASS(models::SqueezeExcite);

} // namespace espalier::inline ESPALIER_BACKEND
