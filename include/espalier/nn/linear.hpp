#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/ops/linear.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// What a new linear layer looks like.
struct LinearSpec {
    Index in, out;             ///< features C and K
    Bias bias = Bias::learned; ///< [K], or none
    Init init = {};            ///< of weight and bias
};

/// y = x w' + b with parameters `weight` [K,C] and, if learned, `bias` [K].
///
/// Weight and bias are substreams 0 and 1 of `random`; layers of one network want different streams.
template <class T> class Linear : public Module<T> {
public:
    /// Draws the weight from `random`.
    explicit Linear(const LinearSpec& spec, const Random& random = Random(0, "linear")) {
        expect(spec.in >= 1 && spec.out >= 1, "Linear: expected positive in and out, got ", spec.in, " and ", spec.out);
        const Shape shape{spec.out, spec.in};
        weight = this->add_parameter("weight", draw_weight<T>(shape, spec.init, random.substream(0)));
        if (spec.bias == Bias::learned)
            bias = this->add_parameter("bias", draw_bias<T>(shape, spec.init, random.substream(1)));
    }

    /// x [N,C] -> [N,K]
    Var<T> forward(const Var<T>& x) const { return linear(x, weight, bias); }

    Var<T> weight, bias; ///< [K,C] and [K]; `bias` is undefined if there is none
};

ESPALIER_COMPILED_CLASS(Linear);

} // namespace espalier::inline ESPALIER_BACKEND
