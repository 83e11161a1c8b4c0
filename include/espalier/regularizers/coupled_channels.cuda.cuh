#pragma once

#include <espalier/cuda/block.cuh>
#include <espalier/cuda/reduce.cuh>
#include <espalier/tensor/view.hpp>

#include <cmath>
#include <cstdint>
#include <functional>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// A block takes one slice e, its threads every 256th element, then block_sum.
template <class T, class F> __global__ void slice_sums_kernel(F f, View<const T, 3> x, double* s) {
    const Index e = blockIdx.x, extent = x.size(1), inner = x.size(2), outer = x.size(0);
    double sum = 0;
    for (Index o = 0; o < outer; ++o)
        for (Index i = threadIdx.x; i < inner; i += blockDim.x)
            sum += f(static_cast<double>(x.data()[(o * extent + e) * inner + i]));
    sum = block_sum(sum);
    if (threadIdx.x == 0) s[e] = sum;
}

/// Elements of scratch that `slice_sums` takes.
template <class T> Index slice_scratch(Cuda, View<const T, 3> x) {
    if (x.size(2) == 1) return reduce_scratch(1, x.size(0), x.size(1));
    return x.size(0) == 1 ? reduce_scratch(x.size(1), x.size(2), 1) : 0;
}
/// As on the CPU; the order of additions depends on the extents alone.
template <class T, class F>
void slice_sums(Cuda on, F f, View<const T, 3> x, View<double, 1> s, View<double, 1> scratch) {
    const Index outer = x.size(0), extent = x.size(1), inner = x.size(2);
    if (inner == 1)
        reduce_middle(on, View<double, 2>(s.data(), {1, extent}), scratch, f, std::identity(),
                      View<const T, 3>(x.data(), {1, outer, extent}));
    else if (outer == 1)
        reduce_middle(on, View<double, 2>(s.data(), {extent, 1}), scratch, f, std::identity(),
                      View<const T, 3>(x.data(), {extent, inner, 1}));
    else
        launch(on.stream, {static_cast<unsigned>(extent), 256}, slice_sums_kernel<T, F>, f, x, s.data());
}

// One thread a list: adds its numbers, in order. There are few: a channel is a slice of two to twenty variables.
template <class I>
__global__ void sum_lists_kernel(View<const double, 1> x, View<const I, 1> first, View<const I, 1> numbers,
                                 View<double, 1> s) {
    const Index c = global_thread();
    if (c >= s.size(0)) return;
    double sum = 0;
    for (Index k = first(c); k < first(c + 1); ++k) sum += x(numbers(k));
    s(c) = sum;
}
/// As on the CPU.
inline void sum_lists(Cuda on, View<const double, 1> x, View<const Index, 1> first, View<const Index, 1> numbers,
                      View<double, 1> s) {
    launch(on.stream, elements(s.size(0)), sum_lists_kernel<Index>, x, first, numbers, s);
}

// A block of one warp takes one list: looks for its extremes, a lane every 32nd number, then writes their strengths.
template <class I>
__global__ void relative_strengths_kernel(double alpha, View<const double, 1> importance, View<const I, 1> first,
                                          View<const I, 1> numbers, View<double, 1> strength) {
    const Index begin = first(blockIdx.x), end = first(blockIdx.x + 1);
    double minus_least = -HUGE_VAL, largest = 0;
    for (Index k = begin + threadIdx.x; k < end; k += 32) {
        const double v = importance(numbers(k));
        if (-v > minus_least) minus_least = -v;
        if (v > largest) largest = v;
    }
    const double least = -warp_max(minus_least);
    largest = warp_max(largest);
    for (Index k = begin + threadIdx.x; k < end; k += 32) {
        const Index c = numbers(k);
        strength(c) = largest > least ? std::exp2(alpha * (largest - importance(c)) / (largest - least)) : 1;
    }
}
/// As on the CPU.
inline void relative_strengths(Cuda on, double alpha, View<const double, 1> importance, View<const Index, 1> first,
                               View<const Index, 1> numbers, View<double, 1> strength) {
    launch(on.stream, {static_cast<unsigned>(first.size(0) - 1), 32}, relative_strengths_kernel<Index>, alpha,
           importance, first, numbers, strength);
}

// One block for all: a thread takes every 256th channel, then block_sum; thread 0 writes y.
template <class Kind, class T>
__global__ void weigh_norms_kernel(Kind kind, View<const double, 1> sums, View<const double, 1> weights, T* y,
                                   View<double, 1> factor) {
    double sum = 0;
    for (Index c = threadIdx.x; c < sums.size(0); c += blockDim.x) {
        const double norm = kind.norm(sums(c));
        sum += weights(c) * norm;
        factor(c) = kind.factor(weights(c), norm);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) *y = static_cast<T>(sum);
}
/// As on the CPU; the order of additions depends on the number of channels alone.
template <class Kind, class T>
void weigh_norms(Cuda on, Kind kind, View<const double, 1> sums, View<const double, 1> weights, View<T, 1> y,
                 View<double, 1> factor) {
    launch(on.stream, {1, 256}, weigh_norms_kernel<Kind, T>, kind, sums, weights, y.data(), factor);
}

// One thread an element.
template <class T, class F>
__global__ void add_slice_slopes_kernel(F slope, View<const T, 3> x, View<const Index, 1> channel,
                                        View<const double, 1> factor, const T* dy, T* dx, Index count) {
    const Index i = global_thread();
    if (i >= count) return;
    // Divisions of 64 bits take several times as long.
    const Index e = i > 0xffffffff ? i / x.size(2) % x.size(1)
                                   : static_cast<std::uint32_t>(i) / static_cast<std::uint32_t>(x.size(2)) %
                                         static_cast<std::uint32_t>(x.size(1));
    const Index c = channel(e);
    if (c >= 0) dx[i] += static_cast<T>(slope(static_cast<double>(x.data()[i]), static_cast<double>(*dy) * factor(c)));
}
/// As on the CPU.
template <class T, class F>
void add_slice_slopes(Cuda on, F slope, View<const T, 3> x, View<const Index, 1> channel, View<const double, 1> factor,
                      View<const T, 1> dy, View<T, 3> dx) {
    const Index count = x.size(0) * x.size(1) * x.size(2);
    launch(on.stream, elements(count), add_slice_slopes_kernel<T, F>, slope, x, channel, factor, dy.data(), dx.data(),
           count);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
