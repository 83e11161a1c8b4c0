#pragma once

#include <espalier/cpu/microkernel.hpp>

// Winograd's minimal filtering F(4x4, 3x3): the 16 outputs of a 3x3 correlation over a tile of 6x6 inputs from 36
// products instead of 144.
//
// In one dimension, with filter g, inputs d and outputs y: y = A' [(G g) * (B' d)], for the points 0, 1, -1, 1/2, -2
// and infinity. Columns of A' hold the powers 0 to 3 of a point; rows of G its powers 0 to 2 over m'(point), for m(t) =
// t (t - 1) (t + 1) (t - 1/2) (t + 2); rows of B' the coefficients of m without the point's factor. Gradients use the
// transposes. In float the error is some 1.5 times less than with the points 0, 1, -1, 2, -2 and infinity. Source:
// Lavin & Gray 2016, section 4; on the choice of points, Barabasz et al. 2020.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// The transforms in one dimension, of vectors: lane by lane.
template <class T> struct Winograd {
    static constexpr int inputs = 6;                 ///< pixels a tile reads, along an axis
    static constexpr int outputs = 4;                ///< pixels a tile makes
    static constexpr int taps = 3;                   ///< of the filter
    static constexpr int points = 6;                 ///< numbers of the transformed tile
    static constexpr int products = points * points; ///< of a tile in two dimensions
    using V = typename Simd<T>::Vector;              ///< what is transformed

    /// t = B' d: inputs to points.
    [[gnu::always_inline]] static void input(const V (&d)[6], V (&t)[6]) {
        const V e = d[4] - d[2], f = d[3] - d[1];
        t[0] = d[0] - d[2] + e + T(1.5) * f;
        t[1] = e + f + T(1.5) * (d[2] + d[3]);
        t[2] = e - f + T(1.5) * (d[3] - d[2]);
        t[3] = e + T(2) * f;
        t[4] = e - T(0.5) * f;
        t[5] = d[5] - d[3] - f + T(1.5) * e;
    }
    /// t = G g: taps to points.
    [[gnu::always_inline]] static void filter(const V (&g)[3], V (&t)[6]) {
        const V even = g[0] + g[2];
        t[0] = g[0];
        t[1] = T(1.0 / 3) * (even + g[1]);
        t[2] = T(-1.0 / 3) * (even - g[1]);
        t[3] = T(-16.0 / 15) * (g[0] + T(0.5) * g[1] + T(0.25) * g[2]);
        t[4] = T(1.0 / 15) * (g[0] - T(2) * g[1] + T(4) * g[2]);
        t[5] = g[2];
    }
    /// y = A' t: points to outputs.
    [[gnu::always_inline]] static void output(const V (&t)[6], V (&y)[4]) {
        const V sum = t[1] + t[2], difference = t[1] - t[2];
        y[0] = t[0] + sum + (t[3] + t[4]);
        y[1] = difference + T(0.5) * t[3] - T(2) * t[4];
        y[2] = sum + T(0.25) * t[3] + T(4) * t[4];
        y[3] = difference + t[5] + T(0.125) * t[3] - T(8) * t[4];
    }
    /// t = A dy: the transpose of `output`.
    [[gnu::always_inline]] static void output_gradient(const V (&dy)[4], V (&t)[6]) {
        const V even = dy[0] + dy[2], odd = dy[1] + dy[3];
        t[0] = dy[0];
        t[1] = even + odd;
        t[2] = even - odd;
        t[3] = dy[0] + T(0.5) * dy[1] + T(0.25) * dy[2] + T(0.125) * dy[3];
        t[4] = dy[0] - T(2) * dy[1] + T(4) * dy[2] - T(8) * dy[3];
        t[5] = dy[3];
    }
    /// dg = G' t: the transpose of `filter`.
    [[gnu::always_inline]] static void filter_gradient(const V (&t)[6], V (&dg)[3]) {
        const V difference = T(1.0 / 3) * (t[1] - t[2]), a = T(-16.0 / 15) * t[3], b = T(1.0 / 15) * t[4];
        dg[0] = t[0] + difference + a + b;
        dg[1] = T(1.0 / 3) * (t[1] + t[2]) + T(0.5) * a - T(2) * b;
        dg[2] = difference + T(0.25) * a + T(4) * b + t[5];
    }
};

/// Applies a transform of `In` numbers to `Out` along both axes of a tile: calls `load(i, j)` for each of the In x In
/// vectors and `store(i, j, vector)` for each of the Out x Out.
template <class T, int In, int Out, class Load, class Store>
[[gnu::always_inline]] inline void transform_tile(void (&transform)(const typename Simd<T>::Vector (&)[In],
                                                                    typename Simd<T>::Vector (&)[Out]),
                                                  const Load& load, const Store& store) {
    typename Simd<T>::Vector half[Out][In];
    detail::unrolled<In>([&](auto i) __attribute__((always_inline)) {
        typename Simd<T>::Vector line[In], out[Out];
        detail::unrolled<In>([&](auto j) __attribute__((always_inline)) { line[j] = load(i, j); });
        transform(line, out);
        detail::unrolled<Out>([&](auto j) __attribute__((always_inline)) { half[j][i] = out[j]; });
    });
    detail::unrolled<Out>([&](auto j) __attribute__((always_inline)) {
        typename Simd<T>::Vector out[Out];
        transform(half[j], out);
        detail::unrolled<Out>([&](auto i) __attribute__((always_inline)) { store(i, j, out[i]); });
    });
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
