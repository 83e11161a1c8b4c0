#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/model.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/activation.hpp>
#include <espalier/ops/pool.hpp>
#include <espalier/ops/reshape.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// LeNet-5: two 5x5 convolutions of 6 and 16 filters, each with average pooling by 2, then 120, 84 and `classes` units.
///
/// For 32x32 images, or 28x28 with a padding of 2 in the first convolution: `Options::size`. Biases, no batch norm,
/// tanh or relu after each layer but the last. All maps differ in shape, so its flow is empty. Weights are drawn from
/// the seed and their names by Xavier's rule for tanh and He's for relu. Source: LeCun et al. 1998, section II.B, with
/// full connections between maps and a plain output layer.
template <class T> class LeNet : public Model<T> {
public:
    /// @throws ShapeError unless the size is 28 or 32
    explicit LeNet(const Options& options)
        : Model<T>("lenet5", options),
          conv1_(this->child(
              "conv1",
              Conv2d<T>({.in = options.channels, .out = 6, .size = 5, .padding = options.size == 28 ? 2 : 0}))),
          conv2_(this->child("conv2", Conv2d<T>({.in = 6, .out = 16, .size = 5}))),
          linear1_(this->child("linear1", Linear<T>({.in = 5 * 5 * 16, .out = 120}))),
          linear2_(this->child("linear2", Linear<T>({.in = 120, .out = 84}))),
          linear3_(this->child("linear3", Linear<T>({.in = 84, .out = options.classes}))) {
        expect(options.size == 28 || options.size == 32, "LeNet: expected a size of 28 or 32, got ", options.size);
        initialize(*this, options.nonlinearity == Nonlinearity::relu ? Init::he() : Init::xavier(), options.seed);
    }

    Output<T> forward(const Var<T>& x) override {
        const auto bend = [this](const Var<T>& y) {
            return this->options().nonlinearity == Nonlinearity::relu ? relu(y) : tanh(y);
        };
        Var<T> y = avg_pool2d(bend(conv1_.forward(x)));
        y = avg_pool2d(bend(conv2_.forward(y)));
        y = bend(linear1_.forward(flatten(y)));
        return {.logits = linear3_.forward(bend(linear2_.forward(y))), .flow = {}};
    }

private:
    Conv2d<T> conv1_, conv2_;
    Linear<T> linear1_, linear2_, linear3_;
};

/// 61706 parameters for one input channel and ten classes.
template <class T> LeNet<T> lenet5(const Options& options = {}) { return LeNet<T>(options); }

} // namespace models

ESPALIER_COMPILED_CLASS(models::LeNet);

} // namespace espalier::inline ESPALIER_BACKEND
