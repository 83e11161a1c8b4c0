#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/cuda/divider.cuh>
#include <espalier/cuda/moments.cuh>
#include <espalier/tensor/device.hpp>

#include <algorithm>

// Products of matrices that need not lie in memory as such: y[i,j] = sum over t of a(i,t) * b(j,t). Both operands say
// where an element is, or that it is zero, so that one kernel serves matrices and all passes of convolutions, and no
// buffer of unfolded pixels is ever written.
//
// An operand has
//     along_terms   whether memory runs along terms t, or along rows i (j for b)
//     width         4 if along that axis 4 elements from a multiple of 4 on lie side by side, aligned; else 1
//     row(i), term(t)   what is known of one row, and of one term: computed once for many elements
//     at(row, term)     the element's address; null: it is zero
// A product has an `output`, and `part(index)`, one of the several products of a launch. One whose y may be normalised
// has `moments`, too, [2,moment_tiles(rows),pitch], or none: then a bias and what y holds are not added.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Four elements that are loaded together.
template <class T> struct alignas(16) Quad {
    T v[4]; ///< in memory order
};

/// A matrix in memory as an operand.
template <class T, bool AlongTerms, int Width> struct StridedRows {
    static constexpr bool along_terms = AlongTerms;
    static constexpr int width = Width;
    const T* data;
    Index row_stride, term_stride; ///< in elements
    __device__ Index row(unsigned i) const { return i * row_stride; }
    __device__ Index term(unsigned t) const { return t * term_stride; }
    __device__ const T* at(Index row, Index term) const { return data + row + term; }
};

/// Where a product goes.
template <class T> struct Output {
    T* data;       ///< of the first split
    Index pitch;   ///< elements from one row to the next
    const T* bias; ///< of the first column; null: none
    Index split;   ///< elements from one split to the next
    bool adds;     ///< to what is there
};

/// Where row i of a part begins, if rows follow one another.
struct RowOffset {
    Index first, pitch; ///< of row 0, and from one to the next
    __device__ Index operator()(unsigned i) const { return first + i * pitch; }
};

/// One product of a launch.
template <class T, class A, class B, class Offset> struct ProductPart {
    A a;                           ///< first operand
    B b;                           ///< second operand
    unsigned rows, columns, terms; ///< extents
    Offset offset;                 ///< of row i in y
    const T* bias;                 ///< of the first column; null: none
};

/// Reads a panel of an operand, Rows by Depth, with all threads of a block: each holds quads along memory.
template <class T, class Operand, int Rows, int Depth, int Threads> class PanelReader {
public:
    static constexpr bool along_terms = Operand::along_terms;
    static constexpr int quads = Rows * Depth / 4 / Threads; ///< that a thread holds
    /// Quads of one run of memory; neighbouring threads take neighbouring ones.
    static constexpr unsigned run = (along_terms ? Depth : Rows) / 4;
    static_assert(Threads % run == 0 && Rows * Depth % (4 * Threads) == 0);

    __device__ PanelReader(const Operand& operand, unsigned first_row, unsigned rows)
        : operand_(operand), first_row_(first_row), rows_(rows) {
        for (int i = 0; i < kept; ++i) kept_[i] = operand.row(first_row + (along_terms ? across(i) : along(i * step)));
    }
    /// Reads terms [first, last) of the next Depth; what is outside is zero.
    __device__ void read(unsigned first, unsigned last) {
        if constexpr (along_terms) {
            for (int e = 0; e < 4; e += step) {
                const unsigned t = first + along(e);
                const auto term = operand_.term(t);
                for (int n = 0; n < quads; ++n) take(n, e, t < last && first_row_ + across(n) < rows_, kept_[n], term);
            }
        } else {
            for (int n = 0; n < quads; ++n) {
                const unsigned t = first + across(n);
                const auto term = operand_.term(t);
                for (int e = 0; e < 4; e += step)
                    take(n, e, t < last && first_row_ + along(e) < rows_, kept_[e / step], term);
            }
        }
    }
    /// Stores what was read in a panel: of a row four terms from `term` on if memory runs along terms, else of `quads`
    /// terms four rows from `row` on.
    template <class Panel> __device__ void write(Panel& panel) const {
        if constexpr (along_terms)
            for (int n = 0; n < quads; ++n) panel.store(across(n), along(0), held_[n]);
        else
            panel.store(along(0), across(0), held_);
    }

private:
    static constexpr int step = Operand::width;
    static constexpr int kept = along_terms ? quads : 4 / step; // rows of this thread

    static __device__ unsigned along(int e) { return threadIdx.x % run * 4 + static_cast<unsigned>(e); }
    static __device__ unsigned across(int n) {
        return along_terms ? (threadIdx.x + static_cast<unsigned>(n) * Threads) / run
                           : threadIdx.x / run * quads + static_cast<unsigned>(n);
    }
    template <class Row, class Term> __device__ void take(int n, int e, bool inside, const Row& row, const Term& term) {
        const T* const from = inside ? operand_.at(row, term) : nullptr;
        if constexpr (step == 4)
            held_[n] = from ? *reinterpret_cast<const Quad<T>*>(from) : Quad<T>{};
        else
            held_[n].v[e] = from ? *from : T(0);
    }

    const Operand& operand_;
    unsigned first_row_, rows_;
    decltype(operand_.row(0u)) kept_[kept];
    Quad<T> held_[quads];
};

