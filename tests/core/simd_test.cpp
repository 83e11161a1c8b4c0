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
    alignas(64) T streamed[64];
    for (const int offset : {0, 1, 3, 8}) { // of these, 0 is aligned for every vector, 1 and 3 for none
        std::fill_n(streamed, 64, T(-1));
        S::stream(streamed + offset, S::load(in));
        end_of_streams();
        for (int i = 0; i < 64; ++i)
            CHECK(streamed[i] == (i >= offset && i < offset + S::lanes ? in[i - offset] : T(-1)));
    }
}
