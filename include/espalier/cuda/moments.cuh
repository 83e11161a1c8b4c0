#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/tensor/view.hpp>

// The moments of a matrix that a kernel has just made, added up while it is still in registers: batch norm then need
// not read all of it for its statistics. Of each `moment_rows` rows and each column: the sum of deviations from the
// first of these rows, and of their squares. That row is one of those that are summed, so the squares are at most 65
// times those of the deviations from the mean: little cancels, however far the mean is from zero.
//
// A Math has for that, beside its `rows`, `columns` and `threads`, which are multiples of moment_rows, 1 and 32:
//     warps_down, warp_down()  how many warps share its rows, in equal parts from the first on, and which this one is
//     column_lanes             lanes l and l + column_lanes of a warp hold the same columns; a power of two
//     held_columns, column(k)  how many columns a thread has sums of, and which is the k-th
//     each_held(f)             calls f(i, k, sum) for the sums of this thread, in row i and the k-th of its columns

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

constexpr unsigned moment_rows = 64; ///< that are taken together; the last ones may be fewer

/// How many times moment_rows there are, the last begun.
inline Index moment_tiles(Index rows) { return (rows + moment_rows - 1) / moment_rows; }

/// The rows and columns of a block's tile that exist.
struct TileExtents {
    unsigned first_row, rows;       ///< first row of the tile, a multiple of moment_rows; rows of all tiles
    unsigned first_column, columns; ///< likewise
};

// v[k] over the lanes that hold the same columns, in all of them.
template <class Math, class T> __device__ void sum_lanes(T (&v)[Math::held_columns]) {
    for (int bit = 16; bit >= Math::column_lanes; bit /= 2)
        for (int k = 0; k < Math::held_columns; ++k) v[k] += __shfl_xor_sync(~0u, v[k], bit);
}

/// Writes the moments of the sums that the block's `math` hold to [2,moment_tiles(rows),columns].
///
/// All threads of the block call it. A thread adds its own rows, a warp its lanes, the block its warps: an order that
/// Math alone decides; then a thread writes a column. Shared memory: floats 4.5 KiB at most, doubles 8.5.
template <class Math, class T> __device__ void write_moments(const Math& math, const TileExtents& tile, View<T, 3> to) {
    constexpr unsigned tiles = Math::rows / moment_rows, warps = Math::warps_down / tiles; // warps of one of the tiles
    static_assert(Math::rows % moment_rows == 0 && Math::warps_down % tiles == 0);
    __shared__ T first[tiles][Math::columns];
    __shared__ T sums[Math::warps_down][Math::columns], squares[Math::warps_down][Math::columns];

    math.each_held([&](unsigned i, unsigned k, T v) {
        if (i % moment_rows == 0) first[i / moment_rows][math.column(k)] = v;
    });
    __syncthreads();
    const unsigned left = tile.first_row < tile.rows ? tile.rows - tile.first_row : 0, down = math.warp_down();
    T pivot[Math::held_columns], sum[Math::held_columns] = {}, square[Math::held_columns] = {};
    for (int k = 0; k < Math::held_columns; ++k) pivot[k] = first[down / warps][math.column(k)];
    math.each_held([&](unsigned i, unsigned k, T v) {
        const T d = i < left ? v - pivot[k] : T(0);
        sum[k] += d;
        square[k] += d * d;
    });
    sum_lanes<Math>(sum);
    sum_lanes<Math>(square);
    if (threadIdx.x % 32 < Math::column_lanes)
        for (int k = 0; k < Math::held_columns; ++k) {
            sums[down][math.column(k)] = sum[k];
            squares[down][math.column(k)] = square[k];
        }
    __syncthreads();
    for (unsigned e = threadIdx.x; e < tiles * Math::columns; e += Math::threads) {
        const unsigned n = e / Math::columns, column = e % Math::columns;
        if (n * moment_rows >= left || tile.first_column + column >= tile.columns) continue;
        T a = 0, b = 0;
        for (unsigned w = n * warps; w < (n + 1) * warps; ++w) {
            a += sums[w][column];
            b += squares[w][column];
        }
        const Index row = tile.first_row / moment_rows + n, at = tile.first_column + column;
        to(0, row, at) = a;
        to(1, row, at) = b;
    }
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
