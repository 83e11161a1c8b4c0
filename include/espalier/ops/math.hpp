#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/elementwise.hpp>

#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

enum class Keeps { x, y }; // what the derivative is computed from

/// y = f(x), element by element; dx = df(kept, dy).
template <class T, class F, class G>
Var<T> unary(const char* op, const Var<T>& x, ChannelRule rule, Keeps keeps, F f, G df) {
    Tensor<T> y = empty_like(x.value());
    dispatch(x.device(), [&](auto on) { kernels::elementwise(on, f, mutable_strided(y), strided(x.value())); });
    const auto backward = [kept = keeps == Keeps::x ? x.value() : y, df](const Tensor<T>& dy, const Inputs<T>& input) {
        Tensor<T> dx = empty_like(dy);
        dispatch(dy.device(),
                 [&](auto on) { kernels::elementwise(on, df, mutable_strided(dx), strided(kept), strided(dy)); });
        input[0].add_grad(std::move(dx));
    };
    return record<T>(op, y, {x}, std::move(rule), backward);
}

} // namespace detail

/// y = e^x;  dx = y dy.
template <class T> Var<T> exp(const Var<T>& x) {
    return detail::unary(
        "exp", x, ChannelRule::same().moves_zero(), detail::Keeps::y, [](T v) { return std::exp(v); },
        [](T y, T g) { return y * g; });
}

/// y = ln x;  dx = dy / x. As in `std::log`, y is -inf at 0 and NaN below.
template <class T> Var<T> log(const Var<T>& x) {
    return detail::unary(
        "log", x, ChannelRule::same().moves_zero(), detail::Keeps::x, [](T v) { return std::log(v); },
        [](T v, T g) { return g / v; });
}

/// y = |x|;  dx = sign(x) dy, which is 0 at 0.
template <class T> Var<T> abs(const Var<T>& x) {
    return detail::unary(
        "abs", x, ChannelRule::same(), detail::Keeps::x, [](T v) { return std::abs(v); },
        [](T v, T g) { return v > 0   ? g
                              : v < 0 ? -g
                                      : T(0); });
}

/// y = square root of x;  dx = dy / (2 y), and 0 where x = 0, so that one zero does not make a whole gradient infinite.
/// As in `std::sqrt`, y is NaN below 0.
template <class T> Var<T> sqrt(const Var<T>& x) {
    return detail::unary(
        "sqrt", x, ChannelRule::same(), detail::Keeps::y, [](T v) { return std::sqrt(v); },
        [](T y, T g) { return y == 0 ? T(0) : g / (2 * y); });
}

ESPALIER_COMPILED_FUNCTION(exp);
ESPALIER_COMPILED_FUNCTION(log);
ESPALIER_COMPILED_FUNCTION(abs);
ESPALIER_COMPILED_FUNCTION(sqrt);

} // namespace espalier::inline ESPALIER_BACKEND
