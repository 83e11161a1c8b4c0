#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/ops/math.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

// As in ops/math.hpp.
struct Relu {
    template <class T> ESPALIER_HD T operator()(T v) const { return v < 0 ? T(0) : v; }
};
struct ReluSlope {
    template <class T> ESPALIER_HD T operator()(T y, T g) const { return y <= 0 ? T(0) : g; }
};
struct Relu6 {
    template <class T> ESPALIER_HD T operator()(T v) const { return v < 0 ? T(0) : v > 6 ? T(6) : v; }
};
struct Relu6Slope {
    template <class T> ESPALIER_HD T operator()(T y, T g) const { return y <= 0 || y >= 6 ? T(0) : g; }
};
struct Sigmoid {
    template <class T> ESPALIER_HD T operator()(T v) const { return 1 / (1 + std::exp(-v)); }
};
struct SigmoidSlope {
    template <class T> ESPALIER_HD T operator()(T y, T g) const { return y * (1 - y) * g; }
};
struct Tanh {
    template <class T> ESPALIER_HD T operator()(T v) const { return std::tanh(v); }
};
struct TanhSlope {
    template <class T> ESPALIER_HD T operator()(T y, T g) const { return (1 - y * y) * g; }
};

} // namespace detail

/// y = max(x, 0), NaN stays NaN;  dx = dy where y > 0, else 0. Keeps y alone, which the next op usually keeps as well.
template <class T> Var<T> relu(const Var<T>& x) {
    return detail::unary("relu", x, ChannelRule::same(), detail::Keeps::y, detail::Relu(), detail::ReluSlope());
}

/// y = min(max(x, 0), 6), NaN stays NaN;  dx = dy where 0 < y < 6, else 0.
/// Source: Howard et al. 2017, "MobileNets"; as in Sandler et al. 2018.
template <class T> Var<T> relu6(const Var<T>& x) {
    return detail::unary("relu6", x, ChannelRule::same(), detail::Keeps::y, detail::Relu6(), detail::Relu6Slope());
}

/// y = 1 / (1 + e^-x), which overflows nowhere;  dx = y (1 - y) dy.
template <class T> Var<T> sigmoid(const Var<T>& x) {
    return detail::unary("sigmoid", x, ChannelRule::same().moves_zero(), detail::Keeps::y, detail::Sigmoid(),
                         detail::SigmoidSlope());
}

/// y = tanh x;  dx = (1 - y^2) dy.
template <class T> Var<T> tanh(const Var<T>& x) {
    return detail::unary("tanh", x, ChannelRule::same(), detail::Keeps::y, detail::Tanh(), detail::TanhSlope());
}

ESPALIER_COMPILED_FUNCTION(relu);
ESPALIER_COMPILED_FUNCTION(relu6);
ESPALIER_COMPILED_FUNCTION(sigmoid);
ESPALIER_COMPILED_FUNCTION(tanh);

} // namespace espalier::inline ESPALIER_BACKEND
