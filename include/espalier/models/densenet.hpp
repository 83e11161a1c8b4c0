#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/convolution.hpp>
#include <espalier/models/model.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/concat.hpp>
#include <espalier/ops/pool.hpp>

#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// Batch norm, relu and a convolution without bias, in this order: y = conv(relu(bn(x))).
template <class T> class PreactivatedConv : public Module<T> {
public:
    /// From `in` to `out` channels, at the same height and width.
    PreactivatedConv(Index in, Index out, Index size)
        : bn_(this->child("bn", BatchNorm<T>({.channels = in}))),
          conv_(this->child("conv", convolution<T>(in, out, size))) {}

    /// x [N,H,W,in] -> y [N,H,W,out]
    Var<T> forward(const Var<T>& x) const { return conv_.forward(bn_.forward(x, Activation::relu)); }

private:
    BatchNorm<T> bn_;
    Conv2d<T> conv_;
};

/// Layers that each see everything before them: layer l makes `growth` maps of the concatenation of the block's input
/// and what layers 0 to l - 1 made, by a 1x1 convolution to 4 `growth` channels and a 3x3 one.
///
/// Source: Huang et al. 2017, equation 2 and "bottleneck layers".
template <class T> class DenseBlock : public Module<T> {
public:
    /// A block of `layers` layers for `in` channels. Its children are `squeeze0`, `grow0`, `squeeze1` ...
    DenseBlock(Index in, Index layers, Index growth) {
        for (Index l = 0; l < layers; ++l) {
            const std::string number = std::to_string(l);
            squeeze_.push_back(this->child("squeeze" + number, PreactivatedConv<T>(in + l * growth, 4 * growth, 1)));
            grow_.push_back(this->child("grow" + number, PreactivatedConv<T>(4 * growth, growth, 3)));
        }
    }

    /// x [N,H,W,in] -> [N,H,W,in + layers * growth], x first. What each layer made becomes a stage of the flow.
    Var<T> forward(const Var<T>& x, Flow<T>& flow) const {
        FlowStage<T>& stage = flow.stages.emplace_back();
        Var<T> all = x;
        for (std::size_t l = 0; l < grow_.size(); ++l) {
            stage.maps.push_back(grow_[l].forward(squeeze_[l].forward(all)));
            all = concat({all, stage.maps.back()}, -1);
        }
        return all;
    }

private:
    std::vector<PreactivatedConv<T>> squeeze_, grow_;
};

/// DenseNet-BC for small images: a 3x3 stem of 2 `growth` filters, three dense blocks of (depth - 4) / 6 layers,
/// between them 1x1 convolutions to half of the channels with 2x2 average pooling, batch norm and relu, mean over all
/// pixels, one linear layer.
///
/// Flow: the maps that the layers of a block made, before the batch norms of their readers. Weights are drawn by He's
/// rule from the seed and their names. Source: Huang et al. 2017, section 4.
template <class T> class DenseNet : public Model<T> {
public:
    /// @throws ShapeError unless depth = 6n + 4, n >= 1, and the growth is positive
    DenseNet(Index depth, Index growth, const Options& options)
        : Model<T>(join_text("densenet-bc-", depth, "-", growth), options),
          conv_(this->child("conv", convolution<T>(options.channels, std::max<Index>(1, 2 * growth), 3))) {
        expect(depth >= 10 && depth % 6 == 4 && growth >= 1,
               "DenseNet: expected a depth of 6n + 4 and a positive growth, got ", depth, " and ", growth);
        const Index layers = (depth - 4) / 6;
        Index in = 2 * growth;
        for (Index b = 1; b <= 3; ++b) {
            blocks_.push_back(this->child("block" + std::to_string(b), DenseBlock<T>(in, layers, growth)));
            in += layers * growth;
            if (b == 3) break;
            transitions_.push_back(this->child("transition" + std::to_string(b), PreactivatedConv<T>(in, in / 2, 1)));
            in /= 2;
        }
        bn_ = this->child("bn", BatchNorm<T>({.channels = in}));
        linear_ = this->child("linear", Linear<T>({.in = in, .out = options.classes, .init = Init::zeros()}));
        initialize(*this, Init::he(), options.seed);
    }

    Output<T> forward(const Var<T>& x) override {
        Output<T> out;
        Var<T> y = conv_.forward(x);
        for (std::size_t b = 0; b < blocks_.size(); ++b) {
            if (b > 0) y = avg_pool2d(transitions_[b - 1].forward(y));
            y = blocks_[b].forward(y, out.flow);
        }
        out.logits = linear_->forward(global_avg_pool(bn_->forward(y, Activation::relu)));
        return out;
    }

private:
    Conv2d<T> conv_;
    std::vector<DenseBlock<T>> blocks_;
    std::vector<PreactivatedConv<T>> transitions_;
    std::optional<BatchNorm<T>> bn_;
    std::optional<Linear<T>> linear_;
};

/// 0.77 million parameters.
template <class T> DenseNet<T> densenet_bc_100_12(const Options& options = {}) { return {100, 12, options}; }

} // namespace models

ESPALIER_COMPILED_CLASS(models::DenseBlock);
ESPALIER_COMPILED_CLASS(models::DenseNet);

} // namespace espalier::inline ESPALIER_BACKEND