/// Products of panels without tensor cores: 16 x 16 threads, each with 4 x 4 sums in T, in the order of terms.
template <class T> struct PlainProduct {
    using Scalar = T;
    static constexpr int rows = 64, columns = 64, depth = 16, threads = 256;
    static constexpr int warps_down = 8, column_lanes = 16, held_columns = 4;

    /// A panel in shared memory, term by term; the pitch keeps quads aligned and spreads terms over banks.
    template <bool, int Rows> struct Panel {
        alignas(16) T v[depth][Rows + 4];
        __device__ void store(unsigned row, unsigned term, const Quad<T>& terms) {
            for (unsigned e = 0; e < 4; ++e) v[term + e][row] = terms.v[e];
        }
        template <int N> __device__ void store(unsigned row, unsigned term, const Quad<T> (&quads)[N]) {
            for (unsigned n = 0; n < N; ++n) *reinterpret_cast<Quad<T>*>(&v[term + n][row]) = quads[n];
        }
    };

    T sums[4][4] = {};

    template <class A, class B> __device__ void multiply(const A& a, const B& b) {
        const unsigned row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
        for (int t = 0; t < depth; ++t) {
            const Quad<T> u = *reinterpret_cast<const Quad<T>*>(&a.v[t][row]);
            const Quad<T> v = *reinterpret_cast<const Quad<T>*>(&b.v[t][column]);
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j) sums[i][j] += u.v[i] * v.v[j];
        }
    }
    /// Calls `write(i, j, sum)` for the sums of this thread.
    template <class Write> __device__ void each(const Write& write) const {
        each_held([&](unsigned i, unsigned k, T sum) { write(i, column(k), sum); });
    }
    /// As cuda/moments.cuh wants them.
    /// @{
    static __device__ unsigned warp_down() { return threadIdx.x / 32; }
    static __device__ unsigned column(unsigned k) { return threadIdx.x % 16 * 4 + k; }
    template <class F> __device__ void each_held(const F& f) const {
        for (unsigned i = 0; i < 4; ++i)
            for (unsigned k = 0; k < 4; ++k) f(threadIdx.x / 16 * 4 + i, k, sums[i][k]);
    }
    /// @}
};

/// Writes the moments of the tile that `math` holds of a part, if the product is one that has them.
template <class Product, class Part, class Math>
__device__ void write_moments_of(const Product& product, const Part& part, const Math& math, unsigned first_row,
                                 unsigned first_column) {
    if constexpr (requires { product.moments; }) {
        const auto& all = product.moments;
        if (all.data() == nullptr) return;
        write_moments(math, TileExtents{first_row, part.rows, first_column, part.columns},
                      View<typename Math::Scalar, 3>(all.at(0, 0, part.offset(0)), {2, all.size(1), part.columns},
                                                     {all.stride(0), all.stride(1), 1}));
    }
}

// A block of Math::threads takes one tile of rows x columns of one part, and one range of terms (blockIdx.y of
// gridDim.y). Panels of `depth` terms go from memory to registers to one of two buffers in shared memory; while they
// are multiplied, the next ones are on their way. A thread writes the sums that Math gives it. Shared memory: four
// panels, 17 KiB for floats, and what moments take. The order of additions depends on extents alone.
template <class Math, class Product>
__global__ void __launch_bounds__(Math::threads, 1)
    product_kernel(Product product, unsigned row_tiles, unsigned column_tiles) {
    using T = typename Math::Scalar;
    const unsigned tile = blockIdx.x / column_tiles;
    const auto part = product.part(tile / row_tiles);
    using A = std::remove_cvref_t<decltype(part.a)>;
    using B = std::remove_cvref_t<decltype(part.b)>;
    __shared__ typename Math::template Panel<A::along_terms, Math::rows> a[2];
    __shared__ typename Math::template Panel<B::along_terms, Math::columns> b[2];

    const unsigned first_row = tile % row_tiles * Math::rows, first_column = blockIdx.x % column_tiles * Math::columns;
    const unsigned steps = (part.terms + Math::depth - 1) / Math::depth, range = (steps + gridDim.y - 1) / gridDim.y;
    const unsigned first = blockIdx.y * range * Math::depth;
    unsigned last = first + range * Math::depth;
    if (last > part.terms) last = part.terms;
    if (first_row >= part.rows) last = 0; // parts may differ in rows

    PanelReader<T, A, Math::rows, Math::depth, Math::threads> a_reader(part.a, first_row, part.rows);
    PanelReader<T, B, Math::columns, Math::depth, Math::threads> b_reader(part.b, first_column, part.columns);
    Math math;
    if (first < last) {
        a_reader.read(first, last);
        b_reader.read(first, last);
    }
    for (unsigned t = first, buffer = 0; t < last; t += Math::depth, buffer ^= 1) {
        // Whoever is here has left the product before the last one, which read this buffer.
        a_reader.write(a[buffer]);
        b_reader.write(b[buffer]);
        __syncthreads();
        if (t + Math::depth < last) {
            a_reader.read(t + Math::depth, last);
            b_reader.read(t + Math::depth, last);
        }
        math.multiply(a[buffer], b[buffer]);
    }
    T* const to = product.output.data + blockIdx.y * product.output.split;
    math.each([&](unsigned i, unsigned j, T sum) {
        const unsigned row = first_row + i, column = first_column + j;
        if (row >= part.rows || column >= part.columns) return;
        T& y = to[part.offset(row) + column];
        if (part.bias) sum += part.bias[column];
        y = product.output.adds ? y + sum : sum;
    });
    write_moments_of(product, part, math, first_row, first_column);
}

