#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/convolution.hpp>
#include <espalier/models/model.hpp>
#include <espalier/models/residual_stage.hpp>
#include <espalier/nn/dropout.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/pool.hpp>

#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// Two 3x3 convolutions, each behind batch norm and relu, joined to the stream that went past them:
/// y = shortcut(x) + conv2(dropout(relu(bn2(conv1(a))))) with a = relu(bn1(x)).
///
/// The shortcut is x itself, or a 1x1 convolution of a where width or resolution change.
/// Source: He et al. 2016b, figure 4e, with the dropout of Zagoruyko & Komodakis 2016, figure 1d.
template <class T> class WideBlock : public Module<T> {
public:
    /// @param dropout  draws from this stream; none at a rate of 0
    WideBlock(Index in, Index out, Index stride, double rate = 0, const Random& dropout = Random(0, "dropout"))
        : bn1_(this->child("bn1", BatchNorm<T>({.channels = in}))),
          conv1_(this->child("conv1", convolution<T>(in, out, 3, stride))),
          bn2_(this->child("bn2", BatchNorm<T>({.channels = out}))),
          conv2_(this->child("conv2", convolution<T>(out, out, 3))), join_(this->child("join", Join<T>())) {
        if (rate != 0) dropout_ = this->child("dropout", Dropout<T>(rate, dropout));
        if (stride != 1 || in != out) projection_ = this->child("projection", convolution<T>(in, out, 1, stride));
    }

    /// x [N,H,W,in] -> y [N,P,Q,out] with P = ceil(H / stride).
    BlockResult<T> forward(const Var<T>& x) {
        const Var<T> active = bn1_.forward(x, Activation::relu);
        Var<T> inner = bn2_.forward(conv1_.forward(active), Activation::relu);
        if (dropout_) inner = dropout_->forward(inner);
        const Var<T> branch = conv2_.forward(inner);
        const Var<T> stream = projection_ ? projection_->forward(active) : x;
        return {join_.forward(stream, branch), stream, branch};
    }

private:
    BatchNorm<T> bn1_;
    Conv2d<T> conv1_;
    BatchNorm<T> bn2_;
    Conv2d<T> conv2_;
    Join<T> join_;
    std::optional<Dropout<T>> dropout_;
    std::optional<Conv2d<T>> projection_;
};

/// Wide residual network WRN-depth-k for small images: a 3x3 stem of 16 filters, three stages of n blocks with 16k, 32k
/// and 64k channels, the second and third at half the resolution of the one before, batch norm and relu, mean over all
/// pixels, one linear layer. depth = 6n + 4.
///
/// Flow: see `ResidualStage`; streams are not rectified, so that a difference of maps is exactly a branch. Weights are
/// drawn by He's rule from the seed and their names. Source: Zagoruyko & Komodakis 2016, table 1.
template <class T> class WideResNet : public Model<T> {
public:
    /// @throws ShapeError unless depth = 6n + 4, n >= 1, the width k is positive and `dropout` in [0, 1)
    WideResNet(Index depth, Index width, const Options& options)
        : Model<T>(join_text("wrn-", depth, "-", width), options),
          conv_(this->child("conv", convolution<T>(options.channels, 16, 3))) {
        expect(depth >= 10 && depth % 6 == 4 && width >= 1,
               "WideResNet: expected a depth of 6n + 4 and a positive width, got ", depth, " and ", width);
        Index in = 16;
        for (Index s = 0; s < 3; ++s) {
            const Index out = (16 * width) << s;
            ResidualStage<WideBlock<T>> stage(options.taps);
            for (Index b = 0; b < (depth - 4) / 6; ++b) {
                const Random stream(options.seed, join_text("stage", s + 1, ".", b, ".dropout"));
                stage.append(WideBlock<T>(in, out, s > 0 && b == 0 ? 2 : 1, options.dropout, stream));
                in = out;
            }
            stages_.push_back(this->child("stage" + std::to_string(s + 1), stage));
        }
        bn_ = this->child("bn", BatchNorm<T>({.channels = in}));
        linear_ = this->child("linear", Linear<T>({.in = in, .out = options.classes, .init = Init::zeros()}));
        initialize(*this, Init::he(), options.seed);
    }

    Output<T> forward(const Var<T>& x) override {
        Output<T> out;
        Var<T> y = conv_.forward(x);
        for (auto& stage : stages_) y = stage.forward(y, out.flow);
        out.logits = linear_->forward(global_avg_pool(bn_->forward(y, Activation::relu)));
        return out;
    }

private:
    Conv2d<T> conv_;
    std::vector<ResidualStage<WideBlock<T>>> stages_;
    std::optional<BatchNorm<T>> bn_;
    std::optional<Linear<T>> linear_;
};

/// 2.75 and 36.5 million parameters.
/// @{
template <class T> WideResNet<T> wrn_16_4(const Options& options = {}) { return {16, 4, options}; }
template <class T> WideResNet<T> wrn_28_10(const Options& options = {}) { return {28, 10, options}; }
/// @}

} // namespace models

ESPALIER_COMPILED_CLASS(models::WideBlock);
ESPALIER_COMPILED_CLASS(models::WideResNet);

} // namespace espalier::inline ESPALIER_BACKEND
