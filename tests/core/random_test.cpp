#include "support/check.hpp"

#include <espalier/core/random.hpp>

#include <set>

using namespace espalier;

TEST_CASE("random: Philox4x32-10 gives the published bits") {
    // Salmon et al., known-answer test of Random123: counter 0, key 0 -> 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
    CHECK(Random(0, std::uint64_t(0)).bits(0) == 0x6627e8d5e169c58du);
}

TEST_CASE("random: a draw depends on seed, stream and index alone") {
    const Random a(1, "weights"), b(1, "weights"), other_seed(2, "weights"), other_stream(1, "dropout");
    CHECK(a.bits(7) == b.bits(7));
    CHECK(a.bits(7) != a.bits(8));
    CHECK(a.bits(7) != other_seed.bits(7));
    CHECK(a.bits(7) != other_stream.bits(7));
    CHECK(a.substream(3).bits(0) == b.substream(3).bits(0));
    CHECK(a.substream(3).bits(0) != a.substream(4).bits(0));
    CHECK(a.substream(3).bits(0) != other_stream.substream(3).bits(0));
}

TEST_CASE("random: uniform and normal draws have their mean and deviation") {
    const Random random(3, "moments");
    constexpr int n = 100000;
    double sum = 0, squares = 0, low = 1, high = 0, normal_sum = 0, normal_squares = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
        const double u = random.uniform(i), z = random.normal(i);
        sum += u, squares += u * u, normal_sum += z, normal_squares += z * z;
        low = std::min(low, u), high = std::max(high, u);
    }
    CHECK(low >= 0);
    CHECK(high < 1);
    CHECK(std::abs(sum / n - 0.5) < 5 * 0.2887 / std::sqrt(n)); // five deviations of the mean
    CHECK(std::abs(squares / n - 1.0 / 3) < 5 * 0.2981 / std::sqrt(n));
    CHECK(std::abs(normal_sum / n) < 5 / std::sqrt(n));
    CHECK(std::abs(normal_squares / n - 1) < 5 * std::sqrt(2.0 / n));
}

TEST_CASE("random: a permutation holds each number once, and below() stays below") {
    const Random random(4, "order");
    const auto order = random.permutation(1000);
    CHECK(std::set<Index>(order.begin(), order.end()).size() == 1000);
    CHECK(order != random.substream(1).permutation(1000));
    CHECK(random.permutation(0).empty());
    for (std::uint64_t i = 0; i < 1000; ++i) {
        const Index v = random.below(7, i);
        CHECK_UNARY(v >= 0 && v < 7);
    }
}
