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

template <class T>
Reference reference(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& b, const Conv2dOptions& o) {
    const Index N = x.size(0), H = x.size(1), W = x.size(2), K = w.size(0), R = w.size(1), S = w.size(2);
    const Index P = (H + 2 * o.padding - o.dilation * (R - 1) - 1) / o.stride + 1;
    const Index Q = (W + 2 * o.padding - o.dilation * (S - 1) - 1) / o.stride + 1;
    Reference y{Tensor<double>::zeros({N, P, Q, K}), Tensor<double>::zeros({N, P, Q, K})};
    for (Index n = 0; n < N; ++n)
        for (Index p = 0; p < P; ++p)
            for (Index q = 0; q < Q; ++q)
                for (Index k = 0; k < K; ++k) {
                    double sum = b.defined() ? static_cast<double>(b.at(k)) : 0, scale = std::abs(sum);
                    for (Index r = 0; r < R; ++r)
                        for (Index s = 0; s < S; ++s)
                            for (Index c = 0; c < w.size(3); ++c) {
                                const Index h = p * o.stride + r * o.dilation - o.padding;
                                const Index v = q * o.stride + s * o.dilation - o.padding;
                                if (h < 0 || h >= H || v < 0 || v >= W) continue;
                                const Index channel = k / (K / o.groups) * w.size(3) + c;
                                const double term =
                                    static_cast<double>(x.at(n, h, v, channel)) * static_cast<double>(w.at(k, r, s, c));
                                sum += term;
                                scale += std::abs(term);
                            }
                    y.value.set(sum, n, p, q, k);
                    y.scale.set(scale, n, p, q, k);
                }
    return y;
}

/// Gradients of sum(dy * conv2d(x, w)) by the same loops: dx in `first`, dw in `second`.
template <class T>
std::pair<Reference, Reference> reference_gradients(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& dy,
                                                    const Conv2dOptions& o) {
    const auto zeros = [](const Shape& shape) {
        return Reference{Tensor<double>::zeros(shape), Tensor<double>::zeros(shape)};
    };
    const auto add = [](Reference& to, double term, auto... at) {
        to.value.set(to.value.at(at...) + term, at...);
        to.scale.set(to.scale.at(at...) + std::abs(term), at...);
    };
    Reference dx = zeros(x.shape()), dw = zeros(w.shape());
    for (Index n = 0; n < dy.size(0); ++n)
        for (Index p = 0; p < dy.size(1); ++p)
            for (Index q = 0; q < dy.size(2); ++q)
                for (Index k = 0; k < dy.size(3); ++k)
                    for (Index r = 0; r < w.size(1); ++r)
                        for (Index s = 0; s < w.size(2); ++s)
                            for (Index c = 0; c < w.size(3); ++c) {
                                const Index h = p * o.stride + r * o.dilation - o.padding;
                                const Index v = q * o.stride + s * o.dilation - o.padding;
                                if (h < 0 || h >= x.size(1) || v < 0 || v >= x.size(2)) continue;
                                const Index channel = k / (w.size(0) / o.groups) * w.size(3) + c;
                                const double g = static_cast<double>(dy.at(n, p, q, k));
                                add(dx, g * static_cast<double>(w.at(k, r, s, c)), n, h, v, channel);
                                add(dw, g * static_cast<double>(x.at(n, h, v, channel)), k, r, s, c);
                            }
    return {dx, dw};
}

} // namespace espalier::test
