#pragma once

#include <espalier/core/random.hpp>
#include <espalier/tensor/tensor.hpp>

#include <algorithm>
#include <cstdint>

namespace espalier::inline ESPALIER_BACKEND {

/// Whether training images are mirrored left to right, each with probability 1/2.
enum class Flip { none, horizontal };

/// Random changes of training images; the default is none.
struct Augment {
    Index crop = 0;         ///< pixels of padding on each side, of which a window of the image's own size is cut
    Flip flip = Flip::none; ///< with probability 1/2
    /// Side in pixels of a square that is blanked: its centre is anywhere in the image, so it may reach beyond a
    /// border. Source: DeVries & Taylor 2017, section 3.2; section 4 takes 16 for CIFAR-10 and 8 for CIFAR-100.
    Index cutout = 0;
};

/// Where the window of one image lies: pixel (h, w) of it is pixel (h + top, w + left) of the image; then it is
/// flipped, and of what has come out, `cutout` rows and columns are blanked, from (cut_top, cut_left) on.
struct Placement {
    Index top = 0, left = 0;                     ///< in pixels; negative: the window begins in the padding
    Flip flip = Flip::none;                      ///< after the window was cut
    Index cutout = 0, cut_top = 0, cut_left = 0; ///< the blanked square: its side and its first row and column
};

/// The placement of sample `i` of an epoch, an image of H x W pixels; `epoch` is the random stream of that epoch. Crop
/// and flip are the same with and without cutout.
inline Placement draw(const Augment& augment, const Random& epoch, Index i, Index H, Index W) {
    const auto sample = static_cast<std::uint64_t>(i), number = 3 * sample;
    const Index places = 2 * augment.crop + 1, cutout = augment.cutout;
    Placement at{epoch.below(places, number) - augment.crop, epoch.below(places, number + 1) - augment.crop,
                 augment.flip == Flip::horizontal && epoch.below(2, number + 2) == 1 ? Flip::horizontal : Flip::none};
    if (cutout > 0) {
        const Random centres = epoch.substream(Random::hash("cutout"));
        at.cutout = cutout;
        at.cut_top = centres.below(H, 2 * sample) - cutout / 2;
        at.cut_left = centres.below(W, 2 * sample + 1) - cutout / 2;
    }
    return at;
}

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

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