// One thread an element i of y, whose rows of `columns` begin every `pitch`: adds the splits' sums in order, then the
// bias.
template <class T>
__global__ void add_splits_kernel(T* y, Index pitch, const T* partial, unsigned elements, unsigned columns,
                                  unsigned splits, const T* bias, bool adds) {
    const auto i = static_cast<unsigned>(global_thread());
    if (i >= elements) return;
    T sum = 0;
    for (unsigned s = 0; s < splits; ++s) sum += partial[Index(s) * elements + i];
    const unsigned row = i / columns, column = i - row * columns;
    if (bias) sum += bias[column];
    T& to = y[row * pitch + column];
    to = adds ? to + sum : sum;
}

/// How the work of a product is cut, by its extents alone, and what its operands are rounded to.
struct ProductPlan {
    Index rows, columns;       ///< of the largest part
    Index parts;               ///< products of the launch
    Index elements;            ///< of all of y
    Index splits;              ///< ranges of terms that are summed apart
    MatmulPrecision precision; ///< of floats, where `multiply_rounded` is asked
    Index copies = 0;          ///< of operands, rounded: elements that they take before the sums
    /// Elements that the product takes: copies, and the sums of each range.
    Index scratch() const { return copies + (splits > 1 ? splits * elements : 0); }
};

/// The plan of a product; ranges of terms are split where the tiles alone leave a large GPU idle. It is in this
/// thread's precision, on the fast path.
inline ProductPlan product_plan(Index rows, Index columns, Index terms, Index parts, Index elements) {
    // Two blocks for each of some 130 multiprocessors. A range has at least 256 terms, or storing sums would cost as
    // much as making them; 128 ranges are added in a few microseconds.
    const Index tiles = std::max<Index>(1, (rows + 63) / 64 * ((columns + 63) / 64) * parts);
    const Index splits = std::min({(264 + tiles - 1) / tiles, terms / 256, Index(128)});
    return {rows,
            columns,
            parts,
            elements,
            std::max<Index>(1, splits),
            current_path() == Path::fast ? current_matmul_precision() : MatmulPrecision::fp32};
}

/// Queues a product by a kernel with tiles as those of Math, whose own `output` is set here: to y, with rows of
/// `columns` elements every `pitch`.
template <class Math, class Kernel, class Product, class T>
void multiply_in(Cuda on, const ProductPlan& plan, Kernel* kernel, std::size_t shared_bytes, Product product, T* y,
                 Index columns, Index pitch, const T* bias, bool adds, T* scratch) {
    if (plan.elements == 0) return;
    const bool whole = plan.splits == 1;
    product.output =
        whole ? Output<T>{y, pitch, bias, 0, adds} : Output<T>{scratch, columns, nullptr, plan.elements, false};
    const auto row_tiles = static_cast<unsigned>((plan.rows + Math::rows - 1) / Math::rows);
    const auto column_tiles = static_cast<unsigned>((plan.columns + Math::columns - 1) / Math::columns);
    launch(on.stream,
           {{row_tiles * column_tiles * static_cast<unsigned>(plan.parts), static_cast<unsigned>(plan.splits)},
            Math::threads,
            shared_bytes},
           kernel, product, row_tiles, column_tiles);
    if (whole) return;
    launch(on.stream, elements(plan.elements), add_splits_kernel<T>, y, pitch, scratch,
           static_cast<unsigned>(plan.elements), static_cast<unsigned>(columns), static_cast<unsigned>(plan.splits),
           bias, adds);
}
/// As above, of operands of type T.
template <class Math, class Product, class T>
void multiply(Cuda on, const ProductPlan& plan, const Product& product, T* y, Index columns, Index pitch, const T* bias,
              bool adds, T* scratch) {
    multiply_in<Math>(on, plan, product_kernel<Math, Product>, 0, product, y, columns, pitch, bias, adds, scratch);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
