#pragma once

#include <espalier/cpu/reduce.hpp>
#include <espalier/cuda/block.cuh>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// Sums of rows that lie side by side. A block takes one p and one range of rows, its threads add every 256th row of the
// range, then block_sum.
template <class Y, class Term, class Finish, class... X>
__global__ void reduce_run_kernel(Y* y, Index rows, Index Q, Term term, Finish finish, const X*... x) {
    const Index p = blockIdx.y, first = Index(blockIdx.x) * rows;
    const Index last = first + rows < Q ? first + rows : Q;
    double sum = 0;
    for (Index q = first + threadIdx.x; q < last; q += blockDim.x) sum += static_cast<double>(term(x[p * Q + q]...));
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[p * gridDim.x + blockIdx.x] = static_cast<Y>(finish(sum));
}

// Sums down columns. A block of 32 x 8 threads takes one p, one of `ranges` of rows and 32 columns: thread (c, i) adds
// every eighth row from i on, then thread (c, 0) adds the eight, in order. Shared memory: 2 KiB.
template <class Y, class Term, class Finish, class... X>
__global__ void reduce_columns_kernel(Y* y, Index rows, unsigned ranges, Index Q, Index R, Term term, Finish finish,
                                      const X*... x) {
    __shared__ double partial[8][32];
    const unsigned range = blockIdx.x % ranges;
    const Index p = blockIdx.y, r = Index(blockIdx.x / ranges) * 32 + threadIdx.x, first = range * rows;
    const Index last = first + rows < Q ? first + rows : Q;
    double sum = 0;
    if (r < R)
        for (Index q = first + threadIdx.y; q < last; q += 8)
            sum += static_cast<double>(term(x[(p * Q + q) * R + r]...));
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || r >= R) return;
    for (int i = 1; i < 8; ++i) sum += partial[i][threadIdx.x];
    y[(p * ranges + range) * R + r] = static_cast<Y>(finish(sum));
}

// One thread a sum: adds the partial ones, in order.
template <class Y, class Finish>
__global__ void reduce_partial_kernel(Y* y, const double* partial, Index P, Index blocks, Index R, Finish finish) {
    const Index i = global_thread();
    if (i >= P * R) return;
    double sum = 0;
    for (Index b = 0; b < blocks; ++b) sum += partial[(i / R * blocks + b) * R + i % R];
    y[i] = static_cast<Y>(finish(sum));
}

/// y[p,r] = finish(sum over q of term(x[p,q,r]...)), summed in double in an order that depends on the extents alone:
/// as on the CPU, in the same ranges of rows. `term` and `finish` can be called by the GPU.
template <class T, class Term, class Finish, class... X>
void reduce_middle(Cuda on, View<T, 2> y, View<double, 1> scratch, Term term, Finish finish, View<const X, 3>... x) {
    const Index P = y.size(0), R = y.size(1), Q = std::max({x.size(1)...});
    const ReduceBlocks split = reduce_blocks(P, Q, R);
    const auto rows = [&]<class Y, class Last>(Y* to, Last last) {
        constexpr Index most = 65535; // of a grid's second extent
        for (Index p = 0; p < P; p += most) {
            const auto blocks = static_cast<unsigned>(split.count), many = static_cast<unsigned>(std::min(most, P - p));
            if (R == 1)
                launch(on.stream, {{blocks, many}, 256}, reduce_run_kernel<Y, Term, Last, X...>, to + p * blocks,
                       split.rows, Q, term, last, x.data() + p * Q...);
            else
                launch(on.stream, {{blocks * static_cast<unsigned>((R + 31) / 32), many}, {32, 8}},
                       reduce_columns_kernel<Y, Term, Last, X...>, to + p * blocks * R, split.rows, blocks, Q, R, term,
                       last, x.data() + p * Q * R...);
        }
    };
    if (split.count == 1) return rows(y.data(), finish);
    rows(scratch.data(), std::identity());
    launch(on.stream, elements(P * R), reduce_partial_kernel<T, Finish>, y.data(), scratch.data(), P, split.count, R,
           finish);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
