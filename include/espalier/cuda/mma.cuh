#pragma once

#include <espalier/core/launch.cuh>

#include <cstdint>

// Tensor cores: products of small matrices that a warp holds in registers. All 32 lanes call `mma` together.
//
// A fragment's words are 32 bits of one row (of a) or column (of b): a tf32 number, or two bf16 numbers, the first in
// the low half. With g = lane / 4 and t = lane % 4, a lane holds
//     a[0..3]: rows g, g + 8, g, g + 8 and words t, t, t + 4, t + 4 of a, 16 rows of 8 words
//     b[0..1]: column g and words t, t + 4 of b, 8 columns of 8 words
//     sums[0..3]: rows g, g, g + 8, g + 8 and columns 2 t, 2 t + 1, 2 t, 2 t + 1 of the 16 x 8 sums
// `load_matrices` brings numbers of 16 bits from shared memory into that form: four matrices of 8 rows of 16 bytes,
// lane i giving the address of row i % 8 of matrix i / 8; words[m] is then word t of row g of matrix m, or, transposed,
// rows 2 t and 2 t + 1 of column g. Source: PTX ISA, "Matrix fragments for mma.m16n8k8" and "mma.m16n8k16", "ldmatrix".
// Without nvcc the same words are multiplied lane by lane, for tests.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Numbers of 19 bits: float with 10 bits of mantissa. A word holds one.
struct Tf32Words {
    static constexpr int per_word = 1; ///< numbers in a word
    /// One number, rounded to nearest, ties away from zero.
    static __device__ std::uint32_t pack(const float* x);
};
/// Numbers of 16 bits: float with 7 bits of mantissa. A word holds two.
struct Bf16Words {
    static constexpr int per_word = 2; ///< numbers in a word
    /// Two numbers, rounded to nearest, ties to even.
    static __device__ std::uint32_t pack(const float* x);
};

#ifdef __CUDACC__

__device__ inline std::uint32_t Tf32Words::pack(const float* x) {
    std::uint32_t word;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x[0]));
    return word;
}
__device__ inline std::uint32_t Bf16Words::pack(const float* x) {
    std::uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(x[1]), "f"(x[0]));
    return word;
}

/// sums += a b, with 8 terms.
__device__ inline void mma(Tf32Words, float (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// sums += a b, with 16 terms.
__device__ inline void mma(Bf16Words, float (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Four matrices from shared memory.
template <bool Transposed> __device__ void load_matrices(std::uint32_t (&words)[4], const void* row) {
    const auto at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    if constexpr (Transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                     : "r"(at)
                     : "memory");
}

#else

namespace emulated {

// As the instructions do: NaN keeps its sign and becomes quiet, what is too large becomes infinite.
inline std::uint32_t tf32(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7F800000) == 0x7F800000) return bits & 0x7FFFFF ? bits | 0x400000 : bits;
    return (bits + 0x1000) & ~0x1FFFu;
}
inline std::uint32_t bf16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7F800000) == 0x7F800000 && (bits & 0x7FFFFF)) return bits >> 16 | 0x40;
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}
// Number `i` of a word; the tensor cores do not see a tf32 number's last 13 bits.
inline float number(Tf32Words, std::uint32_t word, unsigned) { return std::bit_cast<float>(word & ~0x1FFFu); }
inline float number(Bf16Words, std::uint32_t word, unsigned i) { return std::bit_cast<float>(word >> 16 * i << 16); }

struct Offer {
    std::uint32_t a[4], b[2];
};

} // namespace emulated

inline std::uint32_t Tf32Words::pack(const float* x) { return emulated::tf32(x[0]); }
inline std::uint32_t Bf16Words::pack(const float* x) { return emulated::bf16(x[0]) | emulated::bf16(x[1]) << 16; }

template <bool Transposed> void load_matrices(std::uint32_t (&words)[4], const void* row) {
    const auto rows = cudaEmulatedWarp(reinterpret_cast<std::uintptr_t>(row));
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const auto number = [&](unsigned matrix, unsigned i, unsigned j) -> std::uint32_t {
        return reinterpret_cast<const std::uint16_t*>(rows[matrix * 8 + i])[j];
    };
    for (unsigned m = 0; m < 4; ++m)
        words[m] = Transposed ? number(m, 2 * t, g) | number(m, 2 * t + 1, g) << 16
                              : number(m, g, 2 * t) | number(m, g, 2 * t + 1) << 16;
}

template <class Format>
void mma(Format format, float (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    const auto all = cudaEmulatedWarp(emulated::Offer{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (unsigned w = 0; w < 8; ++w)
            for (unsigned n = 0; n < Format::per_word; ++n)
                sums[i] += emulated::number(format, all[row % 8 * 4 + w % 4].a[row / 8 + w / 4 * 2], n) *
                           emulated::number(format, all[column * 4 + w % 4].b[w / 4], n);
    }
}

#endif

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
