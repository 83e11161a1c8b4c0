#pragma once

#include <espalier/core/simd.hpp>

// Two outputs of a correlation with three taps over two inputs between zeros, from 3 products instead of 4 (or of the 6
// that count the zeros): in two dimensions 9 instead of 16 (36). Nothing is divided and no input is scaled, so no bits
// are lost beyond those of a few additions.
//
//     y[0] = g[1] x[0] + g[2] x[1] = g[1] (x[0] + x[1]) + (g[2] - g[1]) x[1]
//     y[1] = g[0] x[0] + g[1] x[1] = g[1] (x[0] + x[1]) + (g[0] - g[1]) x[0]
//
// This is the product of a 2x2 Toeplitz matrix and a vector; gradients use the transposes.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// The transforms in one dimension, of vectors: lane by lane; as those of `Winograd`.
template <class T> struct PaddedPair {
    static constexpr int inputs = 2;                 ///< pixels a tile reads, along an axis
    static constexpr int outputs = 2;                ///< pixels a tile makes
    static constexpr int taps = 3;                   ///< of the filter
    static constexpr int points = 3;                 ///< numbers of the transformed tile
    static constexpr int products = points * points; ///< of a tile in two dimensions
    using V = typename Simd<T>::Vector;              ///< what is transformed

    /// Inputs to points.
    [[gnu::always_inline]] static void input(const V (&x)[2], V (&t)[3]) {
        t[0] = x[0] + x[1];
        t[1] = x[1];
        t[2] = x[0];
    }
    /// Taps to points.
    [[gnu::always_inline]] static void filter(const V (&g)[3], V (&t)[3]) {
        t[0] = g[1];
        t[1] = g[2] - g[1];
        t[2] = g[0] - g[1];
    }
    /// Points to outputs.
    [[gnu::always_inline]] static void output(const V (&t)[3], V (&y)[2]) {
        y[0] = t[0] + t[1];
        y[1] = t[0] + t[2];
    }
    /// The transpose of `output`.
    [[gnu::always_inline]] static void output_gradient(const V (&dy)[2], V (&t)[3]) {
        t[0] = dy[0] + dy[1];
        t[1] = dy[0];
        t[2] = dy[1];
    }
    /// The transpose of `filter`.
    [[gnu::always_inline]] static void filter_gradient(const V (&t)[3], V (&dg)[3]) {
        dg[0] = t[2];
        dg[1] = t[0] - t[1] - t[2];
        dg[2] = t[1];
    }
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
