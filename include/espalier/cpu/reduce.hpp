#pragma once

#include <espalier/cpu/accumulate.hpp>

#include <array>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// How `reduce_middle` splits the Q rows of [P,Q,R]: `count` blocks of `rows`, by the extents alone.
struct ReduceBlocks {
    Index rows, count; ///< rows a block, and number of blocks
};
/// Columns that one thread sums at a time: their double sums stay in the L1 cache.
inline constexpr Index reduce_columns = 512;

/// The split of [P,Q,R]: one block if the columns alone keep the threads busy, else at most 64.
inline ReduceBlocks reduce_blocks(Index P, Index Q, Index R) {
    const Index independent = P * ((R + reduce_columns - 1) / reduce_columns);
    if (independent >= 16 || P * Q * R <= 2 * elementwise_grain) return {Q, 1}; // enough, or too little, to share out
    // At least 8 rows a block, so that the partial sums stay small beside x, and at most 64 blocks.
    const Index rows = std::max({Index(8), (elementwise_grain + R - 1) / R, (Q + 63) / 64});
    return {rows, (Q + rows - 1) / rows};
}
/// Elements of scratch that `reduce_middle` of [P,Q,R] takes.
inline Index reduce_scratch(Index P, Index Q, Index R) {
    const Index blocks = reduce_blocks(P, Q, R).count;
    return blocks == 1 ? 0 : P * blocks * R;
}

} // namespace kernels

namespace detail {

// Sum of term(x[i]...) over a contiguous run, in 16 interleaved sums so that the loop vectorises.
template <class Term, class... X> double sum_run(const Term& term, Index n, const X* __restrict... x) {
    constexpr Index lanes = 16;
    double sums[lanes] = {};
    Index i = 0;
    for (; i + lanes <= n; i += lanes)
        for (Index lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(term(x[i + lane]...));
    for (Index lane = 0; i + lane < n; ++lane) sums[lane] += static_cast<double>(term(x[i + lane]...));
    double sum = 0;
    for (const double s : sums) sum += s;
    return sum;
}
template <class Term, class... X>
void add_row(const Term& term, Index n, double* __restrict sums, const X* __restrict... x) {
    for (Index i = 0; i < n; ++i) sums[i] += static_cast<double>(term(x[i]...));
}

} // namespace detail

namespace kernels {

/// y[p,r] = finish(sum over q of term(x[p,q,r]...)), summed in double in an order that depends on the extents alone.
///
/// x [P,Q,R] dense, y [P,R]; scratch of reduce_scratch(P, Q, R) elements. A thread takes blocks of rows, columns of y.
template <class T, class Term, class Finish, class... X>
void reduce_middle(Cpu, View<T, 2> y, View<double, 1> scratch, Term term, Finish finish, View<const X, 3>... x) {
    const Index P = y.size(0), R = y.size(1), Q = std::max({x.size(1)...});
    const ReduceBlocks split = reduce_blocks(P, Q, R);
    const Index rows = split.rows, blocks = split.count;
    const Index chunks = (R + reduce_columns - 1) / reduce_columns;
    const Index work = std::max<Index>(1, rows * std::min(R, reduce_columns));
    const View<double, 3> partial(scratch.data(), {P, blocks, R});
    parallel_ranges(P * blocks * chunks, std::max<Index>(1, elementwise_grain / work), [&](Index begin, Index end) {
        for (Index item = begin; item < end; ++item) {
            const Index chunk = item % chunks, b = item / chunks % blocks, p = item / chunks / blocks;
            const Index from = chunk * reduce_columns, width = std::min(reduce_columns, R - from);
            const Index first = b * rows, last = std::min(Q, first + rows);
            double sums[reduce_columns];
            if (R == 1) {
                sums[0] = detail::sum_run(term, last - first, x.at(p, first)...);
            } else {
                std::fill_n(sums, width, 0.0);
                for (Index q = first; q < last; ++q) detail::add_row(term, width, sums, x.at(p, q, from)...);
            }
            if (blocks == 1)
                for (Index c = 0; c < width; ++c) y(p, from + c) = static_cast<T>(finish(sums[c]));
            else
                std::copy_n(sums, width, partial.at(p, b, from));
        }
    });
    if (blocks == 1) return;
    parallel_ranges(P * R, elementwise_grain, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
            double sum = 0;
            for (Index b = 0; b < blocks; ++b) sum += partial(i / R, b, i % R);
            y(i / R, i % R) = static_cast<T>(finish(sum));
        }
    });
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
