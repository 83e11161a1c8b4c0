#pragma once

#include <espalier/cuda/block.cuh>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/view.hpp>

#include <limits>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// One warp a row, as in softmax.cuda.cuh; lane 0 writes.
template <class T>
__global__ void cross_entropy_kernel(double smoothing, View<const T, 2> x, View<const Index, 1> labels,
                                     View<const double, 1> lse, View<double, 1> loss) {
    const Index n = global_thread() / 32, K = x.size(1);
    if (n >= x.size(0)) return; // the whole warp
    const unsigned lane = threadIdx.x % 32;
    const Index label = labels(n);
    double all = 0;
    if (smoothing != 0) { // 0 times an infinite logit would be NaN
        for (Index k = lane; k < K; k += 32) all += lse(n) - static_cast<double>(x(n, k));
        all = smoothing / static_cast<double>(K) * warp_sum(all);
    }
    if (lane > 0) return;
    loss(n) = label >= 0 && label < K ? (1 - smoothing) * (lse(n) - static_cast<double>(x(n, label))) + all
                                      : std::numeric_limits<double>::quiet_NaN();
}

// One thread an element.
template <class T>
__global__ void cross_entropy_backward_kernel(T even, T chosen, View<const T, 2> p, View<const Index, 1> labels,
                                              View<const T, 1> dy, T rows, View<T, 2> dx) {
    const Index i = global_thread(), K = p.size(1);
    if (i >= p.size()) return;
    const Index n = i / K, k = i - n * K;
    dx(n, k) = (p(n, k) - even - (k == labels(n) ? chosen : T(0))) * (dy(0) / rows);
}

// One warp a row, as above.
template <class T>
__global__ void correct_kernel(View<const T, 2> x, View<const Index, 1> labels, View<Index, 1> right) {
    const Index n = global_thread() / 32, K = x.size(1);
    if (n >= x.size(0)) return; // the whole warp
    const unsigned lane = threadIdx.x % 32;
    const Index label = labels(n);
    bool best = label >= 0 && label < K;
    if (best)
        for (Index k = lane; k < K; k += 32)
            best = best && (k < label ? x(n, k) < x(n, label) : x(n, k) <= x(n, label)); // false for NaN
    best = __ballot_sync(~0u, best) == ~0u;
    if (lane == 0) right(n) = best;
}

/// As on the CPU, but a label out of its range makes the row's loss NaN.
template <class T>
void cross_entropy(Cuda on, double smoothing, View<const T, 2> x, View<const Index, 1> labels,
                   View<const double, 1> lse, View<double, 1> loss) {
    launch(on.stream, elements(32 * x.size(0)), cross_entropy_kernel<T>, smoothing, x, labels, lse, loss);
}
/// As on the CPU; a label out of its range is no class.
template <class T>
void cross_entropy_backward(Cuda on, double smoothing, View<const T, 2> p, View<const Index, 1> labels,
                            View<const T, 1> dy, T rows, View<T, 2> dx) {
    const T even = static_cast<T>(smoothing / static_cast<double>(p.size(1))), chosen = static_cast<T>(1 - smoothing);
    launch(on.stream, elements(p.size()), cross_entropy_backward_kernel<T>, even, chosen, p, labels, dy, rows, dx);
}
/// As on the CPU; a row with a label out of its range is not correct.
template <class T> void correct(Cuda on, View<const T, 2> x, View<const Index, 1> labels, View<Index, 1> right) {
    launch(on.stream, elements(32 * x.size(0)), correct_kernel<T>, x, labels, right);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
