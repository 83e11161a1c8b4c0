#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/ops/math.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// y = max(x, 0), NaN stays NaN;  dx = dy where y > 0, else 0. Keeps y alone, which the next op usually keeps as well.
template <class T> Var<T> relu(const Var<T>& x) {
    return detail::unary(
        "relu", x, ChannelRule::same(), detail::Keeps::y, [](T v) { return v < 0 ? T(0) : v; },
        [](T y, T g) { return y <= 0 ? T(0) : g; });
}

/// y = min(max(x, 0), 6), NaN stays NaN;  dx = dy where 0 < y < 6, else 0.
/// Source: Howard et al. 2017, "MobileNets"; as in Sandler et al. 2018.
template <class T> Var<T> relu6(const Var<T>& x) {
    return detail::unary(
        "relu6", x, ChannelRule::same(), detail::Keeps::y, [](T v) { return v < 0   ? T(0)
                                                                            : v > 6 ? T(6)
                                                                                    : v; },
        [](T y, T g) { return y <= 0 || y >= 6 ? T(0) : g; });
}

/// y = 1 / (1 + e^-x), which overflows nowhere;  dx = y (1 - y) dy.
template <class T> Var<T> sigmoid(const Var<T>& x) {
    return detail::unary(
        "sigmoid", x, ChannelRule::same().moves_zero(), detail::Keeps::y, [](T v) { return 1 / (1 + std::exp(-v)); },
        [](T y, T g) { return y * (1 - y) * g; });
}

/// y = tanh x;  dx = (1 - y^2) dy.
template <class T> Var<T> tanh(const Var<T>& x) {
    return detail::unary(
        "tanh", x, ChannelRule::same(), detail::Keeps::y, [](T v) { return std::tanh(v); },
        [](T y, T g) { return (1 - y * y) * g; });
}

ESPALIER_COMPILED_FUNCTION(relu);
ESPALIER_COMPILED_FUNCTION(relu6);
ESPALIER_COMPILED_FUNCTION(sigmoid);
ESPALIER_COMPILED_FUNCTION(tanh);

} // namespace espalier::inline ESPALIER_BACKEND
