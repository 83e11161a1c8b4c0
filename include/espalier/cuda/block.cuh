#pragma once

#include <espalier/core/launch.cuh>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Sum of v over a warp, in every lane; all 32 lanes call it.
template <class T> __device__ T warp_sum(T v) {
    for (int bit = 16; bit > 0; bit /= 2) v += __shfl_xor_sync(~0u, v, bit);
    return v;
}

/// The largest v of a warp, in every lane; all 32 lanes call it. No v is NaN.
template <class T> __device__ T warp_max(T v) {
    for (int bit = 16; bit > 0; bit /= 2) {
        const T other = __shfl_xor_sync(~0u, v, bit);
        v = other > v ? other : v;
    }
    return v;
}

/// Sum of v over the block, in every thread, in an order that the block's size alone decides; all threads call it.
/// blockDim.x is a multiple of 32 and the other extents are 1. Shared memory: 32 elements.
template <class T> __device__ T block_sum(T v) {
    __shared__ T partial[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    v = warp_sum(v);
    if (lane == 0) partial[warp] = v;
    __syncthreads();
    v = warp_sum(lane < blockDim.x / 32 ? partial[lane] : T(0));
    __syncthreads(); // who calls it again must not overwrite what another warp still reads
    return v;
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
