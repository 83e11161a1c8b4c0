#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/elementwise.hpp>
#include <espalier/cpu/reduce.hpp>
#include <espalier/ops/math.hpp>
#if ESPALIER_CUDA
#include <espalier/cuda/reduce.cuh>
#endif

#include <cmath>
#include <functional>

namespace espalier::inline ESPALIER_BACKEND {

/// Whether reduced axes stay, with extent 1.
enum class Keep { no, yes };

/// The size of a tensor: sum |x|, sqrt(sum x^2) or sum x^2.
enum class Norm { l1, l2, squared_l2 };

namespace detail {

// As in ops/math.hpp.
struct Square {
    template <class T> ESPALIER_HD double operator()(T v) const {
        return static_cast<double>(v) * static_cast<double>(v);
    }
};
struct SquareSlope {
    template <class T> ESPALIER_HD T operator()(T v, T g) const { return 2 * v * g; }
};
struct RootSlope {
    template <class T> ESPALIER_HD T operator()(T g, T y) const { return y == 0 ? T(0) : g / y; }
};
template <class T> struct DividedBy {
    T divisor;
    ESPALIER_HD T operator()(T v) const { return v / divisor; }
};

using AxisSet = std::array<bool, Shape::max_rank>;

inline AxisSet axis_set(const char* op, const Shape& shape, const std::vector<int>& axes) {
    AxisSet set{};
    for (const int axis : axes) {
        expect(axis >= -shape.rank() && axis < shape.rank(), op, ": expected axes of ", shape, ", got ", axis);
        bool& taken = set[static_cast<std::size_t>(axis < 0 ? axis + shape.rank() : axis)];
        expect(!taken, op, ": expected each axis once, got ", axes);
        taken = true;
    }
    return set;
}
inline std::vector<int> all_axes(const Shape& shape) {
    std::vector<int> axes;
    for (int axis = 0; axis < shape.rank(); ++axis) axes.push_back(axis);
    return axes;
}
inline Shape reduced_shape(const Shape& shape, const AxisSet& reduced, Keep keep) {
    Shape result;
    for (int axis = 0; axis < shape.rank(); ++axis) {
        if (!reduced[static_cast<std::size_t>(axis)])
            result.append(shape[axis]);
        else if (keep == Keep::yes)
            result.append(1);
    }
    return result;
}

/// finish(sum of term(x...)) over the reduced axes of operands of one shape, with extents of 1 left in their place.
template <class T, class Term, class Finish, class A, class... B>
Tensor<T> reduce(AxisSet reduced, Term term, Finish finish, const Tensor<A>& a, const Tensor<B>&... b) {
    Shape shape = a.shape();
    for (int axis = 0; axis < shape.rank(); ++axis)
        if (shape[axis] == 1) reduced[static_cast<std::size_t>(axis)] = false;
    const auto is_reduced = [&](int axis) { return reduced[static_cast<std::size_t>(axis)]; };
    int last = shape.rank(); // [first, last) is the innermost run of reduced axes; others take another pass
    while (last > 0 && !is_reduced(last - 1)) --last;
    int first = last;
    while (first > 0 && (is_reduced(first - 1) || shape[first - 1] == 1)) --first;

    const Index P = shape.product(0, first), Q = shape.product(first, last), R = shape.product(last, shape.rank());
    for (int axis = first; axis < last; ++axis) {
        shape[axis] = 1;
        reduced[static_cast<std::size_t>(axis)] = false;
    }
    Tensor<double> scratch({kernels::reduce_scratch(P, Q, R)}, a.device());
    const auto pass = [&]<class Y>(Tensor<Y> y, const auto& last_step) {
        dispatch(a.device(), [&](auto on) {
            kernels::reduce_middle(on, View<Y, 2>(y.mutable_data(), {P, R}), mutable_flat(scratch), term, last_step,
                                   View<const A, 3>(a.data(), {P, Q, R}), View<const B, 3>(b.data(), {P, Q, R})...);
        });
        return y;
    };
    if (std::find(reduced.begin(), reduced.end(), true) == reduced.end())
        return pass(Tensor<T>(shape, a.device()), finish);
    return reduce<T>(reduced, std::identity(), finish, pass(Tensor<double>(shape, a.device()), std::identity()));
}

/// Sums a gradient over the axes along which an operand of the given shape was broadcast.
template <class T> Tensor<T> sum_to(const Shape& shape, const Tensor<T>& dy) {
    if (dy.shape() == shape) return dy;
    AxisSet reduced{};
    const int missing = dy.rank() - shape.rank();
    for (int axis = 0; axis < dy.rank(); ++axis)
        reduced[static_cast<std::size_t>(axis)] = axis < missing || shape[axis - missing] == 1;
    return reduce<T>(reduced, std::identity(), std::identity(), dy).reshape(shape);
}

/// Channels survive if the last axis does. What is blocked otherwise is an average or a norm: its value depends on how
/// many channels there are, or on all of them.
inline ChannelRule reduce_rule(const Shape& shape, const AxisSet& reduced, const char* blocked) {
    if (shape.rank() == 0) return ChannelRule::declared();
    if (!reduced[static_cast<std::size_t>(shape.rank() - 1)]) return ChannelRule::same();
    return blocked ? ChannelRule::declared().block(0, blocked) : ChannelRule::declared();
}

/// sum(x) / divisor over the reduced axes.
template <class T>
Var<T> divided_sum(const char* op, const Var<T>& x, const AxisSet& reduced, Keep keep, Index divisor,
                   const char* blocked) {
    const auto count = static_cast<double>(divisor);
    const Tensor<T> y = reduce<T>(reduced, std::identity(), DividedBy<double>{count}, x.value());
    const auto backward = [shape = x.shape(), kept = y.shape(), n = static_cast<T>(divisor)](const Tensor<T>& dy,
                                                                                             const Inputs<T>& input) {
        Tensor<T> dx(shape, dy.device());
        dispatch(dy.device(), [&](auto on) {
            kernels::elementwise(on, DividedBy<T>{n}, mutable_strided(dx), broadcast_to(dy.reshape(kept), shape));
        });
        input[0].add_grad(std::move(dx));
    };
    Attributes attributes{{"divisor", divisor}};
    for (int axis = 0; axis < x.rank(); ++axis)
        if (reduced[static_cast<std::size_t>(axis)]) attributes.add({"axis", axis});
    return record<T>(op, y.reshape(reduced_shape(x.shape(), reduced, keep)), {x},
                     reduce_rule(x.shape(), reduced, blocked), backward, attributes);
}

} // namespace detail

/// Sum over the given axes (negative ones count from the last); all other axes stay.
///
/// Sums are kept in double and rounded once. @throws ShapeError for an axis that is not there or named twice
template <class T> Var<T> sum(const Var<T>& x, const std::vector<int>& axes, Keep keep = Keep::no) {
    return detail::divided_sum("sum", x, detail::axis_set("sum", x.shape(), axes), keep, 1, nullptr);
}
/// Sum of all elements, a scalar.
template <class T> Var<T> sum(const Var<T>& x) { return sum(x, detail::all_axes(x.shape())); }

/// Mean over the given axes. @throws ShapeError as `sum`, and when there is nothing to average
template <class T> Var<T> mean(const Var<T>& x, const std::vector<int>& axes, Keep keep = Keep::no) {
    const auto reduced = detail::axis_set("mean", x.shape(), axes);
    Index count = 1;
    for (const int axis : axes) count *= x.shape()[axis];
    expect(count > 0, "mean: expected at least one element along axes ", axes, ", got ", x.shape());
    return detail::divided_sum("mean", x, reduced, keep, count, "mean over channels");
}
/// Mean of all elements, a scalar.
template <class T> Var<T> mean(const Var<T>& x) { return mean(x, detail::all_axes(x.shape())); }

/// Norm over the given axes: y = sum |x|, sqrt(sum x^2) or sum x^2.
///
/// Gradients: sign(x), x / y and 2 x; that of |x| is 0 at x = 0, that of the l2 norm 0 at y = 0.
template <class T> Var<T> norm(const Var<T>& x, const std::vector<int>& axes, Norm kind, Keep keep = Keep::no) {
    const auto reduced = detail::axis_set("norm", x.shape(), axes);
    const Tensor<T> y = kind == Norm::l1   ? detail::reduce<T>(reduced, detail::Abs(), std::identity(), x.value())
                        : kind == Norm::l2 ? detail::reduce<T>(reduced, detail::Square(), detail::Sqrt(), x.value())
                                           : detail::reduce<T>(reduced, detail::Square(), std::identity(), x.value());
    const auto backward = [kind, v = x.value(), kept = y.shape(),
                           root = kind == Norm::l2 ? y : Tensor<T>()](const Tensor<T>& dy, const Inputs<T>& input) {
        Tensor<T> dx = empty_like(v);
        dispatch(v.device(), [&](auto on) {
            const auto spread = [&](const Tensor<T>& g, auto f) {
                kernels::elementwise(on, f, mutable_strided(dx), strided(v), broadcast_to(g, v.shape()));
            };
            if (kind == Norm::l1) {
                spread(dy.reshape(kept), detail::AbsSlope());
            } else if (kind == Norm::squared_l2) {
                spread(dy.reshape(kept), detail::SquareSlope());
            } else {
                Tensor<T> slope = empty_like(root);
                kernels::elementwise(on, detail::RootSlope(), mutable_strided(slope), strided(dy.reshape(kept)),
                                     strided(root));
                spread(slope, detail::Multiply());
            }
        });
        input[0].add_grad(std::move(dx));
    };
    return record<T>("norm", y.reshape(detail::reduced_shape(x.shape(), reduced, keep)), {x},
                     detail::reduce_rule(x.shape(), reduced, "norm over channels"), backward);
}
/// Norm of all elements, a scalar.
template <class T> Var<T> norm(const Var<T>& x, Norm kind) { return norm(x, detail::all_axes(x.shape()), kind); }

ESPALIER_COMPILED_FUNCTION(detail::sum_to);
ESPALIER_COMPILED_FUNCTION(detail::divided_sum);

} // namespace espalier::inline ESPALIER_BACKEND
