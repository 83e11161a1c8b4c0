#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/cpu/lanes.hpp>
#include <espalier/cpu/microkernel.hpp>
#include <espalier/ops/conv2d_options.hpp>
#include <espalier/tensor/device.hpp>

#include <algorithm>

// Convolutions with so few outputs that it takes longer to read the filters than to multiply by them: the last layers
// of a network that sees a single image. Filters are read once, where they lie, a filter being a row of terms; what is
// unfolded for that, and read for every few filters, is the pixels.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// How `conv2d_few_pixels` works; `scratch()` is what it takes.
struct FewPixelsPlan {
    static constexpr Index most = 64;                ///< pixels
    Index pixels;                                    ///< outputs, over all images
    Index terms;                                     ///< of each output: taps times channels
    Index scratch() const { return pixels * terms; } ///< elements of the unfolded pixels
};

/// Whether y [.., P,Q,K] = x convolved with w [K,R,S,C] has few pixels and large filters.
template <class T> bool has_few_pixels(const Shape& y, const Shape& w) {
    return y.product(0, 3) <= FewPixelsPlan::most && w.size() * Index(sizeof(T)) >= Index(256) << 10;
}

/// Plan of `conv2d_few_pixels` for w [K,R,S,C], y [N,P,Q,K].
template <class T> FewPixelsPlan few_pixels_plan(Cpu, View<const T, 4> w, View<T, 4> y) {
    return {y.size(0) * y.size(1) * y.size(2), w.size(1) * w.size(2) * w.size(3)};
}

/// Row i of `unfolded` [pixels, terms]: what output i reads, tap by tap, zeros outside of the map.
template <class T>
void unfold_pixels(View<const T, 4> x, Index taps_down, Index taps_across, const Conv2dOptions& o, Index P, Index Q,
                   T* unfolded) {
    const Index C = x.size(3), terms = taps_down * taps_across * C;
    parallel_for(x.size(0) * P * Q, [&](Index i) {
        const Index n = i / (P * Q), p = i / Q % P, q = i % Q;
        T* to = unfolded + i * terms;
        for (Index r = 0; r < taps_down; ++r)
            for (Index s = 0; s < taps_across; ++s, to += C) {
                const Index h = p * o.stride + r * o.dilation - o.padding,
                            v = q * o.stride + s * o.dilation - o.padding;
                if (0 <= h && h < x.size(1) && 0 <= v && v < x.size(2))
                    std::copy_n(x.at(n, h, v), C, to);
                else
                    std::fill_n(to, C, T(0));
            }
    });
}

/// Sums over vectors of terms of F filters and up to `FewPixelsPlan::most` pixels.
template <class T> struct FewPixelsTile {
    using V = typename Simd<T>::Vector; ///< of terms
    /// Sums that registers hold at a time: of so many filters and pixels.
    /// @{
    static constexpr int filters = ESPALIER_VECTOR_BYTES == 64 ? 4 : 2;
    static constexpr int pixels = ESPALIER_VECTOR_BYTES == 64 ? 6 : 4;
    /// @}

    const T* w;        ///< of the first filter
    Index w_pitch;     ///< elements from filter to filter
    const T* unfolded; ///< of the first pixel; rows of `terms`
    Index terms;       ///< of a row

    V sums[FewPixelsPlan::most * filters]; ///< pixel by pixel

    /// Adds the products of terms [begin, end) for F filters and all of `count` pixels.
    template <int F> void add(Index begin, Index end, Index count) {
        detail::for_tiles<pixels>(count, [&](auto tile, Index first, Index tiles) {
            for (Index t = 0; t < tiles; ++t) add_tile<F, tile>(begin, end, first + t * tile);
        });
    }

private:
    template <int F, int P> void add_tile(Index begin, Index end, Index first) {
        V s[P][F];
        detail::unrolled<P>(
            [&](auto p) { detail::unrolled<F>([&](auto f) { s[p][f] = sums[(first + p) * filters + f]; }); });
        const T *const rows = w, *const columns = unfolded + first * terms;
        for_vectors<T>(
            end - begin, [&, pitch = w_pitch, n = terms ](const auto& lanes, Index i) __attribute__((always_inline)) {
                V u[F];
                detail::unrolled<F>([&](auto f) { u[f] = lanes.load(rows + f * pitch + begin + i); });
                detail::unrolled<P>([&](auto p) {
                    V v = lanes.load(columns + p * n + begin + i);
                    detail::keep_in_register(v);
                    detail::unrolled<F>([&](auto f) { s[p][f] += u[f] * v; });
                });
            });
        detail::unrolled<P>(
            [&](auto p) { detail::unrolled<F>([&](auto f) { sums[(first + p) * filters + f] = s[p][f]; }); });
    }
};

/// y = x convolved with w, plus b unless that is empty; one group, at most `FewPixelsPlan::most` pixels.
///
/// A sum adds its terms lane by lane of a vector, then the lanes: the same for any number of threads.
template <class T>
void conv2d_few_pixels(Cpu, const FewPixelsPlan& plan, View<const T, 4> x, View<const T, 4> w, View<const T, 1> b,
                       const Conv2dOptions& o, View<T, 1> scratch, View<T, 4> y) {
    using Tile = FewPixelsTile<T>;
    using V = typename Tile::V;
    constexpr Index lanes = Simd<T>::lanes, filters = Tile::filters;
    constexpr Index chunk = 4096 / Index(sizeof(T)); // terms, so that those of a tile stay in a first-level cache
    const Index K = w.size(0), P = y.size(1), Q = y.size(2);
    unfold_pixels(x, w.size(1), w.size(2), o, P, Q, scratch.data());
    parallel_for((K + filters - 1) / filters, [&](Index block) {
        const Index first = block * filters, present = std::min(filters, K - first);
        Tile tile;
        tile.w = w.at(first), tile.w_pitch = w.stride(0), tile.unfolded = scratch.data(), tile.terms = plan.terms;
        std::fill_n(tile.sums, plan.pixels * filters, Simd<T>::zero());
        for (Index t = 0; t < plan.terms; t += chunk) {
            const Index end = std::min(plan.terms, t + chunk);
            detail::unrolled<Tile::filters>([&](auto f) {
                if (present == f + 1) tile.template add<f + 1>(t, end, plan.pixels);
            });
        }
        const Index sums = plan.pixels * filters;
        for (Index i = 0; i < sums; i += lanes) { // as many at a time as a vector has lanes
            V square[lanes];
            for (Index l = 0; l < lanes; ++l) square[l] = i + l < sums ? tile.sums[i + l] : Simd<T>::zero();
            transpose<T>(square);
            for (Index step = lanes / 2; step > 0; step /= 2)
                for (Index l = 0; l < step; ++l) square[l] += square[l + step];
            T totals[lanes];
            Simd<T>::store(totals, square[0]);
            for (Index l = 0; l < lanes && i + l < sums; ++l) {
                const Index pixel = (i + l) / filters, k = first + (i + l) % filters;
                if (k >= K) continue;
                *y.at(pixel / (P * Q), pixel / Q % P, pixel % Q, k) = totals[l] + (b.size() ? b(k) : T(0));
            }
        }
    });
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
