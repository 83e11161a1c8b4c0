#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/model.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/pool.hpp>

#include <map>
#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// VGG for small images: five stages of 3x3 convolutions with batch norm and relu, 64 to 512 channels, max pooling by 2
/// after each, mean over the pixels that remain, one linear layer.
///
/// Maps under 2 pixels are not pooled: 32x32 images end at 1x1 as usual, 28x28 images skip the fifth pooling, and a
/// 64x64 image ends with the mean over 2x2 pixels. The smallest image is 1x1.
/// Flow: the maps of a stage are its consecutive equal-width outputs after relu (the width changes between stages only;
/// in a pruned network a stage is split where it changes). Its entry is the pooled last map before it, where the widths
/// agree. No skip connection, so no branches. Weights are drawn by He's rule from the seed and their names.
/// Source: Simonyan & Zisserman 2015, table 1, with the batch norm and the single linear layer usual on CIFAR.
template <class T> class Vgg : public Model<T> {
public:
    /// @throws ShapeError unless depth is 11, 13, 16 or 19
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
        linear_ = this->child("linear", Linear<T>({.in = in, .out = options.classes}));
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
        out.logits = linear_->forward(global_avg_pool(y));
        return out;
    }

private:
    struct Stage : Module<T> {
        void append(Index in, Index out) {
            const std::string number = std::to_string(layers.size() + 1);
            Conv2d<T> conv({.in = in, .out = out, .size = 3, .padding = 1, .bias = Bias::none, .init = Init::zeros()});
            layers.emplace_back(this->child("conv" + number, conv),
                                this->child("bn" + number, BatchNorm<T>({.channels = out})));
        }
        std::vector<std::pair<Conv2d<T>, BatchNorm<T>>> layers;
    };

    std::vector<Stage> stages_;
    std::optional<Linear<T>> linear_;
};

/// The configurations A, B, D and E: 9.23, 9.41, 14.72 and 20.04 million parameters.
/// @{
template <class T> Vgg<T> vgg11(const Options& options = {}) { return {11, options}; }
template <class T> Vgg<T> vgg13(const Options& options = {}) { return {13, options}; }
template <class T> Vgg<T> vgg16(const Options& options = {}) { return {16, options}; }
template <class T> Vgg<T> vgg19(const Options& options = {}) { return {19, options}; }
/// @}

} // namespace models

ESPALIER_COMPILED_CLASS(models::Vgg);

} // namespace espalier::inline ESPALIER_BACKEND
