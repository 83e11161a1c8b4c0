#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/ops/reduce.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

// As in ops/math.hpp.
struct Add {
    template <class T> ESPALIER_HD T operator()(T u, T v) const { return u + v; }
};
struct Subtract {
    template <class T> ESPALIER_HD T operator()(T u, T v) const { return u - v; }
};
template <class T> struct Times {
    T factor;
    ESPALIER_HD T operator()(T v) const { return v * factor; }
};

/// Shape of an elementwise result: axes are matched from the last, and an extent of 1 or a missing axis is repeated.
inline Shape broadcast_shape(const char* op, const Shape& a, const Shape& b) {
    const int rank = std::max(a.rank(), b.rank());
    Shape shape;
    for (int axis = -rank; axis < 0; ++axis) {
        const Index from_a = axis < -a.rank() ? 1 : a[axis], from_b = axis < -b.rank() ? 1 : b[axis];
        expect(from_a == from_b || from_a == 1 || from_b == 1, op,
               ": expected shapes that are equal or 1 along each axis, counted from the last, got ", a, " and ", b);
        shape.append(from_a == 1 ? from_b : from_a);
    }
    return shape;
}

/// f(a, b) with broadcasting.
template <class T, class F> Tensor<T> binary(const Shape& shape, F f, const Tensor<T>& a, const Tensor<T>& b) {
    Tensor<T> y(shape, a.device());
    dispatch(a.device(), [&](auto on) {
        kernels::elementwise(on, f, mutable_strided(y), broadcast_to(a, shape), broadcast_to(b, shape));
    });
    return y;
}
template <class T> Tensor<T> scaled(const Tensor<T>& x, T factor) {
    Tensor<T> y = empty_like(x);
    dispatch(x.device(), [&](auto on) { kernels::elementwise(on, Times<T>{factor}, mutable_strided(y), strided(x)); });
    return y;
}

enum class Zero { kept_by_either, kept_by_both }; // 0 * b is 0 for any b, 0 + b is 0 only with b

/// Operands with the output's last extent have its channels. One that is repeated over them couples nothing and can't
/// be cut; added to a channel of zeros it leaves something else.
inline ChannelRule binary_rule(const Shape& a, const Shape& b, const Shape& y, Zero zero) {
    ChannelRule rule = ChannelRule::declared();
    int operand = 0;
    for (const Shape& shape : {a, b}) {
        if (shape.rank() > 0 && shape.back() == y.back()) {
            rule = std::move(rule).pass(operand);
        } else {
            if (shape.rank() > 0) rule = std::move(rule).block(operand, "repeated over all channels");
            if (zero == Zero::kept_by_both && y.rank() > 0) rule = std::move(rule).moves_zero();
        }
        ++operand;
    }
    return rule;
}

/// y = a + sign * b
template <class T> Var<T> add_signed(const char* op, const Var<T>& a, const Var<T>& b, T sign) {
    const Shape shape = broadcast_shape(op, a.shape(), b.shape());
    expect_same_device(op, a, b);
    const Tensor<T> y =
        sign > 0 ? binary(shape, Add(), a.value(), b.value()) : binary(shape, Subtract(), a.value(), b.value());
    return record<T>(op, y, {a, b}, binary_rule(a.shape(), b.shape(), shape, Zero::kept_by_both),
                     [a_shape = a.shape(), b_shape = b.shape(), sign](const Tensor<T>& dy, const Inputs<T>& input) {
                         const auto give = [&](Node<T>& node, const Shape& own, bool negated) {
                             if (!node.needs_grad()) return;
                             const Tensor<T> g = sum_to(own, dy);
                             if (negated)
                                 node.add_grad(scaled(g, T(-1)));
                             else
                                 node.add_grad(g); // may be dy itself: not ours to give away
                         };
                         give(input[0], a_shape, false);
                         give(input[1], b_shape, sign < 0);
                     });
}

} // namespace detail

/// y = a + b with numpy's broadcasting: shapes are matched from the last axis, extents of 1 are repeated.
///
/// Gradients of a repeated operand are summed over its repetitions. @throws ShapeError if the shapes do not match.
/// Joins of residual branches have an op of their own (`ops/join.hpp`), which pruning can index.
template <class T> Var<T> add(const Var<T>& a, const Var<T>& b) { return detail::add_signed("add", a, b, T(1)); }

/// y = a - b, broadcast as in `add`.
template <class T> Var<T> sub(const Var<T>& a, const Var<T>& b) { return detail::add_signed("sub", a, b, T(-1)); }

/// y = a * b, element by element, broadcast as in `add`;  da = dy * b,  db = dy * a.
template <class T> Var<T> mul(const Var<T>& a, const Var<T>& b) {
    const Shape shape = detail::broadcast_shape("mul", a.shape(), b.shape());
    expect_same_device("mul", a, b);
    const auto backward =
        [shape, a_shape = a.shape(), b_shape = b.shape(), a_kept = b.needs_grad() ? a.value() : Tensor<T>(),
         b_kept = a.needs_grad() ? b.value() : Tensor<T>()](const Tensor<T>& dy, const Inputs<T>& input) {
            if (input[0].needs_grad())
                input[0].add_grad(detail::sum_to(a_shape, detail::binary(shape, detail::Multiply(), dy, b_kept)));
            if (input[1].needs_grad())
                input[1].add_grad(detail::sum_to(b_shape, detail::binary(shape, detail::Multiply(), dy, a_kept)));
        };
    return record<T>("mul", detail::binary(shape, detail::Multiply(), a.value(), b.value()), {a, b},
                     detail::binary_rule(a.shape(), b.shape(), shape, detail::Zero::kept_by_either), backward);
}

/// y = factor * x
template <class T> Var<T> scale(const Var<T>& x, double factor) {
    const auto f = static_cast<T>(factor);
    return record<T>("scale", detail::scaled(x.value(), f), {x}, ChannelRule::same(),
                     [f](const Tensor<T>& dy, const Inputs<T>& input) { input[0].add_grad(detail::scaled(dy, f)); },
                     {{"factor", factor}});
}

/// The ops above, as operators.
/// @{
template <class T> Var<T> operator+(const Var<T>& a, const Var<T>& b) { return add(a, b); }
template <class T> Var<T> operator-(const Var<T>& a, const Var<T>& b) { return sub(a, b); }
template <class T> Var<T> operator*(const Var<T>& a, const Var<T>& b) { return mul(a, b); }
template <class T> Var<T> operator*(const Var<T>& x, double factor) { return scale(x, factor); }
template <class T> Var<T> operator*(double factor, const Var<T>& x) { return scale(x, factor); }
template <class T> Var<T> operator-(const Var<T>& x) { return scale(x, -1); }
/// @}

ESPALIER_COMPILED_FUNCTION(detail::add_signed);
ESPALIER_COMPILED_FUNCTION(mul);
ESPALIER_COMPILED_FUNCTION(scale);

} // namespace espalier::inline ESPALIER_BACKEND
