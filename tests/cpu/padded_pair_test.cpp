#include "support/check.hpp"

#include <espalier/cpu/padded_pair.hpp>

using namespace espalier;
using kernels::PaddedPair;

namespace {

template <class T> using V = typename Simd<T>::Vector;

/// Vectors of small whole numbers: their sums and products are exact.
template <class T, int count> void fill(V<T> (&to)[count], int first) {
    for (int i = 0; i < count; ++i)
        for (Index lane = 0; lane < Simd<T>::lanes; ++lane)
            to[i][lane] = static_cast<T>((first + 7 * i + 5 * static_cast<int>(lane)) % 17 - 8);
}

template <class T> void check_vector(V<T> got, V<T> expected) {
    for (Index lane = 0; lane < Simd<T>::lanes; ++lane) CHECK(T(got[lane]) == T(expected[lane]));
}

} // namespace

TEST_CASE_TEMPLATE("padded pair: two outputs of three taps over two inputs between zeros", T, float, double) {
    V<T> x[2], g[3], tx[3], tg[3], y[2];
    fill<T>(x, 3);
    fill<T>(g, 11);
    PaddedPair<T>::input(x, tx);
    PaddedPair<T>::filter(g, tg);
    for (int i = 0; i < 3; ++i) tx[i] *= tg[i];
    PaddedPair<T>::output(tx, y);
    check_vector<T>(y[0], x[0] * g[1] + x[1] * g[2]);
    check_vector<T>(y[1], x[0] * g[0] + x[1] * g[1]);
}

TEST_CASE_TEMPLATE("padded pair: gradients are the transposes", T, float, double) {
    V<T> dy[2], t[3], g[3], tdy[3], y[2], dg[3], tg[3];
    fill<T>(dy, 2);
    fill<T>(t, 5);
    fill<T>(g, 13);
    PaddedPair<T>::output_gradient(dy, tdy);
    PaddedPair<T>::output(t, y);
    PaddedPair<T>::filter_gradient(t, dg);
    PaddedPair<T>::filter(g, tg);
    check_vector<T>(tdy[0] * t[0] + tdy[1] * t[1] + tdy[2] * t[2], dy[0] * y[0] + dy[1] * y[1]);
    check_vector<T>(dg[0] * g[0] + dg[1] * g[1] + dg[2] * g[2], t[0] * tg[0] + t[1] * tg[1] + t[2] * tg[2]);
}
