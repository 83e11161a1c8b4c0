#pragma once

#include <espalier/cuda/block.cuh>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/view.hpp>

#include <cmath>
#include <limits>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// Kernels of rows: one warp a row, lane l takes every 32nd element from l on. No block barrier, no shared memory.

// Sums of a row are warp_sum's, in every lane; lane 0 writes lse.
template <class T> __global__ void softmax_kernel(View<const T, 2> x, View<T, 2> y, View<double, 1> lse) {
    const Index m = global_thread() / 32, K = x.size(1);
    if (m >= x.size(0)) return; // the whole warp
    const unsigned lane = threadIdx.x % 32;
    const T* const row = x.at(m);
    T* const to = y.at(m);
    T largest = -std::numeric_limits<T>::infinity();
    for (Index k = lane; k < K; k += 32) largest = row[k] > largest ? row[k] : largest;
    largest = warp_max(largest);
    double sum = 0;
    for (Index k = lane; k < K; k += 32) {
        to[k] = std::exp(row[k] - largest);
        sum += static_cast<double>(to[k]);
    }
    sum = warp_sum(sum);
    const T factor = static_cast<T>(1 / sum);
    for (Index k = lane; k < K; k += 32) to[k] *= factor;
    if (lane == 0) lse(m) = static_cast<double>(largest) + std::log(sum);
}

template <class T> __global__ void softmax_backward_kernel(View<const T, 2> y, View<const T, 2> dy, View<T, 2> dx) {
    const Index m = global_thread() / 32, K = y.size(1);
    if (m >= y.size(0)) return; // the whole warp
    const unsigned lane = threadIdx.x % 32;
    double dot = 0;
    for (Index k = lane; k < K; k += 32) dot += static_cast<double>(y(m, k)) * static_cast<double>(dy(m, k));
    dot = warp_sum(dot);
    for (Index k = lane; k < K; k += 32) dx(m, k) = y(m, k) * (dy(m, k) - static_cast<T>(dot));
}

/// As on the CPU.
/// @{
template <class T> void softmax(Cuda on, View<const T, 2> x, View<T, 2> y, View<double, 1> lse) {
    if (x.size(1) > 0) launch(on.stream, elements(32 * x.size(0)), softmax_kernel<T>, x, y, lse);
}
template <class T> void softmax_backward(Cuda on, View<const T, 2> y, View<const T, 2> dy, View<T, 2> dx) {
    if (y.size(1) > 0) launch(on.stream, elements(32 * y.size(0)), softmax_backward_kernel<T>, y, dy, dx);
}
/// @}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
