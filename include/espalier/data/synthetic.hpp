#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/data/dataset.hpp>

#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {

/// What `data::synthetic` draws.
struct SyntheticOptions {
    Index count = 64, height = 8, width = 8, channels = 1, classes = 4; ///< of the set
    double noise = 0.05;        ///< standard deviation of each pixel's noise, in pixels from 0 to 1
    Split split = Split::train; ///< the two splits share the classes and no image
    std::uint64_t seed = 0;     ///< of classes, places and noise
};

/// Data sets by name.
namespace data {

/// Small images that a small network can learn, for tests and examples: image i is of class i % classes.
///
/// A class is three Gaussian blobs on grey, each with its own place and its own colour, light or dark. An image is its
/// class moved by up to one pixel each way, plus normal noise.
/// @throws ShapeError unless there is at least one pixel and one class
ImageSet synthetic(const SyntheticOptions& options);

} // namespace data
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {
namespace data {

ESPALIER_BODY ImageSet synthetic(const SyntheticOptions& options) {
    const Shape shape{options.count, options.height, options.width, options.channels};
    expect(options.count >= 0 && options.height > 0 && options.width > 0 && options.channels > 0 && options.classes > 0,
           "synthetic: expected at least one pixel and one class, got ", shape, " and ", options.classes, " classes");
    constexpr Index blobs = 3;
    const double radius = static_cast<double>(std::min(options.height, options.width)) / 5 + 0.5;
    const auto clean = [&](Index k, Index h, Index w, Index c) { // class k at pixel (h, w), which may lie outside
        const Random random = Random(options.seed, "synthetic class").substream(static_cast<std::uint64_t>(k));
        double value = 0.5;
        for (Index blob = 0; blob < blobs; ++blob) {
            const auto draw = static_cast<std::uint64_t>(blob * (options.channels + 2));
            const double y = static_cast<double>(h) - random.uniform(draw) * static_cast<double>(options.height - 1);
            const double x = static_cast<double>(w) - random.uniform(draw + 1) * static_cast<double>(options.width - 1);
            const double u = random.uniform(draw + 2 + static_cast<std::uint64_t>(c)) - 0.5;
            const double colour = 0.6 * u + std::copysign(0.2, u); // 0.2 to 0.5 lighter or darker than the grey
            value += colour * std::exp(-(x * x + y * y) / (2 * radius * radius));
        }
        return value;
    };
    // Every class once, with a margin of a pixel; images are cut out of these.
    const Index H = options.height + 2, W = options.width + 2, C = options.channels;
    Tensor<double> classes({options.classes, H, W, C});
    double* value = classes.mutable_data();
    for (Index k = 0; k < options.classes; ++k)
        for (Index h = 0; h < H; ++h)
            for (Index w = 0; w < W; ++w)
                for (Index c = 0; c < C; ++c) *value++ = clean(k, h - 1, w - 1, c);

    ImageSet set{Tensor<std::uint8_t>(shape), Tensor<Index>({options.count}), options.classes, "synthetic", {}};
    const Random images(options.seed, options.split == Split::train ? "synthetic train" : "synthetic test");
    const auto templates = view<4>(classes);
    std::uint8_t* to = set.images.mutable_data();
    for (Index i = 0; i < options.count; ++i) {
        const Random random = images.substream(static_cast<std::uint64_t>(i));
        const Index k = i % options.classes, down = random.below(3, 0), right = random.below(3, 1);
        std::uint64_t number = 2;
        set.labels.mutable_data()[i] = k;
        for (Index h = 0; h < options.height; ++h)
            for (Index w = 0; w < options.width; ++w)
                for (Index c = 0; c < C; ++c) {
                    const double v = templates(k, h + down, w + right, c) + options.noise * random.normal(number++);
                    *to++ = static_cast<std::uint8_t>(std::lround(255 * std::clamp(v, 0.0, 1.0)));
                }
    }
    return set;
}

} // namespace data
} // namespace espalier::inline ESPALIER_BACKEND
#endif
