#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/model.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/join.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/nn/padded_shortcut.hpp>
#include <espalier/ops/pool.hpp>

#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// Two 3x3 convolutions with batch norm, joined to the stream that went past them:
/// y = relu(shortcut(x) + bn2(conv2(relu(bn1(conv1(x)))))).
template <class T> class BasicBlock : public Module<T> {
public:
    /// A block from `in` to `out` channels; another width or stride takes the `shortcut`, else the stream passes as it
    /// is.
    BasicBlock(Index in, Index out, Index stride, Shortcut shortcut)
        : conv1_(this->child("conv1", convolution(in, out, 3, stride))), bn1_(this->child("bn1", norm(out))),
          conv2_(this->child("conv2", convolution(out, out, 3, 1))), bn2_(this->child("bn2", norm(out))),
          join_(this->child("join", Join<T>())) {
        if (stride == 1 && in == out) return;
        if (shortcut == Shortcut::padded) {
            padded_ = this->child("shortcut", PaddedShortcut<T>({.in = in, .out = out, .stride = stride}));
        } else {
            projection_ = this->child("projection", convolution(in, out, 1, stride));
            projection_bn_ = this->child("projection_bn", norm(out));
        }
    }

    /// The block's output, and what it was joined from, for the flow.
    struct Result {
        Var<T> y;      ///< behind the relu
        Var<T> stream; ///< the shortcut of x; x itself for an identity
        Var<T> branch; ///< before the join
    };
    /// x [N,H,W,in] -> y [N,P,Q,out] with P = ceil(H / stride).
    Result forward(const Var<T>& x) const {
        const Var<T> inner = bn1_.forward(conv1_.forward(x), Activation::relu);
        const Var<T> branch = bn2_.forward(conv2_.forward(inner));
        const Var<T> stream = padded_       ? padded_->forward(x, join_.width(branch))
                              : projection_ ? projection_bn_->forward(projection_->forward(x))
                                            : x;
        return {join_.forward(stream, branch, Activation::relu), stream, branch};
    }

    /// The layers of these networks: convolutions without bias, padded to keep the size, and batch norms behind them.
    /// @{
    static Conv2d<T> convolution(Index in, Index out, Index size, Index stride) {
        return Conv2d<T>({.in = in,
                          .out = out,
                          .size = size,
                          .stride = stride,
                          .padding = size / 2,
                          .bias = Bias::none,
                          .init = Init::he()});
    }
    static BatchNorm<T> norm(Index channels) { return BatchNorm<T>({.channels = channels}); }
    /// @}

private:
    Conv2d<T> conv1_;
    BatchNorm<T> bn1_;
    Conv2d<T> conv2_;
    BatchNorm<T> bn2_;
    Join<T> join_;
    std::optional<PaddedShortcut<T>> padded_;
    std::optional<Conv2d<T>> projection_;
    std::optional<BatchNorm<T>> projection_bn_;
};

/// ResNet for small images: a 3x3 stem of 16 filters, three stages of n blocks with 16, 32 and 64 channels, the second
/// and third at half the resolution of the one before, mean over all pixels, one linear layer. depth = 6n + 2.
///
/// Flow: a stage's maps are its blocks' outputs, in the first stage after the stem's output; the entry of a later stage
/// is what its first block's shortcut made of the last map before it, so consecutive differences are what the blocks
/// add. Branches are what goes into the joins. Weights are drawn by He's rule from the seed and their names.
/// Source: He et al. 2016, section 4.2.
template <class T> class ResNet : public Model<T> {
public:
    /// @throws ShapeError unless depth = 6n + 2, n >= 1
    ResNet(Index depth, const Options& options)
        : Model<T>("resnet" + std::to_string(depth), options),
          conv_(this->child("conv", BasicBlock<T>::convolution(options.channels, 16, 3, 1))),
          bn_(this->child("bn", BasicBlock<T>::norm(16))) {
        expect(depth >= 8 && depth % 6 == 2, "ResNet: expected a depth of 6n + 2, got ", depth);
        Index in = 16;
        for (Index s = 0; s < 3; ++s) {
            const Index out = Index(16) << s;
            Stage stage;
            for (Index b = 0; b < (depth - 2) / 6; ++b) {
                stage.append(BasicBlock<T>(in, out, s > 0 && b == 0 ? 2 : 1, options.shortcut));
                in = out;
            }
            stages_.push_back(this->child("stage" + std::to_string(s + 1), stage));
        }
        linear_ = this->child("linear", Linear<T>({.in = in, .out = options.classes, .init = Init::he()}));
        initialize(*this, Init::he(), options.seed);
    }

    Output<T> forward(const Var<T>& x) override {
        Output<T> out;
        Var<T> y = bn_.forward(conv_.forward(x), Activation::relu);
        for (const Stage& stage : stages_) {
            FlowStage<T>& taps = out.flow.stages.emplace_back();
            out.flow.branches.emplace_back();
            if (out.flow.stages.size() == 1) taps.maps.push_back(y);
            for (const BasicBlock<T>& block : stage.blocks) {
                const auto result = block.forward(y);
                if (taps.maps.empty()) taps.entry = result.stream;
                y = result.y;
                taps.maps.push_back(y);
                out.flow.branches.back().push_back(result.branch);
            }
        }
        out.logits = linear_->forward(global_avg_pool(y));
        return out;
    }

private:
    struct Stage : Module<T> {
        void append(BasicBlock<T> block) {
            blocks.push_back(this->child(std::to_string(blocks.size()), std::move(block)));
        }
        std::vector<BasicBlock<T>> blocks;
    };

    Conv2d<T> conv_;
    BatchNorm<T> bn_;
    std::vector<Stage> stages_;
    std::optional<Linear<T>> linear_;
};

/// The depths that are usual on CIFAR: 0.27, 0.46, 0.66, 0.85 and 1.73 million parameters.
/// @{
template <class T> ResNet<T> resnet20(const Options& options = {}) { return {20, options}; }
template <class T> ResNet<T> resnet32(const Options& options = {}) { return {32, options}; }
template <class T> ResNet<T> resnet44(const Options& options = {}) { return {44, options}; }
template <class T> ResNet<T> resnet56(const Options& options = {}) { return {56, options}; }
template <class T> ResNet<T> resnet110(const Options& options = {}) { return {110, options}; }
/// @}

} // namespace models

ESPALIER_COMPILED_CLASS(models::BasicBlock);
ESPALIER_COMPILED_CLASS(models::ResNet);

} // namespace espalier::inline ESPALIER_BACKEND
