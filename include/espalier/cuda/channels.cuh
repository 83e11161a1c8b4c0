#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/tensor/device.hpp>

#include <algorithm>
#include <cstdint>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// Maps as matrices [M,C] of pixels by channels. A block takes X channels, a power of two up to 32, and Y = 256 / X
// pixels at a time: a warp reads what lies side by side. What belongs to a channel, a thread reads once.

/// X and Y of a block.
inline dim3 channel_threads(Index channels) {
    unsigned across = 1;
    while (across < 32 && across < channels) across *= 2;
    return {across, 256 / across};
}
/// The blocks that `rows` pixels a block make.
inline Grid channel_grid(Index pixels, Index channels, Index rows) {
    const dim3 threads = channel_threads(channels);
    return {{static_cast<unsigned>((pixels + rows - 1) / rows),
             static_cast<unsigned>((channels + threads.x - 1) / threads.x)},
            threads};
}

/// A place in a map [N,H,W,C].
struct Pixel {
    Index n, h, w; ///< image, row and column
};
/// Pixel number m of maps of H x W.
__device__ inline Pixel pixel_at(Index m, Index H, Index W) {
    if (m > 0xffffffff) return {m / W / H, m / W % H, m % W};
    // Divisions of 64 bits take several times as long.
    const auto i = static_cast<std::uint32_t>(m), high = static_cast<std::uint32_t>(H),
               wide = static_cast<std::uint32_t>(W), row = i / wide;
    return {row / high, row % high, i % wide};
}

/// Sum of v over the threads of one threadIdx.x, in all of them, in an order that the block's shape alone decides; all
/// threads call it. At most 256 threads, and blockDim.y is a power of two. Shared memory: 2 KiB.
__device__ inline double sum_of_column(double v) {
    __shared__ double partial[256];
    double* const mine = partial + threadIdx.y * blockDim.x + threadIdx.x;
    *mine = v;
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half) *mine += mine[half * blockDim.x];
    }
    __syncthreads();
    v = partial[threadIdx.x];
    __syncthreads();
    return v;
}

/// Pixels of a block of `map_channels`.
inline Index mapped_rows(Index channels) { return Index(4) * channel_threads(channels).y; }

// A block takes X channels and 4 Y pixels, a thread four pixels of one channel. It writes none before it has read all:
// y may be what is read, for all the compiler knows, so it would wait for memory four times.
template <class T, class Map> __global__ void map_channels_kernel(Map map, Index pixels, Index channels, T* y) {
    const Index c = Index(blockIdx.y) * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    const auto channel = map.channel(c);
    const Index first = Index(blockIdx.x) * 4 * blockDim.y + threadIdx.y;
    T values[4];
    for (int k = 0; k < 4; ++k)
        if (const Index m = first + k * blockDim.y; m < pixels) values[k] = channel(m, m * channels + c);
    for (int k = 0; k < 4; ++k)
        if (const Index m = first + k * blockDim.y; m < pixels) y[m * channels + c] = values[k];
}
/// y[m,c] = map.channel(c)(m, m * channels + c); `map.channel(c)` may read what belongs to a channel.
template <class T, class Map> void map_channels(Cuda on, Map map, Index pixels, Index channels, T* y) {
    launch(on.stream, channel_grid(pixels, channels, mapped_rows(channels)), map_channels_kernel<T, Map>, map, pixels,
           channels, y);
}

/// Pixels of a block of `sum_channels`: so that some thousand blocks have work, eight pixels a thread at least.
inline Index summed_rows(Index pixels, Index channels) {
    const Index groups = (channels + 31) / 32, most = std::max<Index>(1, 1024 / std::max<Index>(1, groups));
    return std::max(Index(8) * channel_threads(channels).y, (pixels + most - 1) / most);
}
/// Blocks of pixels, which each write one [2,C] of the scratch memory `partial`.
inline Index summed_blocks(Index pixels, Index channels) {
    const Index rows = summed_rows(pixels, channels);
    return (pixels + rows - 1) / rows;
}

// A block takes X channels and one range of pixels. A thread adds every Y-th pixel of one channel, up to 64 in T before
// they go into double, then the block adds up its threads; threads (c, 0) write.
template <class T, class Terms>
__global__ void sum_channels_kernel(Terms terms, Index pixels, Index channels, Index rows, double* partial) {
    const Index c = Index(blockIdx.y) * blockDim.x + threadIdx.x, first = Index(blockIdx.x) * rows;
    const Index last = first + rows < pixels ? first + rows : pixels, stretch = Index(64) * blockDim.y;
    double a = 0, b = 0;
    if (c < channels) {
        const auto channel = terms.channel(c);
        for (Index start = first; start < last; start += stretch) {
            const Index end = start + stretch < last ? start + stretch : last;
            T s = 0, t = 0;
            for (Index m = start + threadIdx.y; m < end; m += blockDim.y) channel(m * channels + c, s, t);
            a += static_cast<double>(s);
            b += static_cast<double>(t);
        }
    }
    a = sum_of_column(a);
    b = sum_of_column(b);
    if (c >= channels || threadIdx.y > 0) return;
    partial[Index(blockIdx.x) * 2 * channels + c] = a;
    partial[Index(blockIdx.x) * 2 * channels + channels + c] = b;
}
// A block takes X channels: adds their partial sums, a thread every Y-th; threads (c, 0) finish.
template <class Finish>
__global__ void sum_channels_partial_kernel(Finish finish, Index blocks, Index channels, const double* partial) {
    const Index c = Index(blockIdx.y) * blockDim.x + threadIdx.x;
    double a = 0, b = 0;
    if (c < channels)
        for (Index i = threadIdx.y; i < blocks; i += blockDim.y) {
            a += partial[i * 2 * channels + c];
            b += partial[i * 2 * channels + channels + c];
        }
    a = sum_of_column(a);
    b = sum_of_column(b);
    if (c < channels && threadIdx.y == 0) finish(c, a, b);
}
/// finish(c, a, b) for each channel, a and b being what `terms.channel(c)(m * channels + c, a, b)` adds up over the
/// pixels m, in an order set by the extents alone; partial has summed_blocks(pixels, channels) times [2,C] elements.
template <class T, class Terms, class Finish>
void sum_channels(Cuda on, Terms terms, Finish finish, Index pixels, Index channels, double* partial) {
    const Index rows = summed_rows(pixels, channels);
    launch(on.stream, channel_grid(pixels, channels, rows), sum_channels_kernel<T, Terms>, terms, pixels, channels,
           rows, partial);
    launch(on.stream, channel_grid(1, channels, 1), sum_channels_partial_kernel<Finish>, finish,
           summed_blocks(pixels, channels), channels, partial);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
