#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/tensor/tensor.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// The view with its axes swapped; no element moves.
template <class T> View<T, 2> transposed(View<T, 2> a) {
    return {a.data(), {a.size(1), a.size(0)}, {a.stride(1), a.stride(0)}};
}

namespace kernels {

/// Elements of scratch that `gemm` takes for y [M,K] and `terms` terms an element.
template <class T> Index gemm_scratch(Index, Index, Index) { return 0; }

/// y[m,k] = b[k] + sum over c of x[m,c] * w[c,k];  b may be empty.
template <class T>
void gemm(Cpu, View<const T, 2> x, View<const T, 2> w, View<const T, 1> b, View<T, 1>, View<T, 2> y) {
    parallel_for(y.size(0), [&](Index m) {
        for (Index k = 0; k < y.size(1); ++k) {
            T sum = 0;
            for (Index c = 0; c < x.size(1); ++c) sum += x(m, c) * w(c, k);
            y(m, k) = b.size() ? sum + b(k) : sum;
        }
    });
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
