#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/tensor/device.hpp>

#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// One thread a number.
template <class F> __global__ void for_each_kernel(Index count, F f) {
    if (const Index i = global_thread(); i < count) f(i);
}
/// f(i) for i in [0, count), each by a thread of its own; f can be called by the GPU.
template <class F> void for_each(Cuda on, Index count, F f) {
    launch(on.stream, elements(count), for_each_kernel<F>, count, f);
}

// As many functions as a launch's parameters, of 4 KiB, have room for.
template <class F> struct Several {
    static constexpr unsigned most = 4000 / (sizeof(F) + sizeof(Index) + sizeof(unsigned)), per_block = 2048;

    unsigned size = 0;
    unsigned first_block[most + 1] = {}; // of each function, and the number of blocks
    Index count[most] = {};
    F f[most];
};
// Block b serves the last function whose first block is not above b, a stretch of its numbers: each thread several.
template <class F> __global__ void for_each_of_kernel(const __grid_constant__ Several<F> all) {
    unsigned k = 0;
    while (all.first_block[k + 1] <= blockIdx.x) ++k;
    const Index begin = Index(blockIdx.x - all.first_block[k]) * all.per_block;
    const Index left = all.count[k] - begin, end = begin + (left < all.per_block ? left : Index(all.per_block));
    for (Index i = begin + threadIdx.x; i < end; i += blockDim.x) all.f[k](i);
}
/// f(i) for i in [0, count) for each pair of a count and a function, dozens of them in one launch: for the many small
/// tensors of a network.
template <class F> void for_each_of(Cuda on, const std::vector<std::pair<Index, F>>& all) {
    Several<F> some;
    const auto flush = [&] {
        launch(on.stream, {some.first_block[some.size], 256}, for_each_of_kernel<F>, some);
        some.size = 0;
    };
    for (const auto& [count, f] : all) {
        some.count[some.size] = count;
        some.f[some.size] = f;
        const auto blocks = static_cast<unsigned>((count + some.per_block - 1) / some.per_block);
        some.first_block[some.size + 1] = some.first_block[some.size] + blocks;
        if (++some.size == some.most) flush();
    }
    flush();
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
