#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/ops/arithmetic.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
// As in ops/math.hpp.
struct SquaredDifference {
    template <class T> ESPALIER_HD double operator()(T u, T v) const {
        const double d = static_cast<double>(u) - static_cast<double>(v);
        return d * d;
    }
};
template <class T> struct DifferenceTimes {
    const T* dy; // the gradient of the mean, which a GPU need not send to the CPU
    double count;
    ESPALIER_HD T operator()(T u, T v) const { return static_cast<T>(2 * static_cast<double>(*dy) / count) * (u - v); }
};
} // namespace detail

/// Mean squared error: the mean of (a - b)^2 over all elements, a scalar;  da = 2 (a - b) / count = -db.
/// @throws ShapeError if the shapes differ (nothing is broadcast) or there are no elements
template <class T> Var<T> mse(const Var<T>& a, const Var<T>& b) {
    expect(a.shape() == b.shape() && a.size() > 0, "mse: expected two operands of one shape with elements, got ",
           a.shape(), " and ", b.shape());
    expect_same_device("mse", a, b);
    const auto count = static_cast<double>(a.size());
    detail::AxisSet all{};
    std::fill_n(all.begin(), a.rank(), true);
    const Tensor<T> y =
        detail::reduce<T>(all, detail::SquaredDifference(), detail::DividedBy<double>{count}, a.value(), b.value());
    const auto backward = [u = a.value(), v = b.value(), count](const Tensor<T>& dy, const Inputs<T>& input) {
        const auto slope = [&](const Tensor<T>& p, const Tensor<T>& q) {
            return detail::binary(u.shape(), detail::DifferenceTimes<T>{dy.data(), count}, p, q);
        };
        if (input[0].needs_grad()) input[0].add_grad(slope(u, v));
        if (input[1].needs_grad()) input[1].add_grad(slope(v, u));
    };
    const ChannelRule rule =
        a.rank() == 0 ? ChannelRule::declared()
                      : ChannelRule::declared().block(0, "mean over channels").block(1, "mean over channels");
    return record<T>("mse", y.reshape({}), {a, b}, rule, backward);
}

ESPALIER_COMPILED_FUNCTION(mse);

} // namespace espalier::inline ESPALIER_BACKEND
