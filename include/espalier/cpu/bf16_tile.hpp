#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/bf16_pair.hpp>

#include <algorithm>

// Instructions are written down as such, so that any build for AVX-512 can have them and choose when it runs.
#if ESPALIER_VECTOR_BYTES == 64 && defined(__x86_64__) && defined(__linux__)
#define ESPALIER_AMX 1
#else
#define ESPALIER_AMX 0
#endif

// Products of matrices of `Bf16Pair` by the matrix unit of x86-64 (AMX), which multiplies 16x32 by 32x16 bfloat16, with
// sums in float, in the time of 16 vector instructions: sixteen times as many products as those would make. Where there
// is none, the same products are made by loops, for tests.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Extents of the tiles of A, B and their product. A [rows, terms] has its terms side by side and rows anywhere, all
/// lower halves as far from the upper ones. B [terms, columns] is dense: `terms / 2` lines of `columns` pairs, so terms
/// 2j and 2j + 1 of a column lie side by side, first all upper halves, then all lower ones.
struct Bf16Tile {
    static constexpr Index rows = 16;                ///< of A and of the product
    static constexpr Index columns = 16;             ///< of B and of the product
    static constexpr Index terms = 32;               ///< of a sum
    static constexpr Index half = terms * columns;   ///< numbers of half a tile of B
    static constexpr Index both = 2 * half;          ///< of both halves
    static constexpr Index results = rows * columns; ///< floats of the product
};

/// Whether processor and system have a matrix unit for bfloat16. The first call asks the system for it.
bool has_bf16_tiles();

/// While one is alive, the tiles of this thread can be used.
class Bf16TileScope {
public:
    Bf16TileScope();                                         ///< sets the shape of all tiles
    Bf16TileScope(const Bf16TileScope&) = delete;            ///< a thread has one
    Bf16TileScope& operator=(const Bf16TileScope&) = delete; ///< a thread has one
    ~Bf16TileScope(); ///< gives them back, so that who switches threads need not save them
};

/// Where the tiles of a sum of products lie: three loops, one in the other.
struct Bf16Steps {
    Index count[3]; ///< steps of each loop, the innermost last
    Index a[3];     ///< numbers of A from one step of each loop to the next
    Index b[3];     ///< numbers of B
};

/// Some tiles of a product, up to 2x2 or 4x1 of them: y[i][j] = sum over all steps of A's tile i times B's tile j, or
/// that added to y[i][j].
struct Bf16Product {
    int m = 1, n = 1;      ///< tiles of A and of B: n is 1 or 2, m * n at most 4
    const Bf16* a[4] = {}; ///< the first tiles of A, upper halves
    Index row = 0;         ///< numbers from one row of A to the next
    Index low = 0;         ///< numbers from A's upper halves to its lower ones
    const Bf16* b[2] = {}; ///< the first tiles of B
    float* y[4][2] = {};   ///< the products, dense
    bool adds = false;     ///< whether sums start with y instead of zero

    /// All steps. The matrix unit works on while this thread goes on, up to where y is read. Within a `Bf16TileScope`.
    void operator()(const Bf16Steps& steps) const;
    /// The same without a matrix unit, slowly.
    void by_loops(const Bf16Steps& steps) const;
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#if ESPALIER_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY bool kernels::has_bf16_tiles() {
#if ESPALIER_AMX
    static const bool has = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        constexpr unsigned bf16 = 1u << 22, tiles = 1u << 24;
        constexpr long ask = 0x1023, tile_data = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
        return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & bf16) && (d & tiles) &&
               syscall(SYS_arch_prctl, ask, tile_data) == 0;
    }();
    return has;
#else
    return false;
#endif
}

ESPALIER_BODY kernels::Bf16TileScope::Bf16TileScope() {
#if ESPALIER_AMX
    struct alignas(64) {
        std::uint8_t palette = 1, start = 0, reserved[14] = {};
        std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } const shapes;
    if (has_bf16_tiles()) __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
#endif
}

ESPALIER_BODY kernels::Bf16TileScope::~Bf16TileScope() {
#if ESPALIER_AMX
    if (has_bf16_tiles()) __asm__ volatile("tilerelease");
#endif
}

