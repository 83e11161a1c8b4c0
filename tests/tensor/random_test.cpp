#include "support/check.hpp"

#include <espalier/tensor/random.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE("tensor random: element i is draw i, in either scalar type") {
    const Random random(1, "x");
    const auto u = uniform<double>({2, 3}, random, -1, 3), n = normal<double>({6}, random, 5, 2);
    for (Index i = 0; i < 6; ++i) {
        CHECK(u.data()[i] == -1 + 4 * random.uniform(static_cast<std::uint64_t>(i)));
        CHECK(n.data()[i] == 5 + 2 * random.normal(static_cast<std::uint64_t>(i)));
    }
    CHECK(same_bits(uniform<float>({2, 3}, random, -1, 3), u.cast<float>()));
}
