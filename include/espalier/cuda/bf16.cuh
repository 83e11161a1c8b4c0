#pragma once

#include <espalier/cuda/mma.cuh>
#include <espalier/cuda/product.cuh>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/view.hpp>

#include <cstdint>

// Copies of maps and filters for the tensor cores: rounded to bf16, half the bytes, once for the many times that a
// product reads them. Channels are padded with zeros to whole chunks of 16 bytes, so that a network whose widths
// pruning has made odd is read as fast as one whose widths are even.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// A number of 16 bits: float with 7 bits of mantissa.
struct BFloat16 {
    std::uint16_t bits; ///< the high half of the float
};
/// Eight of them, which are loaded and stored together.
struct alignas(16) Bf16Chunk {
    static constexpr int size = 8; ///< numbers
    std::uint32_t words[4];        ///< two numbers each
};
/// As many as `count` numbers take when they are padded to whole chunks.
ESPALIER_HD inline Index in_chunks(Index count) {
    return (count + Bf16Chunk::size - 1) / Bf16Chunk::size * Bf16Chunk::size;
}

/// Eight numbers, rounded.
__device__ inline Bf16Chunk rounded_chunk(const float (&v)[Bf16Chunk::size]) {
    return {{Bf16Words::pack(v), Bf16Words::pack(v + 2), Bf16Words::pack(v + 4), Bf16Words::pack(v + 6)}};
}
/// x[0], x[step], ..., `count` of them, and zeros.
__device__ inline Bf16Chunk rounded_chunk(const float* x, Index step, Index count) {
    float v[Bf16Chunk::size];
    for (int e = 0; e < Bf16Chunk::size; ++e) v[e] = e < count ? x[e * step] : 0.0f;
    return rounded_chunk(v);
}

// One thread a chunk; x [rows,channels], y [rows,chunks].
template <class T> __global__ void round_rows_kernel(const T* x, Index rows, Index channels, Bf16Chunk* y) {
    const Index i = global_thread(), chunks = in_chunks(channels) / Bf16Chunk::size;
    if (i >= rows * chunks) return;
    const Index row = i / chunks, first = i % chunks * Bf16Chunk::size;
    const float* const from = x + row * channels + first;
    if (first + Bf16Chunk::size <= channels && reinterpret_cast<std::uintptr_t>(from) % sizeof(Quad<float>) == 0) {
        const Quad<float> low = *reinterpret_cast<const Quad<float>*>(from),
                          high = *reinterpret_cast<const Quad<float>*>(from + 4);
        y[i] = rounded_chunk({low.v[0], low.v[1], low.v[2], low.v[3], high.v[0], high.v[1], high.v[2], high.v[3]});
    } else {
        y[i] = rounded_chunk(from, 1, channels - first);
    }
}
/// y [rows,in_chunks(channels)] = x [rows,channels], rounded, zeros at the end of each row.
inline void round_rows(Cuda on, const float* x, Index rows, Index channels, BFloat16* y) {
    launch(on.stream, elements(rows * in_chunks(channels) / Bf16Chunk::size), round_rows_kernel<float>, x, rows,
           channels, reinterpret_cast<Bf16Chunk*>(y));
}

// One thread a chunk, neighbours beside each other in w, not in y; w [groups,filters,taps,channels], y
// [groups,channels,taps,chunks].
template <class T> __global__ void turn_filters_kernel(View<const T, 4> w, Bf16Chunk* y) {
    const Index groups = w.size(0), filters = w.size(1), taps = w.size(2), channels = w.size(3);
    const Index chunks = in_chunks(filters) / Bf16Chunk::size;
    Index i = global_thread();
    if (i >= groups * channels * taps * chunks) return;
    const Index c = i % channels;
    i /= channels;
    const Index tap = i % taps;
    i /= taps;
    const Index chunk = i % chunks, g = i / chunks, first = chunk * Bf16Chunk::size;
    y[((g * channels + c) * taps + tap) * chunks + chunk] =
        rounded_chunk(w.at(g, first, tap, c), taps * channels, filters - first);
}
/// y [groups,channels,taps,in_chunks(filters)] = w [groups,filters,taps,channels] with the ends exchanged, rounded,
/// zeros at the end of each row.
inline void turn_filters(Cuda on, View<const float, 4> w, BFloat16* y) {
    launch(on.stream, elements(w.size(0) * w.size(2) * w.size(3) * in_chunks(w.size(1)) / Bf16Chunk::size),
           turn_filters_kernel<float>, w, reinterpret_cast<Bf16Chunk*>(y));
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
