#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/data/placement.hpp>
#include <espalier/tensor/device.hpp>

#include <algorithm>
#include <cstdint>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// A block makes `rows` rows of one image, in a row for each threadIdx.y, a number for each threadIdx.x. Its first
// thread draws where the window lies; that of an image's first block writes the label. Shared memory: one Placement.
template <class T>
__global__ void place_images_kernel(Samples<T> samples, unsigned blocks_per_image, Index rows, Index B, View<T, 4> y,
                                    View<Index, 1> labels) {
    Placement& drawn = *dynamic_shared<Placement>();
    const Index P = y.size(1), Q = y.size(2), C = y.size(3);
    const unsigned i = blockIdx.x / blocks_per_image, part = blockIdx.x - i * blocks_per_image;
    const Index image = samples.image(i);
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        drawn = samples.placement(i, P, Q);
        if (part == 0) labels(i) = samples.labels(image);
    }
    __syncthreads();
    const Placement at = drawn;
    const bool flipped = at.flip == Flip::horizontal;
    const Index first = part * rows, last = first + rows < P ? first + rows : P, row = samples.images.stride(1);
    for (Index j = threadIdx.x; j < Q * C; j += blockDim.x) {
        const Index w = static_cast<std::uint32_t>(j) / static_cast<std::uint32_t>(C), c = j - w * C;
        const Index column = (flipped ? Q - 1 - w : w) + at.left, cut_w = w - at.cut_left;
        const bool inside = 0 <= column && column < Q, cut = 0 <= cut_w && cut_w < at.cutout;
        const T* const colour = samples.table.at(c);
        for (Index h = first + threadIdx.y; h < last; h += blockDim.y) {
            const Index line = h + at.top, cut_h = h - at.cut_top;
            T value = 0;
            if (inside && 0 <= line && line < P && !(cut && 0 <= cut_h && cut_h < at.cutout)) {
                const std::uint8_t* const from = samples.images.at(image, line * B, column * B, c);
                Index sum = 0;
                for (Index r = 0; r < B; ++r)
                    for (Index q = 0; q < B; ++q) sum += from[r * row + q * C];
                value = colour[sum];
            }
            y.at(i, h)[j] = value;
        }
    }
}
/// As on the CPU, with the same bits. A row of an image has fewer than 2^32 numbers.
template <class T> void place_images(Cuda on, const Samples<T>& samples, View<T, 4> y, View<Index, 1> labels) {
    const Index P = y.size(1), row = y.size(2) * y.size(3);
    const auto across = static_cast<unsigned>(std::min<Index>(256, (row + 31) / 32 * 32)), down = 256 / across;
    const Index rows = Index(4) * down; // four numbers a thread, for the cost of drawing
    const auto blocks_per_image = static_cast<unsigned>((P + rows - 1) / rows);
    launch(on.stream, {static_cast<unsigned>(y.size(0)) * blocks_per_image, dim3(across, down), sizeof(Placement)},
           place_images_kernel<T>, samples, blocks_per_image, rows, samples.images.size(1) / P, y, labels);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
