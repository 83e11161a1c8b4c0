#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/convolution.hpp>
#include <espalier/models/model.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/dropout.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/activation.hpp>
#include <espalier/ops/adaptive_pool.hpp>
#include <espalier/ops/pool.hpp>
#include <espalier/ops/reshape.hpp>

#include <map>
#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// VGG: five stages of 3x3 convolutions with batch norm and relu, 64 to 512 channels, max pooling by 2 after each; then
/// linear layers on the maps averaged to `Options::pooled` x `pooled` pixels, with relu and dropout after each hidden
/// one.
///
/// On CIFAR there is one linear layer, as by default, or a hidden one: `{.hidden = {512}}`. The network for ImageNet is
/// `{.classes = 1000, .hidden = {4096, 4096}, .pooled = 7, .dropout = 0.5}`. Convolutions have no bias, which batch
/// norm would take out again. Maps under 2 pixels are not pooled: 32x32 images end at 1x1 as usual, 28x28 images skip
/// the fifth pooling, and a 64x64 image ends with the mean over 2x2 pixels. The smallest image is 1x1. Flow: the maps
/// of a stage are its consecutive equal-width outputs after relu (the width changes between stages only; in a pruned
/// network a stage is split where it changes). Its entry is the pooled last map before it, where the widths agree. No
/// skip connection, so no branches. Weights are drawn by He's rule from the seed and their names. Source: Simonyan &
/// Zisserman 2015, table 1, with batch norm.
template <class T> class Vgg : public Model<T> {
public:
    /// @throws ShapeError unless depth is 11, 13, 16 or 19, `pooled` and all `hidden` positive and `dropout` in [0, 1)
    Vgg(Index depth, const Options& options) : Model<T>("vgg" + std::to_string(depth), options) {
        const std::map<Index, std::vector<Index>> depths{
            {11, {1, 1, 2, 2, 2}}, {13, {2, 2, 2, 2, 2}}, {16, {2, 2, 3, 3, 3}}, {19, {2, 2, 4, 4, 4}}};
        const auto counts = depths.find(depth);
        expect(counts != depths.end(), "Vgg: expected a depth of 11, 13, 16 or 19, got ", depth);
        const Index widths[] = {64, 128, 256, 512, 512};
        Index in = options.channels;
        for (std::size_t s = 0; s < 5; ++s) {
            Stage stage;
            for (Index i = 0; i < counts->second[s]; ++i) {
                stage.append(in, widths[s]);
                in = widths[s];
            }
            stages_.push_back(this->child("stage" + std::to_string(s + 1), stage));
        }
        expect(options.pooled >= 1, "Vgg: expected maps pooled to at least 1 pixel, got ", options.pooled);
        in *= options.pooled * options.pooled;
        for (const Index units : options.hidden) {
            const std::string number = std::to_string(hidden_.size() + 1);
            hidden_.push_back(this->child("hidden" + number, linear(in, units)));
            if (options.dropout != 0) {
                const std::string name = "dropout" + number;
                dropout_.push_back(this->child(name, Dropout<T>(options.dropout, Random(options.seed, name))));
            }
            in = units;
        }
        linear_ = this->child("linear", linear(in, options.classes));
        initialize(*this, Init::he(), options.seed);
    }

    Output<T> forward(const Var<T>& x) override {
        Output<T> out;
        Var<T> y = x;
        for (const Stage& stage : stages_) {
            Var<T> entry = out.flow.stages.empty() ? Var<T>() : y;
            for (const auto& [conv, bn] : stage.layers) {
                y = bn.forward(conv.forward(y), Activation::relu);
                auto& taps = out.flow.stages;
                if (entry.defined() || taps.empty() || taps.back().maps.back().shape() != y.shape()) {
                    taps.push_back({.maps = {y}, .entry = {}});
                    if (entry.defined() && entry.shape() == y.shape()) taps.back().entry = entry;
                    entry = {};
                } else {
                    taps.back().maps.push_back(y);
                }
            }
            if (y.size(1) >= 2 && y.size(2) >= 2) y = max_pool2d(y);
        }
        const Index pooled = this->options().pooled;
        y = pooled == 1 ? global_avg_pool(y) : flatten(adaptive_avg_pool2d(y, pooled));
        for (std::size_t i = 0; i < hidden_.size(); ++i) {
            y = relu(hidden_[i].forward(y));
            if (!dropout_.empty()) y = dropout_[i].forward(y);
        }
        out.logits = linear_->forward(y);
        return out;
    }

private:
    struct Stage : Module<T> {
        void append(Index in, Index out) {
            const std::string number = std::to_string(layers.size() + 1);
            const auto conv = this->child("conv" + number, convolution<T>(in, out, 3));
            layers.emplace_back(conv, this->child("bn" + number, BatchNorm<T>({.channels = out})));
        }
        std::vector<std::pair<Conv2d<T>, BatchNorm<T>>> layers;
    };

    static Linear<T> linear(Index in, Index out) { return Linear<T>({.in = in, .out = out, .init = Init::zeros()}); }

    std::vector<Stage> stages_;
    std::vector<Linear<T>> hidden_;
    std::vector<Dropout<T>> dropout_; // one a hidden layer, or none
    std::optional<Linear<T>> linear_;
};

/// The configurations A, B, D and E: 9.23, 9.41, 14.72 and 20.04 million parameters with one linear layer for 10
/// classes.
/// @{
template <class T> Vgg<T> vgg11(const Options& options = {}) { return {11, options}; }
template <class T> Vgg<T> vgg13(const Options& options = {}) { return {13, options}; }
template <class T> Vgg<T> vgg16(const Options& options = {}) { return {16, options}; }
template <class T> Vgg<T> vgg19(const Options& options = {}) { return {19, options}; }
/// @}

} // namespace models

ESPALIER_COMPILED_CLASS(models::Vgg);

} // namespace espalier::inline ESPALIER_BACKEND
