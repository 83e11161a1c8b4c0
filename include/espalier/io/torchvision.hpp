#pragma once

#include <espalier/io/name_map.hpp>

#include <algorithm>

namespace espalier::inline ESPALIER_BACKEND {

/// Name maps of torchvision's models, for `import_state` and `export_state`.
namespace torchvision {

/// Of ResNet-18, 34, 50, 101 and 152: the networks that `models::resnet18({.classes = 1000, .stem =
/// models::Stem::imagenet})` and its sisters make.
inline NameMap resnet() {
    NameMap map;
    map.convolution("conv1", "conv").batch_norm("bn1", "bn");
    map.convolution("layer*.conv*", "stage*.conv*").batch_norm("layer*.bn*", "stage*.bn*");
    map.convolution("layer*.downsample.0", "stage*.projection");
    map.batch_norm("layer*.downsample.1", "stage*.projection_bn");
    return map.linear("fc", "linear");
}

/// Of VGG-11, 13, 16 and 19 with batch norm: the networks that `models::vgg11({.classes = 1000, .hidden = {4096, 4096},
/// .pooled = 7, .dropout = 0.5})` and its sisters make. Their convolutions have a bias and ours do not, see
/// `NameMap::batch_norm`. @throws ShapeError for another depth
inline NameMap vgg_bn(Index depth) {
    constexpr Index depths[] = {11, 13, 16, 19};
    expect(std::find(std::begin(depths), std::end(depths), depth) != std::end(depths),
           "torchvision::vgg_bn: expected a depth of 11, 13, 16 or 19, got ", depth);
    const Index first = depth == 11 ? 1 : 2, last = depth == 19 ? 4 : depth == 16 ? 3 : 2; // convolutions of a stage
    NameMap map;
    Index layer = 0; // of torchvision's list: convolution, batch norm and relu each count, and so does the pooling
    for (Index s = 1; s <= 5; ++s, ++layer)
        for (Index i = 1; i <= (s <= 2 ? first : last); ++i, layer += 3) {
            const std::string convolution = join_text("features.", layer), stage = join_text("stage", s);
            map.convolution(convolution, join_text(stage, ".conv", i));
            map.batch_norm(join_text("features.", layer + 1), join_text(stage, ".bn", i), convolution + ".bias");
        }
    map.linear("classifier.0", "hidden1", 7 * 7);
    map.linear("classifier.3", "hidden2").linear("classifier.6", "linear");
    return map.keep("dropout*.calls"); // where ours stands in its random numbers
}

} // namespace torchvision
} // namespace espalier::inline ESPALIER_BACKEND
