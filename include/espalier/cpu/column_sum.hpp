#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/tensor/tensor.hpp>

#include <algorithm>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Rows in one block of `column_sum`: the partial sums do not depend on the number of threads.
inline constexpr Index column_sum_rows = 256;

/// Elements of scratch that `column_sum` of [M, C] takes.
inline Index column_sum_scratch(Index rows, Index columns) {
    return (rows + column_sum_rows - 1) / column_sum_rows * columns;
}

/// sum[c] = sum over m of x[m,c], in fixed blocks of rows whose sums are then added first to last.
template <class T> void column_sum(Cpu, View<const T, 2> x, View<T, 1> scratch, View<T, 1> sum) {
    const Index columns = x.size(1), blocks = column_sum_scratch(x.size(0), 1);
    parallel_ranges(x.size(0), column_sum_rows, [&](Index begin, Index end) {
        T* const partial = scratch.at(begin / column_sum_rows * columns);
        std::fill_n(partial, columns, T(0));
        for (Index m = begin; m < end; ++m) {
            const T* const row = x.at(m);
            for (Index c = 0; c < columns; ++c) partial[c] += row[c];
        }
    });
    std::fill_n(sum.data(), columns, T(0));
    for (Index block = 0; block < blocks; ++block)
        for (Index c = 0; c < columns; ++c) sum(c) += scratch(block * columns + c);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
