#pragma once

#include <espalier/ops/conv2d_options.hpp>
#include <espalier/tensor/tensor.hpp>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace espalier::bench {

/// One way to do what a row asks for. Calls rotate through sets of equal inputs, larger together than the caches.
struct Variant {
    std::string name;
    std::function<void(Index set)> run;
    /// What the last `run` of set 0 made, channels last: [N,H,W,C] or [K,R,S,C].
    std::function<std::vector<std::pair<std::string, Tensor<float>>>()> results;
    Device device = Device::cpu; ///< where it runs: a GPU is waited for after many calls
};

/// The operands of a convolution and its options: y = conv(x, w), and dy like y.
struct ConvolutionInputs {
    Tensor<float> x, w, dy;
    Conv2dOptions options;
    std::string direction; ///< forward, data or weights: which of y, dx and dw is wanted
};
/// The convolution in oneDNN, one variant for each algorithm that it has for this shape; none in a build without it.
std::vector<Variant> onednn_convolutions(const ConvolutionInputs& inputs, Index sets);
/// Its version and the instruction set that it takes, or why it is not there.
std::string onednn_version();

} // namespace espalier::bench
