#pragma once

#include <espalier/cuda/bf16.cuh>
#include <espalier/cuda/copy_async.cuh>
#include <espalier/cuda/product.cuh>

#include <algorithm>
#include <utility>

// Products of operands that lie in memory as bf16, in chunks of 8 along the axis that memory runs along. Chunks go from
// memory to shared memory past the registers, three panels ahead of the one that is multiplied: a warp that waits for
// memory would leave the tensor cores idle, and has no registers for so much.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// f(0), f(1), ... f(N - 1), as constants: an array that a loop indexes is no set of registers.
template <int N, class F> __device__ void for_constants(const F& f) {
    [&]<int... I>(std::integer_sequence<int, I...>) { (f(std::integral_constant<int, I>()), ...); }
    (std::make_integer_sequence<int, N>());
}

/// A panel of an operand in shared memory: lines of Chunks chunks, which lie in an order that differs from line to
/// line, so that neither the 8 rows of a matrix of fragments nor what neighbouring threads copy meet in a bank.
template <bool AlongTerms, int Rows, int Depth> struct Bf16Panel {
    static constexpr bool along_terms = AlongTerms;
    static constexpr int lines = AlongTerms ? Rows : Depth; ///< rows if memory runs along terms, else terms
    static constexpr int chunks = (AlongTerms ? Depth : Rows) / Bf16Chunk::size; ///< of a line
    static_assert(chunks == 4 || chunks % 8 == 0);

    Bf16Chunk v[lines * chunks]; ///< in that order
    /// Where a chunk is.
    __device__ Bf16Chunk* at(unsigned line, unsigned chunk) {
        return v + (line * chunks + (chunks == 4 ? chunk ^ line / 2 % 4 : chunk ^ line % 8));
    }
};

/// Copies panels of an operand, Rows by Depth, with all threads of a block; neighbouring threads take neighbouring
/// chunks.
template <class Operand, class Panel, int Threads> class ChunkReader {
public:
    /// @param anywhere  an address of which nothing is read
    __device__ ChunkReader(const Operand& operand, unsigned first_row, unsigned rows, const void* anywhere)
        : operand_(operand), first_row_(first_row), rows_(rows), anywhere_(anywhere) {
        for_constants<kept>([&](auto n) { kept_[n] = operand.row(first_row + (along_terms ? across(n) : along())); });
    }
    /// Begins to copy terms [first, last) of the next panel; what is outside is zero.
    __device__ void copy(unsigned first, unsigned last, Panel& to) const {
        if constexpr (along_terms) {
            const unsigned t = first + along();
            const auto term = operand_.term(t);
            for_constants<count>([&](auto n) {
                copy_chunk(to.at(across(n), along() / Bf16Chunk::size), t < last && first_row_ + across(n) < rows_,
                           kept_[n], term);
            });
        } else {
            const bool inside = first_row_ + along() < rows_;
            for_constants<count>([&](auto n) {
                const unsigned t = first + across(n);
                copy_chunk(to.at(across(n), along() / Bf16Chunk::size), inside && t < last, kept_[0], operand_.term(t));
            });
        }
    }

private:
    static constexpr bool along_terms = Panel::along_terms;
    static constexpr int count = Panel::lines * Panel::chunks / Threads; // chunks that a thread copies
    static constexpr int kept = along_terms ? count : 1;                 // rows that it knows
    static_assert(Threads % Panel::chunks == 0 && Panel::lines * Panel::chunks % Threads == 0);

    static __device__ unsigned along() { return threadIdx.x % Panel::chunks * Bf16Chunk::size; }
    static __device__ unsigned across(int n) {
        return (threadIdx.x + static_cast<unsigned>(n) * Threads) / Panel::chunks;
    }
    template <class Row, class Term>
    __device__ void copy_chunk(Bf16Chunk* to, bool inside, const Row& row, const Term& term) const {
        const BFloat16* const from = inside ? operand_.at(row, term) : nullptr;
        copy_async(to, from ? from : anywhere_, !from);
    }

    const Operand& operand_;
    unsigned first_row_, rows_;
    const void* anywhere_;
    decltype(std::declval<const Operand&>().row(0u)) kept_[kept];
};

