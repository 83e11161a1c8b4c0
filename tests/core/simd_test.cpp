#include "support/check.hpp"

#include <espalier/core/simd.hpp>

#include <cmath>

using namespace espalier;

TEST_CASE_TEMPLATE("simd: whole vectors, first lanes, broadcast", T, float, double) {
    using S = Simd<T>;
    T in[64], out[64];
    for (int i = 0; i < 64; ++i) in[i] = static_cast<T>(i + 1), out[i] = T(-1);
    S::store(out, S::load(in + 1) * S::broadcast(2));
    for (Index i = 0; i < S::lanes; ++i) CHECK(out[i] == 2 * in[i + 1]);
    CHECK(out[S::lanes] == -1);
    for (Index count = 0; count <= S::lanes; ++count) {
        S::store(out, S::load_first(in, count));
        for (Index i = 0; i < S::lanes; ++i) CHECK(out[i] == (i < count ? in[i] : T(0)));
        std::fill_n(out, 64, T(-1));
        S::store_first(out, S::load(in), count);
        for (Index i = 0; i < S::lanes; ++i) CHECK(out[i] == (i < count ? in[i] : T(-1)));
    }
    S::store(out, S::broadcast(T(-0.0)));
    CHECK(std::signbit(out[0]));
}
