#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/initialize.hpp>
#include <espalier/ops/conv2d.hpp>

#include <algorithm>

namespace espalier::inline ESPALIER_BACKEND {

/// Whether a layer adds a bias. Before batch norm it has no effect and is left out.
enum class Bias { none, learned };

/// What a new convolution looks like; filters are `size` x `size`.
struct Conv2dSpec {
    Index in, out;                                           ///< channels C and filters K
    Index size = 3;                                          ///< height and width of a filter, R = S
    Index stride = 1, padding = 0, dilation = 1, groups = 1; ///< as of the op `conv2d`
    Bias bias = Bias::learned;                               ///< [K], or none
    Init init = {};                                          ///< of weight and bias
};

/// Convolution with its parameters `weight` [K,R,S,C / groups] and, if learned, `bias` [K].
///
/// Holds no channel counts: they are the extents of the weight, and surgery changes them there. Weight and bias are
/// substreams 0 and 1 of `random`; layers of one network want different streams, see also `initialize`.
template <class T> class Conv2d : public Module<T> {
public:
    /// Draws the weight from `random`. @throws ShapeError if groups do not divide the channels
    explicit Conv2d(const Conv2dSpec& spec, const Random& random = Random(0, "conv2d"))
        : options{.stride = spec.stride, .padding = spec.padding, .dilation = spec.dilation, .groups = spec.groups} {
        expect(spec.in >= 1 && spec.out >= 1 && spec.size >= 1 && spec.groups >= 1 && spec.in % spec.groups == 0 &&
                   spec.out % spec.groups == 0,
               "Conv2d: expected positive in, out and size, divisible by groups, got in ", spec.in, ", out ", spec.out,
               ", size ", spec.size, " and groups ", spec.groups);
        depthwise = spec.groups > 1 && spec.groups == spec.in && spec.groups == spec.out;
        const Shape shape{spec.out, spec.size, spec.size, spec.in / spec.groups};
        weight = this->add_parameter("weight", draw_weight<T>(shape, spec.init, random.substream(0)));
        if (spec.bias == Bias::learned)
            bias = this->add_parameter("bias", draw_bias<T>(shape, spec.init, random.substream(1)));
    }

    /// x [N,H,W,C] -> [N,P,Q,K]
    Var<T> forward(const Var<T>& x) const {
        Conv2dOptions now = options; // with as many groups as there are channels, also after surgery
        if (depthwise)
            now.groups = std::max<Index>(1, weight.size(0));
        else if (options.groups > 1 && weight.size(3) == 1)
            now.groups = std::max<Index>(1, x.size(3));
        return conv2d(x, weight, bias, now);
    }

    Var<T> weight, bias;    ///< [K,R,S,C/groups] and [K]; `bias` is undefined if there is none
    Conv2dOptions options;  ///< stride, padding, dilation and groups
    bool depthwise = false; ///< one filter a channel: groups follow the weight
};

ESPALIER_COMPILED_CLASS(Conv2d);

} // namespace espalier::inline ESPALIER_BACKEND
