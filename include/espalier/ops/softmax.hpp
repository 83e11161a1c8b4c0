#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/softmax.cuda.cuh>
#endif

#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {

namespace kernels {

/// y[m,k] = e^x[m,k] / sum_k e^x[m,k], and lse[m] = ln sum_k e^x[m,k]; the largest element of a row is taken off first.
template <class T> void softmax(Cpu, View<const T, 2> x, View<T, 2> y, View<double, 1> lse) {
    const Index K = x.size(1);
    if (K == 0) return;
    parallel_ranges(x.size(0), std::max<Index>(1, elementwise_grain / 8 / K), [&](Index begin, Index end) {
        for (Index m = begin; m < end; ++m) {
            const T* const row = x.at(m);
            T* const to = y.at(m);
            const T largest = *std::max_element(row, row + K);
            double sum = 0;
            for (Index k = 0; k < K; ++k) {
                to[k] = std::exp(row[k] - largest);
                sum += static_cast<double>(to[k]);
            }
            const T factor = static_cast<T>(1 / sum);
            for (Index k = 0; k < K; ++k) to[k] *= factor;
            lse(m) = static_cast<double>(largest) + std::log(sum);
        }
    });
}

/// dx[m,k] = y[m,k] * (dy[m,k] - sum_j y[m,j] dy[m,j])
template <class T> void softmax_backward(Cpu, View<const T, 2> y, View<const T, 2> dy, View<T, 2> dx) {
    const Index K = y.size(1);
    if (K == 0) return;
    parallel_ranges(y.size(0), std::max<Index>(1, elementwise_grain / K), [&](Index begin, Index end) {
        for (Index m = begin; m < end; ++m) {
            double dot = 0;
            for (Index k = 0; k < K; ++k) dot += static_cast<double>(y(m, k)) * static_cast<double>(dy(m, k));
            for (Index k = 0; k < K; ++k) dx(m, k) = y(m, k) * (dy(m, k) - static_cast<T>(dot));
        }
    });
}

} // namespace kernels

/// y = e^x / sum e^x over the last axis; any x of at least one axis. Large elements do not overflow.
///
/// dx = y * (dy - sum of y dy over the last axis). Every channel depends on all, so channels can't be cut before it.
template <class T> Var<T> softmax(const Var<T>& x) {
    expect(x.rank() >= 1, "softmax: expected x [...,K], got ", x.shape());
    Tensor<T> y = empty_like(x.value());
    Tensor<double> lse({x.shape().product(0, x.rank() - 1)}, x.device());
    dispatch(x.device(),
             [&](auto on) { kernels::softmax(on, pixels(x.value()), mutable_pixels(y), mutable_flat(lse)); });
    return record<T>("softmax", y, {x}, ChannelRule::same().block(0, "softmax over channels"),
                     [y](const Tensor<T>& dy, const Inputs<T>& input) {
                         Tensor<T> dx = empty_like(dy);
                         dispatch(dy.device(), [&](auto on) {
                             kernels::softmax_backward(on, pixels(y), pixels(dy), mutable_pixels(dx));
                         });
                         input[0].add_grad(std::move(dx));
                     });
}

ESPALIER_COMPILED_FUNCTION(softmax);

} // namespace espalier::inline ESPALIER_BACKEND
