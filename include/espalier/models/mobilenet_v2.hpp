#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/convolution.hpp>
#include <espalier/models/model.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/dropout.hpp>
#include <espalier/nn/join.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/activation.hpp>
#include <espalier/ops/pool.hpp>

#include <optional>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// Thin ends, a wide middle: a 1x1 convolution to `expansion` times the channels, a depthwise 3x3 convolution with the
/// stride, both with batch norm and relu6, and a 1x1 convolution with batch norm alone.
///
/// Joined to x where width and resolution stay. Without expansion (1) the first convolution is left out.
/// Source: Sandler et al. 2018, figure 4d and table 1.
template <class T> class InvertedResidual : public Module<T> {
public:
    /// From `in` to `out` channels.
    InvertedResidual(Index in, Index out, Index stride, Index expansion) {
        const Index wide = in * expansion;
        if (expansion != 1) append("expand", convolution<T>(in, wide, 1));
        append("depthwise", convolution<T>(wide, wide, 3, stride, wide));
        append("project", convolution<T>(wide, out, 1));
        if (stride == 1 && in == out) join_ = this->child("join", Join<T>());
    }

    /// x [N,H,W,in] -> y [N,P,Q,out] with P = ceil(H / stride).
    Var<T> forward(const Var<T>& x) const {
        Var<T> y = x;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            const auto& [conv, bn] = layers_[i];
            y = bn.forward(conv.forward(y));
            if (i + 1 < layers_.size()) y = relu6(y);
        }
        return join_ ? join_->forward(x, y) : y;
    }

private:
    void append(const std::string& name, const Conv2d<T>& conv) {
        this->child(name, conv);
        layers_.emplace_back(conv, this->child(name + "_bn", BatchNorm<T>({.channels = conv.weight.size(0)})));
    }

    std::vector<std::pair<Conv2d<T>, BatchNorm<T>>> layers_;
    std::optional<Join<T>> join_;
};

/// MobileNetV2: a 3x3 stem of 32 filters, 17 inverted residuals of 16 to 320 channels, a 1x1 convolution to 1280, mean
/// over all pixels, one linear layer.
///
/// With `Stem::imagenet` the last maps are a 32nd of the image's height and width; with `Stem::small`, for images of
/// 32x32 pixels, stem and second stage keep the resolution and it is an 8th. `Options::dropout` acts before the linear
/// layer (0.2 in the paper). Flow: consecutive outputs of blocks that have one shape are a stage. Weights are drawn by
/// He's rule from the seed and their names. Source: Sandler et al. 2018, table 2.
template <class T> class MobileNetV2 : public Model<T> {
public:
    /// @throws ShapeError for a dropout rate outside [0, 1)
    explicit MobileNetV2(const Options& options)
        : Model<T>("mobilenetv2", options),
          stem_(this->child("conv", convolution<T>(options.channels, 32, 3, options.stem == Stem::imagenet ? 2 : 1))),
          stem_bn_(this->child("bn", BatchNorm<T>({.channels = 32}))) {
        struct Row {
            Index expansion, out, blocks, stride;
        };
        const Index second = options.stem == Stem::imagenet ? 2 : 1;
        Index in = 32;
        for (const Row& row : {Row{1, 16, 1, 1}, Row{6, 24, 2, second}, Row{6, 32, 3, 2}, Row{6, 64, 4, 2},
                               Row{6, 96, 3, 1}, Row{6, 160, 3, 2}, Row{6, 320, 1, 1}})
            for (Index b = 0; b < row.blocks; ++b) {
                const std::string name = "block" + std::to_string(blocks_.size() + 1);
                const Index stride = b == 0 ? row.stride : 1;
                blocks_.push_back(this->child(name, InvertedResidual<T>(in, row.out, stride, row.expansion)));
                in = row.out;
            }
        head_ = this->child("head", convolution<T>(in, 1280, 1));
        head_bn_ = this->child("head_bn", BatchNorm<T>({.channels = 1280}));
        if (options.dropout != 0)
            dropout_ = this->child("dropout", Dropout<T>(options.dropout, Random(options.seed, "dropout")));
        linear_ = this->child("linear", Linear<T>({.in = 1280, .out = options.classes, .init = Init::zeros()}));
        initialize(*this, Init::he(), options.seed);
    }

    Output<T> forward(const Var<T>& x) override {
        Output<T> out;
        auto& stages = out.flow.stages;
        Var<T> y = relu6(stem_bn_.forward(stem_.forward(x)));
        for (const auto& block : blocks_) {
            y = block.forward(y);
            if (stages.empty() || stages.back().maps[0].shape() != y.shape()) stages.emplace_back();
            stages.back().maps.push_back(y);
        }
        y = global_avg_pool(relu6(head_bn_->forward(head_->forward(y))));
        out.logits = linear_->forward(dropout_ ? dropout_->forward(y) : y);
        return out;
    }

private:
    Conv2d<T> stem_;
    BatchNorm<T> stem_bn_;
    std::vector<InvertedResidual<T>> blocks_;
    std::optional<Conv2d<T>> head_;
    std::optional<BatchNorm<T>> head_bn_;
    std::optional<Dropout<T>> dropout_;
    std::optional<Linear<T>> linear_;
};

/// 3.5 million parameters for 1000 classes, 2.2 for ten.
template <class T> MobileNetV2<T> mobilenet_v2(const Options& options = {}) { return MobileNetV2<T>(options); }

} // namespace models

ESPALIER_COMPILED_CLASS(models::InvertedResidual);
ESPALIER_COMPILED_CLASS(models::MobileNetV2);

} // namespace espalier::inline ESPALIER_BACKEND
