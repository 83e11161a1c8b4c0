#pragma once

#include <espalier/core/simd.hpp>
#include <espalier/tensor/view.hpp>

#include <algorithm>
#include <span>
#include <utility>

// The one inner loop of convolutions and matrix products: a tile of pixels by vectors of channels that stays in
// registers while the terms of its sums stream past.

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// Calls f(0), ..., f(N-1) with the number as a constant, so that arrays indexed by it live in registers.
template <int N, class F> [[gnu::always_inline]] inline void unrolled(const F& f) {
    [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
        (f(std::integral_constant<int, i>{}), ...);
    }
    (std::make_integer_sequence<int, N>{});
}

/// Keeps g++ from folding a load into every multiply-add that uses it: a tile has more of those than load ports.
template <class V> [[gnu::always_inline]] inline void keep_in_register([[maybe_unused]] V& vector) {
#if defined(__x86_64__)
    __asm__("" : "+v"(vector));
#endif
}

} // namespace detail

namespace kernels {

/// Consecutive terms of a sum: `count` elements of an input from offset `from` on, a step apart, times as many rows of
/// a panel from `row` on.
struct Run {
    Index from, row, count; ///< as above
};

/// Output channels that a panel holds side by side: two vectors.
template <class T> inline constexpr Index block_width = 2 * Simd<T>::lanes;

/// Blocks of a panel with `columns` columns. The last one has as many vectors as it needs.
template <class T> Index panel_blocks(Index columns) { return (columns + block_width<T> - 1) / block_width<T>; }
/// Elements of a panel: the columns rounded up to whole vectors.
template <class T> Index panel_size(Index rows, Index columns) {
    return rows * ((columns + Simd<T>::lanes - 1) / Simd<T>::lanes * Simd<T>::lanes);
}
/// Elements of block `b` in one row.
template <class T> Index panel_width(Index columns, Index b) {
    return columns - b * block_width<T> > Simd<T>::lanes ? block_width<T> : Simd<T>::lanes;
}

/// Copies block `b` of w [rows, columns] to rows `row` and following of a panel: panel[b][row][column in block], the
/// columns that w lacks being zero.
template <class T> void pack_panel(View<const T, 2> w, Index row, Index panel_rows, Index b, T* panel) {
    const Index first = b * block_width<T>, width = panel_width<T>(w.size(1), b);
    const Index columns = std::min(width, w.size(1) - first), stride = w.stride(1);
    T* to = panel + first * panel_rows + row * width;
    for (Index i = 0; i < w.size(0); ++i, to += width) {
        const T* const from = w.at(i, first);
        if (stride == 1 && columns == width) {
            for (Index k = 0; k < width; k += Simd<T>::lanes) Simd<T>::store(to + k, Simd<T>::load(from + k));
            continue;
        }
        for (Index k = 0; k < columns; ++k) to[k] = from[k * stride];
        std::fill(to + columns, to + width, T(0));
    }
}

/// Where the sums of a tile start.
enum class Start { zero, bias, y };

/// y[y_at[i] + k] = start + sum over runs and j of x[x_at[i] + from + j * step] * panel[row + j][k], for k < width.
///
/// Each sum adds its terms one by one in the order of the runs; lanes beyond `width` are computed and dropped.
template <class T> struct ProductTile {
    const T* x;                ///< the input; offsets count from here
    Index step;                ///< elements from one term of a run to the next
    std::span<const Run> runs; ///< the terms of each sum, in the order of addition
    const T* panel;            ///< one block, as wide as the vectors that cover `width`
    const T* bias;             ///< [width], read with `Start::bias`
    T* y;                      ///< the output; offsets count from here
    Index width;               ///< at most `block_width`
    Start start;               ///< what a sum starts with

    /// All `count` pixels.
    void operator()(const Index* x_at, const Index* y_at, Index count) const {
        if (width > Simd<T>::lanes)
            tiles<6, 2>(x_at, y_at, count);
        else
            tiles<8, 1>(x_at, y_at, count);
    }

private:
    // Tiles of M pixels, and at the end two halves instead of a full tile and a thin one, which would wait for the
    // latency of its few sums.
    template <int M, int V> void tiles(const Index* x_at, const Index* y_at, Index count) const {
        for (Index i = 0, m = 0; i < count; i += m) {
            const Index left = count - i;
            m = left >= 2 * M ? M : left > M ? (left + 1) / 2 : left;
            if (m == M)
                tile<M, V>(x_at + i, y_at + i);
            else
                detail::unrolled<M - 1>([&](auto fewer) {
                    if (m == fewer + 1) tile<fewer + 1, V>(x_at + i, y_at + i);
                });
        }
    }

    // One tile: M pixels by V vectors in registers.
    template <int M, int V> [[gnu::noinline]] void tile(const Index* x_at, const Index* y_at) const {
        using S = Simd<T>;
        typename S::Vector sum[M][V];
        const T* from[M];
        const bool whole = width == V * S::lanes;
        const auto valid = [&](int v) { return std::clamp<Index>(width - v * S::lanes, 0, S::lanes); };
        detail::unrolled<M>([&](auto i) __attribute__((always_inline)) {
            from[i] = x + x_at[i];
            detail::unrolled<V>([&](auto v) __attribute__((always_inline)) {
                sum[i][v] = start != Start::bias ? S::zero()
                            : whole              ? S::load(bias + v * S::lanes)
                                                 : S::load_first(bias + v * S::lanes, valid(v));
            });
        });
        for (const Run& run : runs) {
            const T *row = panel + run.row * V * S::lanes, *const end = row + run.count * V * S::lanes;
            for (Index j = run.from; row != end; j += step, row += V * S::lanes) {
                typename S::Vector w[V];
                detail::unrolled<V>([&](auto v) __attribute__((always_inline)) {
                    w[v] = S::load(row + v * S::lanes);
                    detail::keep_in_register(w[v]);
                });
                detail::unrolled<M>([&](auto i) __attribute__((always_inline)) {
                    const typename S::Vector value = S::broadcast(from[i][j]);
                    detail::unrolled<V>([&](auto v) __attribute__((always_inline)) {
                        sum[i][v] += value * w[v];
                        // g++ tuned for Zen splits the multiply-add of a single chain, and then a pixel's bits would
                        // depend on how many share its tile, which depends on the number of threads.
                        if constexpr (M * V == 1) detail::keep_in_register(sum[i][v]);
                    });
                });
            }
        }
        detail::unrolled<M>([&](auto i) __attribute__((always_inline)) {
            detail::unrolled<V>([&](auto v) __attribute__((always_inline)) {
                T* const to = y + y_at[i] + v * S::lanes;
                if (start == Start::y) sum[i][v] += whole ? S::load(to) : S::load_first(to, valid(v));
                if (whole)
                    S::store(to, sum[i][v]);
                else
                    S::store_first(to, sum[i][v], valid(v));
            });
        });
    }
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
