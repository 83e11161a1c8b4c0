#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/convolution.hpp>
#include <espalier/models/model.hpp>
#include <espalier/models/residual_stage.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/pool.hpp>

#include <map>
#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

namespace detail {

/// What a depth stands for: blocks of each stage, and the width of the first stage before a bottleneck widens it.
struct ResNetLayout {
    std::vector<Index> blocks;
    Index width;
    Branch branch;
    Shortcut shortcut;
    Stem stem;
};
/// @throws ShapeError for a depth that stands for nothing
inline ResNetLayout resnet_layout(Index depth, const Options& options) {
    const std::map<Index, std::vector<Index>> four_stages{{18, {2, 2, 2, 2}}, {34, {3, 4, 6, 3}}, {50, {3, 4, 6, 3}}};
    if (const auto it = four_stages.find(depth); it != four_stages.end())
        return {it->second, 64, depth < 50 ? Branch::basic : Branch::bottleneck, Shortcut::projection, options.stem};
    expect(depth >= 8 && depth % 6 == 2, "ResNet: expected a depth of 18, 34, 50 or 6n + 2, got ", depth);
    return {std::vector<Index>(3, (depth - 2) / 6), 16, Branch::basic, options.shortcut, Stem::small};
}

} // namespace detail

/// ResNet: a convolution with batch norm, three or four stages of residual blocks, each stage twice as wide as the one
/// before it and at half its resolution, mean over all pixels, one linear layer.
///
/// Depth 6n + 2: three stages of n blocks for small images, 16 channels at first (section 4.2). Depths 18, 34 and 50:
/// four stages, 64 channels at first, the last depth with bottlenecks of four times those widths (table 1); for
/// ImageNet with `{.classes = 1000, .stem = Stem::imagenet}`, or for small images with a 3x3 stem as usual there.
///
/// Flow: see `ResidualStage`; an identity goes past the first block of a network but where bottlenecks widen its stage.
/// Weights are drawn by He's rule from the seed and their names. Source: He et al. 2016.
template <class T> class ResNet : public Model<T> {
public:
    /// @throws ShapeError unless the depth is 18, 34, 50 or 6n + 2, n >= 1
    ResNet(Index depth, const Options& options)
        : ResNet("resnet" + std::to_string(depth), detail::resnet_layout(depth, options), options) {}

    /// ResNeXt-50 (32x4d): the layout of depth 50 with branches whose 3x3 convolution has 32 groups.
    static ResNet next50(const Options& options) {
        detail::ResNetLayout layout = detail::resnet_layout(50, options);
        layout.branch = Branch::grouped;
        return ResNet("resnext50", layout, options);
    }

    Output<T> forward(const Var<T>& x) override;

private:
    ResNet(const std::string& name, const detail::ResNetLayout& layout, const Options& options);

    Stem stem_;
    Conv2d<T> conv_;
    BatchNorm<T> bn_;
    std::vector<ResidualStage<ResidualBlock<T>>> stages_;
    std::optional<Linear<T>> linear_;
};

template <class T>
ResNet<T>::ResNet(const std::string& name, const detail::ResNetLayout& layout, const Options& options)
    : Model<T>(name, options), stem_(layout.stem),
      conv_(this->child("conv", stem_ == Stem::small ? convolution<T>(options.channels, layout.width, 3)
                                                     : convolution<T>(options.channels, layout.width, 7, 2))),
      bn_(this->child("bn", BatchNorm<T>({.channels = layout.width}))) {
    Index in = layout.width, out = layout.branch == Branch::basic ? in : 4 * in;
    for (const Index blocks : layout.blocks) {
        ResidualStage<ResidualBlock<T>> stage(options.taps);
        for (Index b = 0; b < blocks; ++b) {
            const Index stride = b == 0 && !stages_.empty() ? 2 : 1;
            stage.append(ResidualBlock<T>(in, out, stride, layout.shortcut, layout.branch));
            in = out;
        }
        stages_.push_back(this->child("stage" + std::to_string(stages_.size() + 1), stage));
        out *= 2;
    }
    linear_ = this->child("linear", Linear<T>({.in = in, .out = options.classes, .init = Init::zeros()}));
    initialize(*this, Init::he(), options.seed);
}

template <class T> Output<T> ResNet<T>::forward(const Var<T>& x) {
    Output<T> out;
    Var<T> y = bn_.forward(conv_.forward(x), Activation::relu);
    if (stem_ == Stem::imagenet) y = max_pool2d(y, {.size = 3, .stride = 2, .padding = 1});
    for (auto& stage : stages_) y = stage.forward(y, out.flow);
    out.logits = linear_->forward(global_avg_pool(y));
    return out;
}

/// The depths that are usual on CIFAR: 0.27, 0.46, 0.66, 0.85 and 1.73 million parameters.
/// @{
template <class T> ResNet<T> resnet20(const Options& options = {}) { return {20, options}; }
template <class T> ResNet<T> resnet32(const Options& options = {}) { return {32, options}; }
template <class T> ResNet<T> resnet44(const Options& options = {}) { return {44, options}; }
template <class T> ResNet<T> resnet56(const Options& options = {}) { return {56, options}; }
template <class T> ResNet<T> resnet110(const Options& options = {}) { return {110, options}; }
/// @}

/// Those for ImageNet: 11.7, 21.8 and 25.6 million parameters for its 1000 classes.
/// @{
template <class T> ResNet<T> resnet18(const Options& options = {}) { return {18, options}; }
template <class T> ResNet<T> resnet34(const Options& options = {}) { return {34, options}; }
template <class T> ResNet<T> resnet50(const Options& options = {}) { return {50, options}; }
/// @}

/// 25.0 million parameters for ImageNet's classes. Source: Xie et al. 2017, table 1.
template <class T> ResNet<T> resnext50(const Options& options = {}) { return ResNet<T>::next50(options); }

} // namespace models

ESPALIER_COMPILED_CLASS(models::ResNet);

} // namespace espalier::inline ESPALIER_BACKEND
