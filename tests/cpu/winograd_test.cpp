#include "support/check.hpp"

#include <espalier/cpu/winograd.hpp>

using namespace espalier;
using namespace espalier::test;
using kernels::Winograd;

namespace {

template <class T> using V = typename Simd<T>::Vector;

/// `count` vectors with different numbers in every lane.
template <class T, int count> void fill(V<T> (&to)[count], const char* name) {
    const auto random = random_tensor<T>({count, Simd<T>::lanes}, name);
    for (int i = 0; i < count; ++i) to[i] = Simd<T>::load(random.data() + i * Simd<T>::lanes);
}

/// Largest difference of two vectors. Sums of a few numbers below 8 lose at most a few dozen eps.
template <class T> void check_vector(V<T> got, V<T> expected) {
    for (Index lane = 0; lane < Simd<T>::lanes; ++lane)
        CHECK(std::abs(got[lane] - expected[lane]) <= 64 * std::numeric_limits<T>::epsilon());
}

} // namespace

TEST_CASE_TEMPLATE("winograd: four outputs of three taps in one dimension", T, float, double) {
    V<T> d[6], g[3], td[6], tg[6], y[4];
    fill<T>(d, "inputs");
    fill<T>(g, "taps");
    Winograd<T>::input(d, td);
    Winograd<T>::filter(g, tg);
    for (int i = 0; i < 6; ++i) td[i] *= tg[i];
    Winograd<T>::output(td, y);
    for (int i = 0; i < 4; ++i) check_vector<T>(y[i], d[i] * g[0] + d[i + 1] * g[1] + d[i + 2] * g[2]);
}

TEST_CASE_TEMPLATE("winograd: gradients are the transposes", T, float, double) {
    // <A dy, t> = <dy, A' t> and <G' t, g> = <t, G g> for all vectors.
    V<T> dy[4], t[6], g[3], tdy[6], y[4], dg[3], tg[6];
    fill<T>(dy, "gradient");
    fill<T>(t, "points");
    fill<T>(g, "taps");
    Winograd<T>::output_gradient(dy, tdy);
    Winograd<T>::output(t, y);
    Winograd<T>::filter_gradient(t, dg);
    Winograd<T>::filter(g, tg);
    V<T> left{}, right{}, taps_left{}, taps_right{};
    for (int i = 0; i < 6; ++i) left += tdy[i] * t[i], taps_right += t[i] * tg[i];
    for (int i = 0; i < 4; ++i) right += dy[i] * y[i];
    for (int i = 0; i < 3; ++i) taps_left += dg[i] * g[i];
    check_vector<T>(left, right);
    check_vector<T>(taps_left, taps_right);
}

TEST_CASE_TEMPLATE("winograd: a tile is transformed along both axes", T, float, double) {
    V<T> d[6][6], expected[6][6], got[6][6];
    for (auto& row : d) fill<T>(row, "tile"), row[&row - d] *= T(3);
    for (int i = 0; i < 6; ++i) Winograd<T>::input(d[i], expected[i]);
    for (int j = 0; j < 6; ++j) {
        V<T> column[6], out[6];
        for (int i = 0; i < 6; ++i) column[i] = expected[i][j];
        Winograd<T>::input(column, out);
        for (int i = 0; i < 6; ++i) expected[i][j] = out[i];
    }
    kernels::transform_tile<T, 6, 6>(
        Winograd<T>::input, [&](int i, int j) { return d[i][j]; }, [&](int i, int j, V<T> v) { got[i][j] = v; });
    for (int i = 0; i < 6; ++i)
        for (int j = 0; j < 6; ++j) check_vector<T>(got[i][j], expected[i][j]);
}
