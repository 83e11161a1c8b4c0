#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/models/convolution.hpp>
#include <espalier/models/model.hpp>
#include <espalier/models/squeeze_excite.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/join.hpp>
#include <espalier/nn/padded_shortcut.hpp>

#include <algorithm>
#include <optional>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// What a residual block hands on: its output, and what its join added up.
template <class T> struct BlockResult {
    Var<T> y, stream, branch; ///< stream: the shortcut of x, x itself for an identity; branch: before the join
};

/// What the branch of a residual block consists of: two 3x3 convolutions; or a 1x1 to a quarter of the block's width, a
/// 3x3 at that width, which takes the stride, and a 1x1 back; or a bottleneck of half the width whose 3x3 is a group
/// convolution of 32 groups, as in ResNeXt (Xie et al. 2017, figure 3c); or two 3x3 convolutions and a squeeze and
/// excitation through a 16th of the width (Hu et al. 2018, figure 3).
enum class Branch { basic, bottleneck, grouped, excited };

/// Convolutions with batch norm, joined to the stream that went past them:
/// y = relu(shortcut(x) + bn2(conv2(relu(bn1(conv1(x)))))), with a third pair for a bottleneck, or what excites behind
/// it.
///
/// The shortcut is the identity unless width or resolution change. Source: He et al. 2016, figure 5; the stride of a
/// bottleneck is at its 3x3 convolution, as in torchvision, and not at its first.
template <class T> class ResidualBlock : public Module<T> {
public:
    /// A block from `in` to `out` channels; another width or stride takes the `shortcut`, else x passes as it is.
    ResidualBlock(Index in, Index out, Index stride, Shortcut shortcut, Branch branch = Branch::basic) {
        if (branch == Branch::basic || branch == Branch::excited) {
            append(in, out, 3, stride);
            append(out, out, 3, 1);
        } else {
            const Index inner = branch == Branch::grouped ? out / 2 : out / 4;
            append(in, inner, 1, 1);
            append(inner, inner, 3, stride, branch == Branch::grouped ? 32 : 1);
            append(inner, out, 1, 1);
        }
        if (branch == Branch::excited) se_ = this->child("se", SqueezeExcite<T>(out, std::max<Index>(1, out / 16)));
        this->child("join", join_);
        if (stride == 1 && in == out) return;
        if (shortcut == Shortcut::padded) {
            padded_ = this->child("shortcut", PaddedShortcut<T>({.in = in, .out = out, .stride = stride}));
        } else {
            projection_ = this->child("projection", convolution<T>(in, out, 1, stride));
            projection_bn_ = this->child("projection_bn", BatchNorm<T>({.channels = out}));
        }
    }

    /// x [N,H,W,in] -> y [N,P,Q,out] with P = ceil(H / stride).
    BlockResult<T> forward(const Var<T>& x) const {
        Var<T> branch = x;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            const auto& [conv, bn] = layers_[i];
            branch = bn.forward(conv.forward(branch), i + 1 < layers_.size() ? Activation::relu : Activation::none);
        }
        if (se_) branch = se_->forward(branch);
        const Var<T> stream = padded_       ? padded_->forward(x, join_.width(branch))
                              : projection_ ? projection_bn_->forward(projection_->forward(x))
                                            : x;
        return {join_.forward(stream, branch, Activation::relu), stream, branch};
    }

private:
    void append(Index in, Index out, Index size, Index stride, Index groups = 1) {
        const std::string number = std::to_string(layers_.size() + 1);
        const auto conv = this->child("conv" + number, convolution<T>(in, out, size, stride, groups));
        layers_.emplace_back(conv, this->child("bn" + number, BatchNorm<T>({.channels = out})));
    }

    std::vector<std::pair<Conv2d<T>, BatchNorm<T>>> layers_;
    std::optional<SqueezeExcite<T>> se_;
    Join<T> join_;
    std::optional<PaddedShortcut<T>> padded_;
    std::optional<Conv2d<T>> projection_;
    std::optional<BatchNorm<T>> projection_bn_;
};

} // namespace models

ESPALIER_COMPILED_CLASS(models::ResidualBlock);

} // namespace espalier::inline ESPALIER_BACKEND
