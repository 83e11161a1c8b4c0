#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/elementwise.hpp>

#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

// Functions of one element, and what they make of its gradient g. Types, not lambdas: nvcc launches no kernel of a
// lambda's type.
struct Exp {
    template <class T> ESPALIER_HD T operator()(T v) const { return std::exp(v); }
};
struct Log {
    template <class T> ESPALIER_HD T operator()(T v) const { return std::log(v); }
};
struct Abs {
    template <class T> ESPALIER_HD T operator()(T v) const { return std::abs(v); }
};
struct Sqrt {
    template <class T> ESPALIER_HD T operator()(T v) const { return std::sqrt(v); }
};
struct Multiply {
    template <class T> ESPALIER_HD T operator()(T u, T v) const { return u * v; }
};
struct LogSlope {
    template <class T> ESPALIER_HD T operator()(T v, T g) const { return g / v; }
};
struct AbsSlope {
    template <class T> ESPALIER_HD T operator()(T v, T g) const { return v > 0 ? g : v < 0 ? -g : T(0); }
};
struct SqrtSlope {
    template <class T> ESPALIER_HD T operator()(T y, T g) const { return y == 0 ? T(0) : g / (2 * y); }
};

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
    return detail::unary("exp", x, ChannelRule::same().moves_zero(), detail::Keeps::y, detail::Exp(),
                         detail::Multiply());
}

/// y = ln x;  dx = dy / x. As in `std::log`, y is -inf at 0 and NaN below.
template <class T> Var<T> log(const Var<T>& x) {
    return detail::unary("log", x, ChannelRule::same().moves_zero(), detail::Keeps::x, detail::Log(),
                         detail::LogSlope());
}

/// y = |x|;  dx = sign(x) dy, which is 0 at 0.
template <class T> Var<T> abs(const Var<T>& x) {
    return detail::unary("abs", x, ChannelRule::same(), detail::Keeps::x, detail::Abs(), detail::AbsSlope());
}

/// y = square root of x;  dx = dy / (2 y), and 0 where x = 0, so that one zero does not make a whole gradient infinite.
/// As in `std::sqrt`, y is NaN below 0.
template <class T> Var<T> sqrt(const Var<T>& x) {
    return detail::unary("sqrt", x, ChannelRule::same(), detail::Keeps::y, detail::Sqrt(), detail::SqrtSlope());
}

ESPALIER_COMPILED_FUNCTION(exp);
ESPALIER_COMPILED_FUNCTION(log);
ESPALIER_COMPILED_FUNCTION(abs);
ESPALIER_COMPILED_FUNCTION(sqrt);

} // namespace espalier::inline ESPALIER_BACKEND
