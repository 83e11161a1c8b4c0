#pragma once

#include <espalier/cpu/microkernel.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// y[i][k] = sum over j < terms of x[i * pitch + j * step] * panel[j][k], or that added to y[i][k]: a product of
/// matrices whose rows lie evenly, with sums in registers.
///
/// Each sum adds its terms one by one. `ProductTile` does the same for pixels anywhere; here a few addresses serve all
/// rows of a tile, which leaves the load ports to what is multiplied.
template <class T> struct MatrixTile {
    const T* x;     ///< the left matrix [rows, terms]
    Index pitch;    ///< elements from one of its rows to the next
    Index step;     ///< elements from one of its columns to the next
    const T* panel; ///< the right matrix [terms, width]
    Index terms;    ///< of each sum
    T* y;           ///< the product [rows, width], dense
    Index width;    ///< one vector or two (`block_width`)
    bool adds;      ///< whether sums start with y instead of zero

    /// The first `rows` rows.
    void operator()(Index rows) const {
        // As many rows as registers hold sums of, beside the panel's row.
        constexpr int many = ESPALIER_VECTOR_BYTES == 64 ? 12 : 6;
        if (width > Simd<T>::lanes)
            detail::for_tiles<many>(rows, [&tile = *this](auto m, Index first, Index tiles) {
                tile.template same_tiles<m, 2>(first, tiles);
            });
        else
            detail::for_tiles<8>(rows, [&tile = *this](auto m, Index first, Index tiles) {
                tile.template same_tiles<m, 1>(first, tiles);
            });
    }

private:
    template <int M, int V> [[gnu::noinline]] void same_tiles(Index first, Index tiles) const {
        using S = Simd<T>;
        constexpr Index row_size = V * S::lanes;
        constexpr int near = 3, bases = (M + near - 1) / near; // rows that one address reaches: pitch counts 0, 1 or 2
        const MatrixTile t = *this;
        const T *left = t.x + first * t.pitch, *const end = t.panel + t.terms * row_size;
        T* product = t.y + first * row_size;
        const auto each = [](const auto& f) __attribute__((always_inline)) {
            detail::unrolled<M>([&](auto i) __attribute__((always_inline)) {
                detail::unrolled<V>([&](auto v) __attribute__((always_inline)) { f(i, v); });
            });
        };
        for (; tiles > 0; --tiles, left += M * t.pitch, product += M * row_size) {
            typename S::Vector sum[M][V];
            const T* from[bases];
            detail::unrolled<bases>([&](auto b) __attribute__((always_inline)) {
                from[b] = left + near * b * t.pitch;
                detail::keep_in_register(from[b]);
            });
            each([&](auto i, auto v) __attribute__((always_inline)) { sum[i][v] = S::zero(); });
#ifndef __CUDACC__   // which does not know it
#pragma GCC unroll 4 // what moves addresses on takes issue slots, too
#endif
            for (const T* row = t.panel; row != end; row += row_size) {
                typename S::Vector w[V];
                detail::unrolled<V>([&](auto v) __attribute__((always_inline)) {
                    w[v] = S::load(row + v * S::lanes);
                    detail::keep_in_register(w[v]);
                });
                detail::unrolled<M>([&](auto i) __attribute__((always_inline)) {
                    const typename S::Vector value = S::broadcast(from[i / near][i % near * t.pitch]);
                    detail::unrolled<V>([&](auto v) __attribute__((always_inline)) {
                        sum[i][v] += value * w[v];
                        if constexpr (M * V == 1) detail::keep_in_register(sum[i][v]); // as in `ProductTile`
                    });
                });
                detail::unrolled<bases>([&](auto b) __attribute__((always_inline)) { from[b] += t.step; });
            }
            if (t.adds)
                each([&](auto i, auto v) __attribute__((always_inline)) {
                    sum[i][v] += S::load(product + i * row_size + v * S::lanes);
                });
            each([&](auto i, auto v)
                     __attribute__((always_inline)) { S::store(product + i * row_size + v * S::lanes, sum[i][v]); });
        }
    }
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
