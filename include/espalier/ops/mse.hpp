#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/ops/arithmetic.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Mean squared error: the mean of (a - b)^2 over all elements, a scalar;  da = 2 (a - b) / count = -db.
/// @throws ShapeError if the shapes differ (nothing is broadcast) or there are no elements
template <class T> Var<T> mse(const Var<T>& a, const Var<T>& b) {
    expect(a.shape() == b.shape() && a.size() > 0, "mse: expected two operands of one shape with elements, got ",
           a.shape(), " and ", b.shape());
    const auto square = [](T u, T v) {
        const double d = static_cast<double>(u) - static_cast<double>(v);
        return d * d;
    };
    const auto count = static_cast<double>(a.size());
    detail::AxisSet all{};
    std::fill_n(all.begin(), a.rank(), true);
    const Tensor<T> y = detail::reduce<T>(
        all, square, [count](double sum) { return sum / count; }, a.value(), b.value());
    const auto backward = [u = a.value(), v = b.value(), count](const Tensor<T>& dy, const Inputs<T>& input) {
        const T factor = static_cast<T>(2 * static_cast<double>(dy.item()) / count);
        const auto slope = [&](const Tensor<T>& p, const Tensor<T>& q) {
            return detail::binary(
                u.shape(), [factor](T s, T t) { return factor * (s - t); }, p, q);
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
