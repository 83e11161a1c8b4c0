#pragma once

#include <espalier/cpu/read_ahead.hpp>
#include <espalier/cpu/transpose.hpp>
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
/// Keeps g++ from computing this address anew, from what it was made of, at each use.
template <class T> [[gnu::always_inline]] inline void keep_in_register(const T*& address) {
    __asm__("" : "+r"(address));
}

/// Cuts `count` rows into tiles of M, and at the end two halves instead of a full tile and a thin one, which would wait
/// for the latency of its few sums: calls `f(rows of a tile, first row, tiles)`, the first of them a constant.
template <int M, class F> void for_tiles(Index count, const F& f) {
    const Index full = count % M ? std::max<Index>(0, count / M - 1) : count / M;
    if (full) f(std::integral_constant<int, M>{}, Index(0), full);
    for (Index i = full * M, m = 0; i < count; i += m) {
        m = count - i > M ? (count - i + 1) / 2 : count - i;
        unrolled<M>([&](auto fewer) {
            if (m == fewer + 1) f(std::integral_constant<int, fewer + 1>{}, i, Index(1));
        });
    }
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
template <class T> Index panel_size(Index rows, Index columns) { return rows * whole_vectors<T>(columns); }
/// Elements of block `b` in one row.
template <class T> Index panel_width(Index columns, Index b) {
    return columns - b * block_width<T> > Simd<T>::lanes ? block_width<T> : Simd<T>::lanes;
}

/// Copies block `b` of w [rows, columns] to rows `row` and following of a panel: panel[b][row][column in block], the
/// columns that w lacks being zero.
template <class T> void pack_panel(View<const T, 2> w, Index row, Index panel_rows, Index b, T* panel) {
    const Index first = b * block_width<T>, width = panel_width<T>(w.size(1), b);
    const Index columns = std::min(width, w.size(1) - first), stride = w.stride(1);
    constexpr Index lanes = Simd<T>::lanes;
    T* to = panel + first * panel_rows + row * width;
    Index i = 0;
    if (w.stride(0) == 1 && columns == width)
        for (; i + lanes <= w.size(0); i += lanes, to += lanes * width)
            for (Index k = 0; k < width; k += lanes) {
                typename Simd<T>::Vector square[lanes];
                for (Index j = 0; j < lanes; ++j) square[j] = Simd<T>::load(w.at(i, first + k + j));
                transpose<T>(square);
                for (Index j = 0; j < lanes; ++j) Simd<T>::store(to + j * width + k, square[j]);
            }
    for (; i < w.size(0); ++i, to += width) {
        const T* const from = w.at(i, first);
        if (stride == 1 && columns == width) {
            for (Index k = 0; k < width; k += lanes) Simd<T>::store(to + k, Simd<T>::load(from + k));
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
    const T* x;                 ///< the input; offsets count from here
    Index step;                 ///< elements from one term of a run to the next
    std::span<const Run> runs;  ///< the terms of each sum, in the order of addition
    const T* panel;             ///< one block; its rows are whole vectors
    const T* bias;              ///< [width], read with `Start::bias`
    T* y;                       ///< the output; offsets count from here
    Index width;                ///< at most `block_width`
    Start start;                ///< what a sum starts with
    ReadAhead* ahead = nullptr; ///< asked for some at each run, unless null
    Index pitch = 0;            ///< elements from one row of the panel to the next; 0: as many as a row has
    bool streams = false;       ///< whole vectors go past the caches; not with `Start::y`

    /// Pixels of a tile of one or two vectors: as many as registers hold sums and addresses of.
    static constexpr int most(int vectors) { return vectors == 1 ? 8 : ESPALIER_VECTOR_BYTES == 64 ? 10 : 6; }
    /// Tiles that `count` pixels come to.
    static Index tiles(Index width, Index count) {
        const Index pixels = most(width > Simd<T>::lanes ? 2 : 1);
        return (count + pixels - 1) / pixels;
    }
    /// All `count` pixels.
    void operator()(const Index* x_at, const Index* y_at, Index count) const {
        if (width > Simd<T>::lanes)
            detail::for_tiles<most(2)>(count, [=, &tile = *this](auto m, Index first, Index tiles) {
                tile.template same_tiles<m, 2>(x_at + first, y_at + first, tiles);
            });
        else
            detail::for_tiles<most(1)>(count, [=, &tile = *this](auto m, Index first, Index tiles) {
                tile.template same_tiles<m, 1>(x_at + first, y_at + first, tiles);
            });
    }

private:
    // Tiles of M pixels by V vectors in registers. Sums of a few dozen terms cost little more than what surrounds them,
    // so the members are copied and addresses read before the first store, which may alias them for all the compiler
    // knows.
    template <int M, int V> [[gnu::noinline]] void same_tiles(const Index* x_at, const Index* y_at, Index count) const {
        using S = Simd<T>;
        constexpr Index row_size = V * S::lanes;
        const ProductTile t = *this;
        const Index down = pitch ? pitch : row_size;
        const bool whole = width == row_size, adds = start == Start::y;
        const auto valid = [rest = width](int v) { return std::clamp<Index>(rest - v * S::lanes, 0, S::lanes); };
        const auto each = [](const auto& f) __attribute__((always_inline)) {
            detail::unrolled<M>([&](auto i) __attribute__((always_inline)) {
                detail::unrolled<V>([&](auto v) __attribute__((always_inline)) { f(i, v); });
            });
        };
        for (; count > 0; --count, x_at += M, y_at += M) {
            typename S::Vector sum[M][V];
            const T* from[M];
            detail::unrolled<M>([&](auto i) __attribute__((always_inline)) {
                from[i] = t.x + x_at[i];
                detail::keep_in_register(from[i]);
            });
            if (t.start == Start::bias)
                each([&](auto i, auto v) __attribute__((always_inline)) {
                    sum[i][v] = whole ? S::load(t.bias + v * S::lanes) : S::load_first(t.bias + v * S::lanes, valid(v));
                });
            else
                each([&](auto i, auto v) __attribute__((always_inline)) { sum[i][v] = S::zero(); });
            for (const Run *run = t.runs.data(), *const last = run + t.runs.size(); run != last; ++run) {
                if (t.ahead) t.ahead->some();
                const T *row = t.panel + run->row * down, *const end = row + run->count * down;
                for (Index j = run->from; row != end; j += t.step, row += down) {
                    typename S::Vector w[V];
                    detail::unrolled<V>([&](auto v) __attribute__((always_inline)) {
                        w[v] = S::load(row + v * S::lanes);
                        detail::keep_in_register(w[v]);
                    });
                    detail::unrolled<M>([&](auto i) __attribute__((always_inline)) {
                        const typename S::Vector value = S::broadcast(from[i][j]);
                        detail::unrolled<V>([&](auto v) __attribute__((always_inline)) {
                            sum[i][v] += value * w[v];
                            // g++ tuned for Zen splits the multiply-add of a single chain, and then a pixel's bits
                            // would depend on how many share its tile, which depends on the number of threads.
                            if constexpr (M * V == 1) detail::keep_in_register(sum[i][v]);
                        });
                    });
                }
            }
            T* to[M];
            detail::unrolled<M>([&](auto i) __attribute__((always_inline)) { to[i] = t.y + y_at[i]; });
            if (whole) {
                if (adds)
                    each([&](auto i, auto v)
                             __attribute__((always_inline)) { sum[i][v] += S::load(to[i] + v * S::lanes); });
                if (t.streams)
                    each([&](auto i, auto v)
                             __attribute__((always_inline)) { S::stream(to[i] + v * S::lanes, sum[i][v]); });
                else
                    each([&](auto i, auto v)
                             __attribute__((always_inline)) { S::store(to[i] + v * S::lanes, sum[i][v]); });
            } else
                each([&](auto i, auto v) __attribute__((always_inline)) {
                    if (adds) sum[i][v] += S::load_first(to[i] + v * S::lanes, valid(v));
                    S::store_first(to[i] + v * S::lanes, sum[i][v], valid(v));
                });
        }
    }
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
