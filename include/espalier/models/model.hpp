#pragma once

#include <espalier/nn/module.hpp>
#include <espalier/ops/feature_flow.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
/// Networks that classify images: plain code, with no word about pruning.
namespace models {

/// What a forward pass returns: scores [N,classes], and handles of the feature maps that it went through.
template <class T> struct Output {
    Var<T> logits; ///< [N,classes], before softmax
    Flow<T> flow;  ///< what feature flow regularization takes
};

/// How a residual stream passes to the next stage: every second pixel among zero channels (option A), or a 1x1
/// convolution with batch norm (option B).
enum class Shortcut { padded, projection };
/// The nonlinearity of LeNet.
enum class Nonlinearity { tanh, relu };
/// How a ResNet of four stages begins: a 3x3 convolution, or a 7x7 convolution with stride 2 and 3x3 max pooling with
/// stride 2, which leave a quarter of the height and width of an ImageNet image. MobileNetV2 has strides there.
enum class Stem { small, imagenet };

/// Which maps the flow of a residual network has: the blocks' outputs, or also the ends of their branches. The first
/// are kept for the backward pass anyhow; each of the second is a map more in memory.
enum class Taps { features, branches };

/// What the models of this folder are made from. A checkpoint keeps it beside the model's name.
struct Options {
    Index classes = 10;                             ///< outputs; at least 1
    Index channels = 3;                             ///< of the input
    std::uint64_t seed = 0;                         ///< of the initial weights
    Index size = 28;                                ///< height and width of the input; LeNet only: 28 or 32
    Nonlinearity nonlinearity = Nonlinearity::tanh; ///< LeNet only
    Shortcut shortcut = Shortcut::padded;           ///< ResNets of three stages only; those of four project
    Stem stem = Stem::small;                        ///< ResNets of four stages and MobileNetV2 only
    Taps taps = Taps::features;                     ///< residual networks only
    std::vector<Index> widths = {16, 32, 32, 64};   ///< Cnn only: filters of each convolution
    std::vector<Index> hidden = {};                 ///< Vgg only: units of the linear layers before the last
    Index pooled = 1;   ///< Vgg only: height and width that the last maps are averaged to, before the linear layers
    double dropout = 0; ///< rate, Vgg: after each hidden layer; WideResNet: between the convolutions of a block;
                        ///< MobileNetV2: before the last layer
};

/// A classifier of images: what training, pruning and checkpoints take. Copies are handles, as of any module.
template <class T> class Model : public Module<T> {
public:
    virtual ~Model() = default;
    /// x [N,H,W,channels] -> logits [N,classes] and the flow. @throws ShapeError if x does not fit the first layer
    virtual Output<T> forward(const Var<T>& x) = 0;

    /// The name under which `create` makes it: `resnet20`.
    const std::string& name() const { return name_; }
    /// What it was made from.
    const Options& options() const { return options_; }

protected:
    /// For derived classes. @throws ShapeError for less than one class or channel
    Model(std::string name, const Options& options) : name_(std::move(name)), options_(options) {
        expect(options.classes >= 1 && options.channels >= 1, name_, ": expected positive classes and channels, got ",
               options.classes, " and ", options.channels);
    }
    /// Copies are handles of the same network.
    /// @{
    Model(const Model&) = default;
    Model(Model&&) = default;
    Model& operator=(const Model&) = default;
    Model& operator=(Model&&) = default;
    /// @}

private:
    std::string name_;
    Options options_;
};

} // namespace models
} // namespace espalier::inline ESPALIER_BACKEND
