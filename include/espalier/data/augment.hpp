#pragma once

#include <espalier/data/placement.hpp>
#include <espalier/tensor/tensor.hpp>
#if ESPALIER_CUDA
#include <espalier/data/augment.cuda.cuh>
#endif

#include <algorithm>
#include <cstdint>

namespace espalier::inline ESPALIER_BACKEND {

namespace kernels {

/// One image of a batch: means over B x B blocks of x [H,W,C], colours from `table` [C, 255 B^2 + 1], placed as `at`
/// says, into y [H/B,W/B,C].
///
/// What lies outside of the image is 0, and so is what is blanked. As colours are normalised first, that is the mean
/// colour of the training set; torchvision's usual order (crop, then normalise) pads with black instead.
template <class T>
void place_image(Cpu, View<const std::uint8_t, 3> x, View<const T, 2> table, Placement at, View<T, 3> y) {
    const Index H = y.size(0), W = y.size(1), C = y.size(2), B = x.size(0) / H, row = x.stride(0);
    const Index begin = std::clamp<Index>(-at.left, 0, W), end = std::clamp<Index>(W - at.left, begin, W);
    const bool flipped = at.flip == Flip::horizontal;
    for (Index h = 0; h < H; ++h) {
        const bool inside = 0 <= h + at.top && h + at.top < H && begin < end;
        if (!inside || end - begin < W) std::fill_n(y.at(h), W * C, T(0));
        if (!inside) continue;
        for (Index w = begin; w < end; ++w) {
            const std::uint8_t* const from = x.at((h + at.top) * B, (w + at.left) * B);
            T* const to = y.at(h, flipped ? W - 1 - w : w);
            const T* colour = table.data();
            for (Index c = 0; c < C; ++c, colour += table.size(1)) {
                Index sum = from[c];
                for (Index p = 1; p < B * B; ++p) sum += from[p / B * row + p % B * C + c];
                to[c] = colour[sum];
            }
        }
    }
    const Index left = std::clamp<Index>(at.cut_left, 0, W), right = std::clamp<Index>(at.cut_left + at.cutout, 0, W);
    for (Index h = std::max<Index>(at.cut_top, 0); h < std::min(at.cut_top + at.cutout, H); ++h)
        std::fill_n(y.at(h, left), (right - left) * C, T(0));
}

/// A batch: images y [N,P,Q,C] as `place_image` makes them, and their labels [N].
template <class T> void place_images(Cpu on, const Samples<T>& samples, View<T, 4> y, View<Index, 1> labels) {
    const View<const std::uint8_t, 4>& x = samples.images;
    const Index P = y.size(1), Q = y.size(2), C = y.size(3);
    for (Index i = 0; i < y.size(0); ++i) {
        const Index from = samples.image(i);
        labels(i) = samples.labels(from);
        place_image(on, View<const std::uint8_t, 3>(x.at(from), {x.size(1), x.size(2), C}), samples.table,
                    samples.placement(i, P, Q), View<T, 3>(y.at(i), {P, Q, C}));
    }
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
