#pragma once

#include <espalier/core/simd.hpp>
#include <espalier/tensor/view.hpp>

#include <algorithm>

// Sums for `Path::fixed_order`: plain loops, every output adds its terms one by one.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Copies w [terms, K] to rows of `whole_vectors(K)` elements, as `add_terms` reads them, the rest zero.
template <class T> void fixed_order_rows(View<const T, 2> w, T* rows) {
    const Index pitch = whole_vectors<T>(w.size(1));
    for (Index j = 0; j < w.size(0); ++j)
        for (Index k = 0; k < pitch; ++k) rows[j * pitch + k] = k < w.size(1) ? w(j, k) : T(0);
}

/// y[k] = y[k] + x[0] * rows[0][k] + ... + x[(terms - 1) * step] * rows[terms - 1][k], from left to right, k < outputs.
template <class T> void add_terms(const T* x, Index step, Index terms, const T* rows, T* y, Index outputs) {
    using S = Simd<T>;
    const Index pitch = whole_vectors<T>(outputs);
    for (Index k = 0; k < outputs; k += S::lanes) {
        const Index count = std::min(S::lanes, outputs - k);
        auto sum = S::load_first(y + k, count);
        for (Index j = 0; j < terms; ++j) sum += S::broadcast(x[j * step]) * S::load(rows + j * pitch + k);
        S::store_first(y + k, sum, count);
    }
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
