#pragma once

#include <espalier/cuda/mma.cuh>
#include <espalier/cuda/product.cuh>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Products of panels by tensor cores: each warp has 32 x 32 sums, in float. Operands are rounded to Format on their
/// way to shared memory.
template <class Format, int Rows, int Columns> struct TensorProduct {
    using Scalar = float;
    static constexpr int rows = Rows, columns = Columns, threads = Rows / 32 * (Columns / 32) * 32;
    static constexpr int warps_down = Rows / 32, column_lanes = 4, held_columns = 8;
    static constexpr int words = 16, depth = words * Format::per_word; ///< of a row of a panel

    /// A panel in shared memory, in words, along the axis that memory runs along. With these pitches neither the quads
    /// that are stored nor the fragments that are loaded meet in a bank.
    template <bool AlongTerms, int PanelRows> struct Panel {
        alignas(16) std::uint32_t v[AlongTerms ? PanelRows : words][AlongTerms ? words + 4 : PanelRows + 8];

        __device__ void store(unsigned row, unsigned term, const Quad<float>& terms) {
            struct alignas(16 / Format::per_word) Words {
                std::uint32_t v[4 / Format::per_word];
            } packed;
            for (unsigned e = 0; e < 4 / Format::per_word; ++e)
                packed.v[e] = Format::pack(terms.v + e * Format::per_word);
            *reinterpret_cast<Words*>(&v[row][term / Format::per_word]) = packed;
        }
        template <int N> __device__ void store(unsigned row, unsigned term, const Quad<float> (&quads)[N]) {
            static_assert(N % Format::per_word == 0);
            for (unsigned n = 0; n < N; n += Format::per_word) {
                Quad<std::uint32_t> packed;
                for (unsigned e = 0; e < 4; ++e) {
                    const float x[2]{quads[n].v[e], quads[n + Format::per_word - 1].v[e]};
                    packed.v[e] = Format::pack(x);
                }
                *reinterpret_cast<Quad<std::uint32_t>*>(&v[(term + n) / Format::per_word][row]) = packed;
            }
        }
        __device__ std::uint32_t word(unsigned row, unsigned w) const { return AlongTerms ? v[row][w] : v[w][row]; }
    };

    float sums[2][4][4] = {}; ///< fragments of 16 x 8: two down, four across

    template <class A, class B> __device__ void multiply(const A& a, const B& b) {
        const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        for (unsigned first = 0; first < words; first += 8) {
            std::uint32_t u[2][4], v[4][2];
            for (unsigned i = 0; i < 2; ++i)
                for (unsigned n = 0; n < 4; ++n)
                    u[i][n] = a.word(first_row() + i * 16 + g + n % 2 * 8, first + t + n / 2 * 4);
            for (unsigned j = 0; j < 4; ++j)
                for (unsigned n = 0; n < 2; ++n) v[j][n] = b.word(first_column() + j * 8 + g, first + t + n * 4);
            each_fragment([&](unsigned i, unsigned j) { mma(Format(), sums[i][j], u[i], v[j]); });
        }
    }
    /// Calls `write(i, j, sum)` for the sums of this thread.
    template <class Write> __device__ void each(const Write& write) const {
        each_held([&](unsigned i, unsigned k, float sum) { write(i, column(k), sum); });
    }
    /// As cuda/moments.cuh wants them.
    /// @{
    static __device__ unsigned warp_down() { return first_row() / 32; }
    static __device__ unsigned column(unsigned k) { return first_column() + k / 2 * 8 + 2 * (threadIdx.x % 4) + k % 2; }
    template <class F> __device__ void each_held(const F& f) const {
        const unsigned row = first_row() + threadIdx.x % 32 / 4;
        each_fragment([&](unsigned i, unsigned j) {
            for (unsigned n = 0; n < 4; ++n) f(row + i * 16 + n / 2 * 8, j * 2 + n % 2, sums[i][j][n]);
        });
    }
    /// @}

private:
    // No loop: the compiler leaves those that are not short as they are, and an array that a loop indexes is no set of
    // registers.
    template <class F> static __device__ void each_fragment(const F& f) {
        const auto across = [&](unsigned i) { f(i, 0u), f(i, 1u), f(i, 2u), f(i, 3u); };
        across(0), across(1);
    }
    // Of this thread's warp.
    static __device__ unsigned first_row() { return threadIdx.x / 32 / (Columns / 32) * 32; }
    static __device__ unsigned first_column() { return threadIdx.x / 32 % (Columns / 32) * 32; }
};

/// As `multiply`, of floats rounded to tf32 if the plan says so. Tiles are tall where there is no second half for them,
/// or enough of them.
template <class Product, class T>
void multiply_rounded(Cuda on, const ProductPlan& plan, const Product& product, T* y, Index columns, Index pitch,
                      const T* bias, bool adds, T* scratch) {
    const auto run = [&]<class Math>(Math) {
        multiply<Math>(on, plan, product, y, columns, pitch, bias, adds, scratch);
    };
    if constexpr (std::is_same_v<T, float>)
        if (plan.precision == MatmulPrecision::tf32) {
            if (plan.columns <= 32) return run(TensorProduct<Tf32Words, 128, 32>());
            const Index tall = (plan.rows + 127) / 128 * ((plan.columns + 63) / 64) * plan.parts;
            if (tall >= 264) return run(TensorProduct<Tf32Words, 128, 64>());
            return run(TensorProduct<Tf32Words, 64, 64>());
        }
    run(PlainProduct<T>());
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
