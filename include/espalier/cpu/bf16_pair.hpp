#pragma once

#include <espalier/core/simd.hpp>

// A float as the sum of two bfloat16, `upper` and `lower`, of 8 bits each: with the second one's sign 17 of its 24
// bits. The product of two such pairs is the sum of four products of bfloat16, which are exact in float; so what is
// lost is one rounding of each operand, by 2^-17 of it at most. Infinite numbers and those beyond 3.39e38, the largest
// bfloat16, become NaN; of numbers below 4e-36 the lower half may vanish.
//
// Source: Henry, Tang & Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
// computations", section II; some libraries call it bf16x2.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// The bits of a bfloat16: those of the upper half of a float.
using Bf16 = std::uint16_t;

/// A vector of floats in two halves.
struct Bf16Pair {
    using Floats = Simd<float>::Vector; ///< the numbers
    /// Their bits.
    typedef std::uint32_t Bits __attribute__((vector_size(ESPALIER_VECTOR_BYTES)));

    Bits upper; ///< each float's nearest bfloat16 in the upper half of a lane, whose lower half is zero
    Bits lower; ///< the nearest of what is left in the upper half of a lane, whose lower half is arbitrary

    /// Splits a vector.
    [[gnu::always_inline]] explicit Bf16Pair(Floats x) {
        constexpr std::uint32_t half = 0x8000, mask = 0xffff0000;
        upper = (reinterpret_cast<Bits>(x) + half) & mask;
        lower = reinterpret_cast<Bits>(x - reinterpret_cast<Floats>(upper)) + half;
    }

    /// Writes the upper halves of all lanes side by side.
    [[gnu::always_inline]] static void store(Bf16* to, Bits lanes) {
        typedef Bf16 Halves __attribute__((vector_size(ESPALIER_VECTOR_BYTES / 2)));
        const Halves halves = __builtin_convertvector(lanes >> 16, Halves);
        std::memcpy(to, &halves, sizeof halves);
    }
    /// Lane by lane the upper half of `even` and, behind it in memory, that of `odd`.
    [[gnu::always_inline]] static Bits interleave(Bits even, Bits odd) { return even >> 16 | (odd & 0xffff0000u); }
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
