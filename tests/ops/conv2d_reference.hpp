#pragma once

#include <espalier/ops/conv2d_options.hpp>

#include "support/check.hpp"

#include <utility>

// Convolution and its gradients by their definition: nested loops in double.

namespace espalier::test {

/// Sums, and the sum of the absolute terms of each beside it.
struct Reference {
    Tensor<double> value, scale;
};

/// Zeros to add to.
inline Reference no_terms(const Shape& shape) { return {Tensor<double>::zeros(shape), Tensor<double>::zeros(shape)}; }

/// Calls `f(y, x, w)` with the offsets of an output, and of the pixel and the tap of one channel that go into it, for
/// all. Offsets and not indices, because these are the innermost loops of many tests under sanitizers.
template <class F>
void for_each_term(const Shape& x, const Shape& w, const Shape& y, const Conv2dOptions& o, const F& f) {
    for (Index n = 0; n < y[0]; ++n)
        for (Index p = 0; p < y[1]; ++p)
            for (Index q = 0; q < y[2]; ++q)
                for (Index r = 0; r < w[1]; ++r)
                    for (Index s = 0; s < w[2]; ++s) {
                        const Index h = p * o.stride + r * o.dilation - o.padding;
                        const Index v = q * o.stride + s * o.dilation - o.padding;
                        if (h < 0 || h >= x[1] || v < 0 || v >= x[2]) continue;
                        const Index pixel = ((n * x[1] + h) * x[2] + v) * x[3],
                                    out = ((n * y[1] + p) * y[2] + q) * y[3];
                        for (Index k = 0; k < y[3]; ++k) {
                            const Index group = k / (y[3] / o.groups) * w[3], tap = ((k * w[1] + r) * w[2] + s) * w[3];
                            for (Index c = 0; c < w[3]; ++c) f(out + k, pixel + group + c, tap + c);
                        }
                    }
}

/// y [N,P,Q,K] of x [N,H,W,C], w [K,R,S,C/groups] and b [K], or undefined.
template <class T>
Reference reference(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& b, const Conv2dOptions& o) {
    const Shape shape{x.size(0), o.output(x.size(1), w.size(1)), o.output(x.size(2), w.size(2)), w.size(0)};
    Reference y = no_terms(shape);
    double *const value = y.value.mutable_data(), *const scale = y.scale.mutable_data();
    if (b.defined())
        for (Index i = 0; i < y.value.size(); ++i) {
            value[i] = static_cast<double>(b.data()[i % shape[3]]);
            scale[i] = std::abs(value[i]);
        }
    for_each_term(x.shape(), w.shape(), shape, o, [&, xs = x.data(), ws = w.data()](Index to, Index from, Index tap) {
        const double term = static_cast<double>(xs[from]) * static_cast<double>(ws[tap]);
        value[to] += term;
        scale[to] += std::abs(term);
    });
    return y;
}

/// Gradients of sum(dy * conv2d(x, w)): dx in `first`, dw in `second`.
template <class T>
std::pair<Reference, Reference> reference_gradients(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& dy,
                                                    const Conv2dOptions& o) {
    Reference dx = no_terms(x.shape()), dw = no_terms(w.shape());
    double *const dxs = dx.value.mutable_data(), *const x_scale = dx.scale.mutable_data();
    double *const dws = dw.value.mutable_data(), *const w_scale = dw.scale.mutable_data();
    for_each_term(x.shape(), w.shape(), dy.shape(), o,
                  [&, xs = x.data(), ws = w.data(), gs = dy.data()](Index from, Index pixel, Index tap) {
                      const double g = static_cast<double>(gs[from]);
                      const double to_x = g * static_cast<double>(ws[tap]), to_w = g * static_cast<double>(xs[pixel]);
                      dxs[pixel] += to_x;
                      x_scale[pixel] += std::abs(to_x);
                      dws[tap] += to_w;
                      w_scale[tap] += std::abs(to_w);
                  });
    return {dx, dw};
}

} // namespace espalier::test
