#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>
#include <espalier/core/random.hpp>
#include <espalier/tensor/tensor.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Which part of a published data set.
enum class Split { train, test };

/// Images with one class each, in memory, as bytes. Copies share the pixels.
struct ImageSet {
    Tensor<std::uint8_t> images;          ///< [N,H,W,C], 0 to 255
    Tensor<Index> labels;                 ///< [N], each in [0, classes)
    Index classes = 0;                    ///< number of classes; labels are below it
    std::string name;                     ///< for messages and records
    std::vector<std::string> class_names; ///< one a class, or none at all

    /// Number of images, N; 0 before there are any.
    Index size() const { return labels.defined() ? labels.size() : 0; }
    /// @throws ShapeError, in the name of `who`, unless the extents, labels and names fit each other; DeviceError
    /// unless they are the CPU's
    void check(const char* who) const {
        expect(images.defined() && images.rank() == 4 && images.shape().product(1, 4) > 0, who,
               ": expected images [N,H,W,C] of at least one pixel, got ", images.shape());
        expect(labels.defined() && labels.shape() == Shape{images.size(0)}, who, ": expected labels ",
               Shape{images.size(0)}, " for images ", images.shape(), ", got ", labels.shape());
        expect<DeviceError>(images.device() == Device::cpu && labels.device() == Device::cpu, who,
                            ": expected a set on cpu, got images on ", images.device(), " and labels on ",
                            labels.device());
        for (Index i = 0; i < size(); ++i)
            expect(labels.data()[i] >= 0 && labels.data()[i] < classes, who, ": expected labels below ", classes,
                   ", got ", labels.data()[i], " for image ", i);
        expect(class_names.empty() || static_cast<Index>(class_names.size()) == classes, who, ": expected ", classes,
               " class names or none, got ", class_names.size());
    }
};

/// The images of the given numbers, in that order; a number may come twice. Copies the pixels.
/// @throws ShapeError for a number outside [0, N)
ImageSet select(const ImageSet& set, const std::vector<Index>& numbers);

/// How a subset is chosen.
enum class Pick {
    first,      ///< the first ones; shares the pixels
    random,     ///< each image with the same probability
    stratified, ///< random, and each class keeps its share, rounded up or down
};

/// Which images `subset` takes.
struct SubsetOptions {
    Index count = 0;         ///< images to take
    Pick pick = Pick::first; ///< how they are chosen
    std::uint64_t seed = 0;  ///< of the choice; unused for the first ones
};

/// Some images of a set, in their order in the set. @throws ShapeError unless 0 <= count <= N
ImageSet subset(const ImageSet& set, const SubsetOptions& options);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY ImageSet select(const ImageSet& set, const std::vector<Index>& numbers) {
    set.check("select");
    Shape shape = set.images.shape();
    const Index bytes = shape.product(1, 4);
    shape[0] = static_cast<Index>(numbers.size());
    ImageSet chosen = set;
    chosen.images = Tensor<std::uint8_t>(shape);
    chosen.labels = Tensor<Index>({shape[0]});
    std::uint8_t* to = chosen.images.mutable_data();
    Index* label = chosen.labels.mutable_data();
    for (const Index i : numbers) {
        expect(i >= 0 && i < set.size(), "select: expected image numbers below ", set.size(), ", got ", i);
        to = std::copy_n(set.images.data() + i * bytes, bytes, to);
        *label++ = set.labels.data()[i];
    }
    return chosen;
}

ESPALIER_BODY ImageSet subset(const ImageSet& set, const SubsetOptions& options) {
    set.check("subset");
    const Index n = set.size(), count = options.count;
    expect(count >= 0 && count <= n, "subset: expected a count of at most ", n, ", got ", count);
    ImageSet chosen = set;
    if (options.pick == Pick::first) {
        chosen.images = set.images.rows(0, count);
        chosen.labels = set.labels.rows(0, count);
    } else {
        std::vector<Index> order = Random(options.seed, "subset").permutation(n), numbers;
        if (options.pick == Pick::stratified) // equal steps through classes that lie one after the other
            std::stable_sort(order.begin(), order.end(),
                             [&](Index a, Index b) { return set.labels.data()[a] < set.labels.data()[b]; });
        for (Index i = 0; i < count; ++i) {
            const Index at = options.pick == Pick::random ? i : (2 * i + 1) * n / (2 * count);
            numbers.push_back(order[static_cast<std::size_t>(at)]);
        }
        std::sort(numbers.begin(), numbers.end());
        chosen = select(set, numbers);
    }
    if (count < n) chosen.name = join_text(set.name, " (", count, " of ", n, ")");
    return chosen;
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
