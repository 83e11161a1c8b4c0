#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/tensor/tensor.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Elements a thread takes at a time in elementwise loops: 64 KiB of floats, two of them fit a core's L2.
inline constexpr Index elementwise_grain = 16384;

/// y[i] += x[i]
template <class T> void accumulate(Cpu, View<const T, 1> x, View<T, 1> y) {
    parallel_ranges(y.size(), elementwise_grain, [&](Index begin, Index end) {
        const T* const from = x.data();
        T* const to = y.data();
        for (Index i = begin; i < end; ++i) to[i] += from[i];
    });
}

/// z[i] = x[i] + y[i]
template <class T> void sum_of(Cpu, View<const T, 1> x, View<const T, 1> y, View<T, 1> z) {
    parallel_ranges(z.size(), elementwise_grain, [&](Index begin, Index end) {
        const T *const a = x.data(), *const b = y.data();
        T* const to = z.data();
        for (Index i = begin; i < end; ++i) to[i] = a[i] + b[i];
    });
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::accumulate);
ESPALIER_COMPILED_FUNCTION(kernels::sum_of);

} // namespace espalier::inline ESPALIER_BACKEND
