#pragma once

#include <espalier/nn/module.hpp>
#include <espalier/ops/dropout.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Sets a fraction `rate` of the elements to zero in training and scales the others by 1 / (1 - rate).
///
/// Call number i draws from substream i of `random`. The number is the buffer `calls` [1], so a resumed run drops what
/// the uninterrupted one would have (exact up to 2^24 calls in float). Layers of one network want different streams.
template <class T> class Dropout : public Module<T> {
public:
    /// Leaves out each element with probability `rate`. @throws ShapeError unless rate is in [0, 1)
    explicit Dropout(double rate, const Random& random = Random(0, "dropout")) : rate_(rate), random_(random) {
        expect(rate >= 0 && rate < 1, "Dropout: expected a rate in [0, 1), got ", rate);
        calls_ = this->add_buffer("calls", Tensor<T>::zeros({1}));
    }

    /// x [...] -> the same shape; x itself in inference mode.
    Var<T> forward(const Var<T>& x) {
        if (this->mode() == Mode::inference) return x;
        Var<T> y = dropout(x, rate_, random_, calls_.value());
        dispatch(calls_.device(), [&](auto on) { kernels::increase(on, T(1), mutable_flat(calls_.mutable_value())); });
        return y;
    }

private:
    double rate_;
    Random random_;
    Var<T> calls_;
};

} // namespace espalier::inline ESPALIER_BACKEND
