#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/convolution.hpp>
#include <espalier/models/model.hpp>
#include <espalier/models/residual_stage.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/pool.hpp>

#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// The ResNet of three stages for small images, every block with squeeze and excitation: depth 6n + 2, 16, 32 and 64
/// channels, mean over all pixels, one linear layer.
///
/// Flow: see `ResidualStage`. Weights are drawn by He's rule from the seed and their names.
/// Source: Hu et al. 2018, section 6.1, on the networks of He et al. 2016, section 4.2.
template <class T> class SeResNet : public Model<T> {
public:
    /// @throws ShapeError unless depth = 6n + 2, n >= 1
    SeResNet(Index depth, const Options& options)
        : Model<T>("se-resnet" + std::to_string(depth), options),
          conv_(this->child("conv", convolution<T>(options.channels, 16, 3))),
          bn_(this->child("bn", BatchNorm<T>({.channels = 16}))) {
        expect(depth >= 8 && depth % 6 == 2, "SeResNet: expected a depth of 6n + 2, got ", depth);
        Index in = 16;
        for (const Index out : {16, 32, 64}) {
            ResidualStage<ResidualBlock<T>> stage(options.taps);
            for (Index b = 0; b < (depth - 2) / 6; ++b) {
                stage.append(ResidualBlock<T>(in, out, b == 0 && out > 16 ? 2 : 1, options.shortcut, Branch::excited));
                in = out;
            }
            stages_.push_back(this->child("stage" + std::to_string(stages_.size() + 1), stage));
        }
        linear_ = this->child("linear", Linear<T>({.in = in, .out = options.classes, .init = Init::zeros()}));
        initialize(*this, Init::he(), options.seed);
    }

    Output<T> forward(const Var<T>& x) override {
        Output<T> out;
        Var<T> y = bn_.forward(conv_.forward(x), Activation::relu);
        for (auto& stage : stages_) y = stage.forward(y, out.flow);
        out.logits = linear_->forward(global_avg_pool(y));
        return out;
    }

private:
    Conv2d<T> conv_;
    BatchNorm<T> bn_;
    std::vector<ResidualStage<ResidualBlock<T>>> stages_;
    std::optional<Linear<T>> linear_;
};

/// 0.27 and 0.86 million parameters.
/// @{
template <class T> SeResNet<T> se_resnet20(const Options& options = {}) { return {20, options}; }
template <class T> SeResNet<T> se_resnet56(const Options& options = {}) { return {56, options}; }
/// @}

} // namespace models

ESPALIER_COMPILED_CLASS(models::SeResNet);

} // namespace espalier::inline ESPALIER_BACKEND
