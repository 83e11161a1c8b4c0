#include "support/check.hpp"

#include <espalier/cpu/bf16_pair.hpp>

#include <cmath>
#include <limits>

using namespace espalier;
using namespace espalier::test;
using namespace espalier::kernels;

namespace {

float number(Bf16 half) {
    const std::uint32_t bits = std::uint32_t(half) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

/// Upper and lower half of one float, as kernels store them.
std::pair<float, float> halves(float x) {
    constexpr std::size_t lanes = static_cast<std::size_t>(Simd<float>::lanes);
    const Bf16Pair pair(Simd<float>::broadcast(x));
    Bf16 upper[lanes], lower[lanes];
    Bf16Pair::store(upper, pair.upper);
    Bf16Pair::store(lower, pair.lower);
    for (std::size_t i = 1; i < lanes; ++i) CHECK((upper[i] == upper[0] && lower[i] == lower[0]));
    return {number(upper[0]), number(lower[0])};
}

} // namespace

TEST_CASE("Bf16Pair: a float is the sum of its halves, up to 2^-17 of it") {
    const auto x = random_tensor<float>({4000});
    for (const float scale : {1e-30f, 1e-3f, 1.f, 3e5f, 1e30f})
        for (const float v : x) {
            const auto [upper, lower] = halves(v * scale);
            CHECK(std::abs(double(upper) + double(lower) - double(v * scale)) <=
                  std::ldexp(std::abs(double(v * scale)), -17));
        }
    for (const float v : {0.f, 1.f, -3.f, 1.f + 0x1p-15f, 0x1p100f}) {
        const auto [upper, lower] = halves(v);
        CHECK(upper + lower == v);
    }
}

TEST_CASE("Bf16Pair: what has no pair is NaN") {
    constexpr float infinite = std::numeric_limits<float>::infinity();
    for (const float v :
         {infinite, -infinite, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::max()}) {
        const auto [upper, lower] = halves(v);
        CHECK(std::isnan(upper + lower));
    }
}

TEST_CASE("Bf16Pair: pairs have the even number first") {
    const Bf16Pair even(Simd<float>::broadcast(1)), odd(Simd<float>::broadcast(-2));
    const Bf16Pair::Bits pairs = Bf16Pair::interleave(even.upper, odd.upper);
    Bf16 halves[2];
    std::memcpy(halves, &pairs, sizeof halves);
    CHECK(number(halves[0]) == 1);
    CHECK(number(halves[1]) == -2);
}