/// Tiles of Rows x Columns by tensor cores; each warp has WarpRows x 32 sums, in float.
template <int Rows, int Columns, int WarpRows> struct WarpTiles {
    using Scalar = float;
    static constexpr int rows = Rows, columns = Columns, depth = 32, stages = 4;
    static constexpr int threads = Rows / WarpRows * (Columns / 32) * 32;
    static constexpr int warps_down = Rows / WarpRows, column_lanes = 4, held_columns = 8;
    /// Panels of both operands.
    template <bool A, bool B> struct Panels {
        Bf16Panel<A, Rows, depth> a;    ///< of the first
        Bf16Panel<B, Columns, depth> b; ///< of the second
    };

    float sums[WarpRows / 16][4][4] = {}; ///< fragments of 16 x 8

    template <bool A, bool B> __device__ void multiply(Panels<A, B>& panels) {
        // Four matrices are the fragment of a, 16 rows of 16 terms; or of b, twice 8 columns of 16 terms.
        const unsigned lane = threadIdx.x % 32, low = lane % 8, middle = lane / 8 % 2, high = lane / 16;
        for_constants<depth / 16>([&](auto step) {
            std::uint32_t u[WarpRows / 16][4], v[2][4];
            for_constants<WarpRows / 16>([&](auto i) {
                const unsigned row = first_row() + i * 16u, term = step * 16u;
                if constexpr (A)
                    load_matrices<false>(u[i], panels.a.at(row + low + middle * 8, term / 8 + high));
                else
                    load_matrices<true>(u[i], panels.a.at(term + low + high * 8, row / 8 + middle));
            });
            for_constants<2>([&](auto j) {
                const unsigned column = first_column() + j * 16u, term = step * 16u;
                if constexpr (B)
                    load_matrices<false>(v[j], panels.b.at(column + low + high * 8, term / 8 + middle));
                else
                    load_matrices<true>(v[j], panels.b.at(term + low + middle * 8, column / 8 + high));
            });
            for_constants<WarpRows / 16>([&](auto i) {
                for_constants<4>([&](auto j) {
                    const std::uint32_t w[2]{v[j / 2][j % 2 * 2], v[j / 2][j % 2 * 2 + 1]};
                    mma(Bf16Words(), sums[i][j], u[i], w);
                });
            });
        });
    }
    /// Calls `write(i, j, first, second)` for the sums of columns j and j + 1, j even.
    template <class Write> __device__ void each_pair(const Write& write) const {
        const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
        for_constants<WarpRows / 16>([&](auto i) {
            for_constants<4>([&](auto j) {
                const unsigned row = first_row() + i * 16u + g, column = first_column() + j * 8u + 2 * t;
                write(row, column, sums[i][j][0], sums[i][j][1]);
                write(row + 8, column, sums[i][j][2], sums[i][j][3]);
            });
        });
    }

    /// As cuda/moments.cuh wants them.
    /// @{
    static __device__ unsigned warp_down() { return first_row() / WarpRows; }
    static __device__ unsigned column(unsigned k) { return first_column() + k / 2 * 8 + 2 * (threadIdx.x % 4) + k % 2; }
    template <class F> __device__ void each_held(const F& f) const {
        const unsigned row = first_row() + threadIdx.x % 32 / 4;
        for_constants<WarpRows / 16>([&](auto i) {
            for_constants<16>([&](auto e) { // of four fragments
                constexpr unsigned j = e / 4, n = e % 4;
                f(row + i * 16u + n / 2 * 8, j * 2 + n % 2, sums[i][j][n]);
            });
        });
    }
    /// @}

private:
    // Of this thread's warp.
    static __device__ unsigned first_row() { return threadIdx.x / 32 / (Columns / 32) * WarpRows; }
    static __device__ unsigned first_column() { return threadIdx.x / 32 % (Columns / 32) * 32; }
};

/// Columns of a product where they are in y: one after the other.
struct ColumnOffset {
    /// Of column j in a row.
    __device__ Index operator()(unsigned j) const { return j; }
};
/// The same of columns that are padded to whole chunks, tap by tap, where y has none of the padding.
struct PaddedColumns {
    Divider padded;    ///< channels of a tap with it
    unsigned channels; ///< and without
    /// Of column j in a row, or -1.
    __device__ Index operator()(unsigned j) const {
        const auto [tap, c] = padded(j);
        return c < channels ? Index(tap) * channels + c : -1;
    }
};

/// One product of a launch. Rows and columns that memory runs along are padded to whole chunks in the operands alone.
template <class A, class B, class Offset, class Column> struct Bf16Part {
    A a;                           ///< first operand
    B b;                           ///< second operand
    unsigned rows, columns, terms; ///< extents
    Offset offset;                 ///< of row i in y
    Column column;                 ///< of column j in that row
    const float* bias;             ///< of the first column; null: none
};

