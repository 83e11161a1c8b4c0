#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/tensor/tensor.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// The last two of three axes swapped: y[k,b,a] = x[k,a,b], from [K,A,B] to [K,B,A] in memory of its own.
///
/// Reshaped to that, channels last become channels first (A pixels, B channels), and the other way round.
/// @throws ShapeError for another rank
template <class T> Tensor<T> swap_axes(const Tensor<T>& x) {
    expect(x.rank() == 3, "swap_axes: expected x [K,A,B], got ", x.shape());
    const Index K = x.size(0), A = x.size(1), B = x.size(2);
    Tensor<T> y({K, B, A}, x.device());
    parallel_for(K, [&](Index k) {
        const T* const from = x.data() + k * A * B;
        T* const to = y.mutable_data() + k * A * B;
        for (Index a = 0; a < A; ++a)
            for (Index b = 0; b < B; ++b) to[b * A + a] = from[a * B + b];
    });
    return y;
}

} // namespace espalier::inline ESPALIER_BACKEND
