#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/convolution.hpp>
#include <espalier/models/model.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/pool.hpp>

#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// A plain network for images of about 28 to 64 pixels, and the shortest example of a model: 3x3 convolutions of
/// `Options::widths` filters, each with batch norm and relu, mean over all pixels, one linear layer.
///
/// A convolution that is wider than the one before it has stride 2. The default of 16, 32, 32 and 64 filters has two.
/// Flow: consecutive maps of one shape are a stage. Weights are drawn by He's rule from the seed and their names.
template <class T> class Cnn : public Model<T> {
public:
    /// @throws ShapeError unless there are widths, all positive
    explicit Cnn(const Options& options) : Model<T>("cnn", options) {
        expect(!options.widths.empty(), "Cnn: expected the width of at least one convolution, got none");
        Index in = options.channels;
        for (const Index width : options.widths) {
            const std::string number = std::to_string(layers_.size() + 1);
            const Index stride = !layers_.empty() && width > in ? 2 : 1;
            const auto conv = this->child("conv" + number, convolution<T>(in, width, 3, stride));
            layers_.emplace_back(conv, this->child("bn" + number, BatchNorm<T>({.channels = width})));
            in = width;
        }
        linear_ = this->child("linear", Linear<T>({.in = in, .out = options.classes, .init = Init::zeros()}));
        initialize(*this, Init::he(), options.seed);
    }

    Output<T> forward(const Var<T>& x) override {
        Output<T> out;
        Var<T> y = x;
        for (const auto& [conv, bn] : layers_) {
            y = bn.forward(conv.forward(y), Activation::relu);
            auto& stages = out.flow.stages;
            if (stages.empty() || stages.back().maps[0].shape() != y.shape()) stages.emplace_back();
            stages.back().maps.push_back(y);
        }
        out.logits = linear_->forward(global_avg_pool(y));
        return out;
    }

private:
    std::vector<std::pair<Conv2d<T>, BatchNorm<T>>> layers_;
    std::optional<Linear<T>> linear_;
};

/// 33 thousand parameters for one input channel and ten classes.
template <class T> Cnn<T> cnn(const Options& options = {}) { return Cnn<T>(options); }

} // namespace models

ESPALIER_COMPILED_CLASS(models::Cnn);

} // namespace espalier::inline ESPALIER_BACKEND