ESPALIER_BODY void kernels::Bf16Product::by_loops(const Bf16Steps& steps) const {
    const auto number = [](Bf16 half) {
        const std::uint32_t bits = std::uint32_t(half) << 16;
        float x;
        std::memcpy(&x, &bits, sizeof x);
        return x;
    };
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            float* const sums = y[i][j];
            if (!adds) std::fill_n(sums, Bf16Tile::results, 0.f);
            for (Index s = 0; s < steps.count[0]; ++s)
                for (Index t = 0; t < steps.count[1]; ++t)
                    for (Index u = 0; u < steps.count[2]; ++u) {
                        const Bf16* const left = a[i] + s * steps.a[0] + t * steps.a[1] + u * steps.a[2];
                        const Bf16* const right = b[j] + s * steps.b[0] + t * steps.b[1] + u * steps.b[2];
                        for (Index r = 0; r < Bf16Tile::rows; ++r)
                            for (Index k = 0; k < Bf16Tile::terms; ++k) {
                                const Bf16 *const x = left + r * row + k,
                                                  *w = right + k / 2 * 2 * Bf16Tile::columns + k % 2;
                                for (Index c = 0; c < Bf16Tile::columns; ++c, w += 2) {
                                    const float upper = number(*w), lower = number(w[Bf16Tile::half]);
                                    float& sum = sums[r * Bf16Tile::columns + c];
                                    sum += number(*x) * upper + number(*x) * lower;
                                    sum += number(x[low]) * upper + number(x[low]) * lower;
                                }
                            }
                    }
        }
}

#if ESPALIER_AMX
namespace detail {

// Macros, because the number of a tile is part of the instruction.
#define ESPALIER_TILES [[gnu::target("amx-tile,amx-bf16")]]
#define ESPALIER_LOAD(tile, from, bytes)                                                                               \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"(Index(bytes)) : "memory")
#define ESPALIER_STORE(tile, to)                                                                                       \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"(Index(64)) : "memory")
#define ESPALIER_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile : :)
#define ESPALIER_MULTIPLY(sum, left, right)                                                                            \
    __asm__ volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sum : :)

