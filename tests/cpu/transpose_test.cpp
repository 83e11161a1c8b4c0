#include "support/check.hpp"

#include <espalier/cpu/transpose.hpp>

using namespace espalier;

TEST_CASE_TEMPLATE("transpose: rows become columns", T, float, double) {
    using S = Simd<T>;
    typename S::Vector rows[S::lanes];
    for (Index i = 0; i < S::lanes; ++i)
        for (Index j = 0; j < S::lanes; ++j) rows[i][j] = static_cast<T>(100 * i + j);
    kernels::transpose<T>(rows);
    for (Index i = 0; i < S::lanes; ++i)
        for (Index j = 0; j < S::lanes; ++j) CHECK(T(rows[i][j]) == static_cast<T>(100 * j + i));
}