// A block of Tile::threads takes one tile of one part, and one range of terms (blockIdx.y of gridDim.y). Shared memory:
// four stages of 64 bytes for each row and column of the tile, 64 KiB for 128 x 128. The order of additions depends on
// extents alone.
template <class Tile, class Product>
__global__ void __launch_bounds__(Tile::threads, Tile::threads == 256 ? 2 : 3)
    bf16_product_kernel(const __grid_constant__ Product product, unsigned row_tiles, unsigned column_tiles) {
    const unsigned tile = blockIdx.x / column_tiles;
    const auto part = product.part(tile / row_tiles);
    using A = std::remove_cvref_t<decltype(part.a)>;
    using B = std::remove_cvref_t<decltype(part.b)>;
    using Panels = typename Tile::template Panels<Product::a_along_terms, Product::b_along_terms>;
    static_assert(A::along_terms == Product::a_along_terms && B::along_terms == Product::b_along_terms);
    Panels* const panels = dynamic_shared<Panels>();

    const unsigned first_row = tile % row_tiles * Tile::rows, first_column = blockIdx.x % column_tiles * Tile::columns;
    const unsigned steps = (part.terms + Tile::depth - 1) / Tile::depth, range = (steps + gridDim.y - 1) / gridDim.y;
    const unsigned first = blockIdx.y * range * Tile::depth;
    unsigned last = first + range * Tile::depth;
    if (last > part.terms) last = part.terms;
    if (first_row >= part.rows) last = 0; // parts may differ in rows

    const ChunkReader<A, decltype(Panels::a), Tile::threads> a_reader(part.a, first_row, part.rows,
                                                                      product.output.data);
    const ChunkReader<B, decltype(Panels::b), Tile::threads> b_reader(part.b, first_column, part.columns,
                                                                      product.output.data);
    const auto read = [&](unsigned t, unsigned stage) {
        if (t < last) {
            a_reader.copy(t, last, panels[stage].a);
            b_reader.copy(t, last, panels[stage].b);
        }
        end_copies(); // groups are counted, so there is one without copies, too
    };
    Tile math;
    constexpr unsigned ahead = Tile::stages - 1;
    for (unsigned n = 0; n < ahead; ++n) read(first + n * Tile::depth, n);
    for (unsigned t = first, stage = 0; t < last; t += Tile::depth) {
        wait_for_copies<ahead - 1>();
        __syncthreads(); // all have copied this stage, and left the one before, which is copied to next
        read(t + ahead * Tile::depth, (stage + ahead) % Tile::stages);
        math.multiply(panels[stage]);
        stage = (stage + 1) % Tile::stages;
    }
    wait_for_copies<0>();

    float* const to = product.output.data + blockIdx.y * product.output.split;
    const bool adds = product.output.adds;
    math.each_pair([&](unsigned i, unsigned j, float sum, float next) {
        const unsigned row = first_row + i, column = first_column + j;
        if (row >= part.rows || column >= part.columns) return;
        float* const line = to + part.offset(row);
        const Index at = part.column(column), after = column + 1 < part.columns ? part.column(column + 1) : -1;
        if (at < 0) return; // padding, and so is what follows
        if (part.bias) sum += part.bias[column];
        if (after < 0) {
            line[at] = adds ? line[at] + sum : sum;
            return;
        }
        if (part.bias) next += part.bias[column + 1];
        struct alignas(8) Pair {
            float v[2];
        };
        if (after == at + 1 && reinterpret_cast<std::uintptr_t>(line + at) % sizeof(Pair) == 0) {
            Pair& y = *reinterpret_cast<Pair*>(line + at);
            y = adds ? Pair{y.v[0] + sum, y.v[1] + next} : Pair{sum, next};
        } else {
            line[at] = adds ? line[at] + sum : sum;
            line[after] = adds ? line[after] + next : next;
        }
    });
    write_moments_of(product, part, math, first_row, first_column);
}

/// As `multiply`, of operands in bf16. A product says of both, for the host, too, whether memory runs along terms.
template <class Product>
void multiply_bf16(Cuda on, const ProductPlan& plan, Product product, float* y, Index columns, Index pitch,
                   const float* bias, bool adds, float* scratch) {
    const auto run = [&]<class Tile>(Tile) {
        using Panels = typename Tile::template Panels<Product::a_along_terms, Product::b_along_terms>;
        multiply_in<Tile>(on, plan, bf16_product_kernel<Tile, Product>, Tile::stages * sizeof(Panels), product, y,
                          columns, pitch, bias, adds, scratch);
    };
    const auto tiles = [&](Index rows, Index width) {
        return (plan.rows + rows - 1) / rows * ((plan.columns + width - 1) / width) * plan.parts * plan.splits;
    };
    // The largest tile that still gives some 130 multiprocessors a block: it reads the fewest bytes for a product.
    if (plan.columns <= 32) return run(WarpTiles<128, 32, 32>());
    if (plan.columns > 64 && tiles(128, 128) >= 132) return run(WarpTiles<128, 128, 64>());
    if (tiles(128, 64) >= 132) return run(WarpTiles<128, 64, 64>());
    run(WarpTiles<64, 64, 32>());
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