// `Bf16Product` of M x N tiles. Tiles 0 to 3 hold the sums, y[i][j] in number i * N + j; 4 and 5 hold halves of A, 6
// and 7 of B.
template <int M, int N> struct AmxProduct {
    const kernels::Bf16Product& p;

    ESPALIER_TILES [[gnu::always_inline]] void load_sums() const {
        if (!p.adds) {
            ESPALIER_ZERO(0);
            ESPALIER_ZERO(1);
            ESPALIER_ZERO(2);
            ESPALIER_ZERO(3);
            return;
        }
        ESPALIER_LOAD(0, p.y[0][0], 64);
        if constexpr (M * N > 1) ESPALIER_LOAD(1, p.y[1 / N][1 % N], 64);
        if constexpr (M * N > 2) ESPALIER_LOAD(2, p.y[2 / N][2 % N], 64);
        if constexpr (M * N > 3) ESPALIER_LOAD(3, p.y[3 / N][3 % N], 64);
    }
    ESPALIER_TILES [[gnu::always_inline]] void store_sums() const {
        ESPALIER_STORE(0, p.y[0][0]);
        if constexpr (M * N > 1) ESPALIER_STORE(1, p.y[1 / N][1 % N]);
        if constexpr (M * N > 2) ESPALIER_STORE(2, p.y[2 / N][2 % N]);
        if constexpr (M * N > 3) ESPALIER_STORE(3, p.y[3 / N][3 % N]);
    }

    // A half of all tiles of A, so many numbers from their upper halves, times the two halves of one tile of B.
    ESPALIER_TILES [[gnu::always_inline]] void multiply_column(Index at) const {
        const Index bytes = 2 * p.row;
        ESPALIER_LOAD(4, p.a[0] + at, bytes);
        ESPALIER_MULTIPLY(0, 4, 6);
        if constexpr (M > 1) {
            ESPALIER_LOAD(5, p.a[1] + at, bytes);
            ESPALIER_MULTIPLY(1, 5, 6);
        }
        ESPALIER_MULTIPLY(0, 4, 7);
        if constexpr (M > 1) ESPALIER_MULTIPLY(1, 5, 7);
        if constexpr (M > 2) {
            ESPALIER_LOAD(4, p.a[2] + at, bytes);
            ESPALIER_MULTIPLY(2, 4, 6);
            ESPALIER_MULTIPLY(2, 4, 7);
        }
        if constexpr (M > 3) {
            ESPALIER_LOAD(5, p.a[3] + at, bytes);
            ESPALIER_MULTIPLY(3, 5, 6);
            ESPALIER_MULTIPLY(3, 5, 7);
        }
    }
    // The same times a half of each of two tiles of B.
    ESPALIER_TILES [[gnu::always_inline]] void multiply_columns(Index at) const {
        const Index bytes = 2 * p.row;
        ESPALIER_LOAD(4, p.a[0] + at, bytes);
        ESPALIER_MULTIPLY(0, 4, 6);
        ESPALIER_MULTIPLY(1, 4, 7);
        if constexpr (M > 1) {
            ESPALIER_LOAD(5, p.a[1] + at, bytes);
            ESPALIER_MULTIPLY(2, 5, 6);
            ESPALIER_MULTIPLY(3, 5, 7);
        }
    }

    // The four products of the halves of A and B, so many numbers from the first tiles.
    ESPALIER_TILES [[gnu::always_inline]] void step(Index at, Index at_b) const {
        constexpr Index half = kernels::Bf16Tile::half;
        const kernels::Bf16* const b = p.b[0] + at_b;
        ESPALIER_LOAD(6, b, 64);
        if constexpr (N == 1) {
            ESPALIER_LOAD(7, b + half, 64);
            multiply_column(p.low + at);
            multiply_column(at);
        } else {
            const kernels::Bf16* const c = p.b[1] + at_b;
            ESPALIER_LOAD(7, c, 64);
            multiply_columns(p.low + at);
            multiply_columns(at);
            ESPALIER_LOAD(6, b + half, 64); // A's upper halves are still there
            ESPALIER_MULTIPLY(0, 4, 6);
            if constexpr (M > 1) ESPALIER_MULTIPLY(2, 5, 6);
            ESPALIER_LOAD(7, c + half, 64);
            ESPALIER_MULTIPLY(1, 4, 7);
            if constexpr (M > 1) ESPALIER_MULTIPLY(3, 5, 7);
            multiply_columns(p.low + at);
        }
    }

    ESPALIER_TILES [[gnu::noinline]] void operator()(const kernels::Bf16Steps& steps) const {
        load_sums();
        auto awake = Simd<float>::zero();
        for (Index s = 0; s < steps.count[0]; ++s)
            for (Index t = 0; t < steps.count[1]; ++t) {
                Index at = s * steps.a[0] + t * steps.a[1], at_b = s * steps.b[0] + t * steps.b[1];
                for (Index u = 0; u < steps.count[2]; ++u, at += steps.a[2], at_b += steps.b[2]) {
                    step(at, at_b);
                    // After some two thousand cycles without a vector instruction the next one that stores a tile takes
                    // nearly a thousand, as if their unit had to wake up.
                    __asm__ volatile("vaddps %0, %0, %0" : "+v"(awake));
                }
            }
        store_sums();
    }
};

#undef ESPALIER_TILES
#undef ESPALIER_LOAD
#undef ESPALIER_STORE
#undef ESPALIER_ZERO
#undef ESPALIER_MULTIPLY

} // namespace detail
#endif

ESPALIER_BODY void kernels::Bf16Product::operator()(const Bf16Steps& steps) const {
#if ESPALIER_AMX
    if (has_bf16_tiles()) {
        if (n == 2) return m == 2 ? detail::AmxProduct<2, 2>{*this}(steps) : detail::AmxProduct<1, 2>{*this}(steps);
        if (m == 4) return detail::AmxProduct<4, 1>{*this}(steps);
        if (m == 3) return detail::AmxProduct<3, 1>{*this}(steps);
        return m == 2 ? detail::AmxProduct<2, 1>{*this}(steps) : detail::AmxProduct<1, 1>{*this}(steps);
    }
#endif
    by_loops(steps);
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
