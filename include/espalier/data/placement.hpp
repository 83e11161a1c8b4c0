#pragma once

#include <espalier/core/random.hpp>
#include <espalier/tensor/view.hpp>

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
ESPALIER_HD inline Placement draw(const Augment& augment, const Random& epoch, Index i, Index H, Index W) {
    const auto sample = static_cast<std::uint64_t>(i), number = 3 * sample;
    const Index places = 2 * augment.crop + 1, cutout = augment.cutout;
    Placement at{epoch.below(places, number) - augment.crop, epoch.below(places, number + 1) - augment.crop,
                 augment.flip == Flip::horizontal && epoch.below(2, number + 2) == 1 ? Flip::horizontal : Flip::none};
    if (cutout > 0) {
        constexpr std::uint64_t stream = Random::hash("cutout"); // by the compiler: kernels have no texts
        const Random centres = epoch.substream(stream);
        at.cutout = cutout;
        at.cut_top = centres.below(H, 2 * sample) - cutout / 2;
        at.cut_left = centres.below(W, 2 * sample + 1) - cutout / 2;
    }
    return at;
}

namespace kernels {

/// What a batch is made of: samples `first`, ... of an epoch. All memory is on one device.
template <class T> struct Samples {
    View<const std::uint8_t, 4> images; ///< of the set, [N,H,W,C]
    View<const Index, 1> labels;        ///< of the set, [N]
    View<const T, 2> table;             ///< colours of sums over B x B bytes, [C, 255 B^2 + 1]
    View<const Index, 1> order;         ///< sample i of the epoch is image order(i); empty: image i
    Augment augment;                    ///< what the placements are drawn from
    Random epoch;                       ///< and the random stream of the epoch
    Index first;                        ///< sample 0 of the batch is this one of the epoch

    /// Which image sample i of the batch is.
    ESPALIER_HD Index image(Index i) const { return order.size() > 0 ? order(first + i) : first + i; }
    /// Where the window of sample i of the batch lies, an image of P x Q block means.
    ESPALIER_HD Placement placement(Index i, Index P, Index Q) const { return draw(augment, epoch, first + i, P, Q); }
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
