#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/tensor/random.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace espalier::inline ESPALIER_BACKEND {

/// Connections of one unit of a weight: taps times channels in, and taps times filters.
struct Fans {
    Index in, out; ///< terms of an output, and outputs that an input takes part in
};
/// Fans of a convolution's [K,R,S,C] or a linear layer's [K,C]. @throws ShapeError for fewer than two axes
inline Fans fans(const Shape& weight) {
    expect(weight.rank() >= 2, "fans: expected a weight [K,..,C], got ", weight);
    const Index taps = weight.product(1, weight.rank() - 1);
    return {taps * weight.back(), taps * weight[0]};
}

/// Which of a weight's fans sets the scale; `mean` is that of both.
enum class Fan { in, out, mean };
/// The shape of the distribution that weights are drawn from.
enum class Distribution { normal, uniform };

/// How weights are drawn: mean 0 and standard deviation gain / sqrt(fan), from a normal or a uniform distribution.
///
/// Biases are uniform in +-bias / sqrt(fan in of their weight). The default is PyTorch's for both kinds of layer:
/// weight and bias uniform in +-1 / sqrt(fan in).
struct Init {
    double gain = std::numbers::inv_sqrt3;             ///< the deviation of a uniform distribution in [-1, 1]
    Fan fan = Fan::in;                                 ///< which of the two keeps its variance
    Distribution distribution = Distribution::uniform; ///< of the draws
    double bias = 1;                                   ///< at least 0; 0 starts biases at zero

    /// For layers before a relu: deviation sqrt(2 / fan), no bias. Source: He et al. 2015, equations 10 and 14.
    static Init he(Fan fan = Fan::in, Distribution distribution = Distribution::normal) {
        return {std::numbers::sqrt2, fan, distribution, 0};
    }
    /// For layers before tanh: deviation sqrt(2 / (fan in + fan out)), no bias. Source: Glorot & Bengio 2010, eq. 16.
    static Init xavier(Distribution distribution = Distribution::uniform) { return {1, Fan::mean, distribution, 0}; }
    /// All zero and at no cost, for layers that are to be loaded, or drawn by `initialize`.
    static Init zeros() { return {0, Fan::in, Distribution::uniform, 0}; }
};

/// A weight [K,R,S,C] or [K,C]; element i is draw i of `random`.
template <class T> Tensor<T> draw_weight(const Shape& shape, const Init& init, const Random& random) {
    if (init.gain == 0) return Tensor<T>::zeros(shape);
    const auto [in, out] = fans(shape);
    const double fan = init.fan == Fan::in    ? static_cast<double>(in)
                       : init.fan == Fan::out ? static_cast<double>(out)
                                              : static_cast<double>(in + out) / 2;
    const double deviation = init.gain / std::sqrt(std::max(fan, 1.0)); // a weight pruned to nothing has fan 0
    if (init.distribution == Distribution::normal) return normal<T>(shape, random, 0, deviation);
    return uniform<T>(shape, random, -deviation * std::numbers::sqrt3, deviation * std::numbers::sqrt3);
}

/// The bias [K] of a weight [K,R,S,C] or [K,C].
template <class T> Tensor<T> draw_bias(const Shape& weight, const Init& init, const Random& random) {
    if (init.bias == 0) return Tensor<T>::zeros({weight[0]});
    const double bound = init.bias / std::sqrt(std::max(static_cast<double>(fans(weight).in), 1.0));
    return uniform<T>({weight[0]}, random, -bound, bound);
}

/// Starts all parameters and buffers of a module afresh, in the shapes that they have now, pruned ones too.
///
/// Goes by the last part of the name: `weight` and the `bias` after it are drawn as `init` says, `gamma` and
/// `running_var` become 1, `beta`, `running_mean` and a join's `constant` 0; other names are left alone. A draw depends
/// on the seed and the parameter's whole name only, so networks that share a name and a shape share the values.
template <class T> void initialize(const Module<T>& module, const Init& init, std::uint64_t seed) {
    Shape weight{1, 1}; // of the layer that a bias belongs to
    for (const auto& list : {module.parameters(), module.buffers()})
        for (const auto& [name, var] : list) {
            const std::string last = name.substr(name.find_last_of('.') + 1);
            Var<T> target = var;
            if (last == "weight") {
                weight = var.shape();
                target.set_value(draw_weight<T>(weight, init, Random(seed, name)).to(var.device()));
            } else if (last == "bias") {
                target.set_value(draw_bias<T>(weight, init, Random(seed, name)).to(var.device()));
            } else if (last == "gamma" || last == "running_var") {
                target.set_value(Tensor<T>::ones(var.shape(), var.device()));
            } else if (last == "beta" || last == "running_mean" || last == "constant") {
                target.set_value(Tensor<T>::zeros(var.shape(), var.device()));
            }
        }
}

ESPALIER_COMPILED_FUNCTION(initialize);

} // namespace espalier::inline ESPALIER_BACKEND
