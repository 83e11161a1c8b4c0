#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/cpu/lanes.hpp>
#include <espalier/ops/conv2d_options.hpp>
#include <espalier/tensor/tensor.hpp>

#include <algorithm>

// Depthwise convolution: each channel has one filter of its own, so vectors run over channels and taps are the only
// terms. x [N,H,W,C], w [C,R,S,1], y [N,P,Q,C]; `taps` [R,S,C] is w with the channel last.

namespace espalier::inline ESPALIER_BACKEND {

namespace kernels {

/// taps[r,s,c] = w[c,r,s,0]
template <class T> void depthwise_taps(Cpu, View<const T, 4> w, View<T, 3> taps) {
    for (Index r = 0; r < w.size(1); ++r)
        for (Index s = 0; s < w.size(2); ++s)
            for (Index c = 0; c < w.size(0); ++c) taps(r, s, c) = w(c, r, s, 0);
}

/// y[n,p,q,c] = sum over r, s of x[n, p*stride + r*dilation - padding, ..., c] * taps[r,s,c], then b[c] unless empty.
/// Terms are added in the order r, s.
template <class T>
void conv2d_depthwise(Cpu, View<const T, 4> x, View<const T, 3> taps, View<const T, 1> b, const Conv2dOptions& o,
                      View<T, 4> y) {
    parallel_for(y.size(0) * y.size(1), [&](Index line) {
        const Index n = line / y.size(1), p = line % y.size(1);
        for (Index q = 0; q < y.size(2); ++q)
            for_lanes<T>(y.size(3), [&]<class S>(S, Index c) {
                auto sum = S::zero();
                for (Index r = 0; r < taps.size(0); ++r) {
                    const Index h = p * o.stride + r * o.dilation - o.padding;
                    if (h < 0 || h >= x.size(1)) continue;
                    for (Index s = 0; s < taps.size(1); ++s) {
                        const Index v = q * o.stride + s * o.dilation - o.padding;
                        if (v >= 0 && v < x.size(2)) sum += S::load(x.at(n, h, v, c)) * S::load(taps.at(r, s, c));
                    }
                }
                if (b.size()) sum += S::load(b.at(c));
                S::store(y.at(n, p, q, c), sum);
            });
    });
}

/// dx[n,h,w,c] = sum over the taps r, s and outputs p, q that read pixel h, w of dy[n,p,q,c] * taps[r,s,c].
template <class T>
void conv2d_depthwise_data_gradient(Cpu, View<const T, 4> dy, View<const T, 3> taps, const Conv2dOptions& o,
                                    View<T, 4> dx) {
    parallel_for(dx.size(0) * dx.size(1), [&](Index line) {
        const Index n = line / dx.size(1), h = line % dx.size(1);
        for (Index v = 0; v < dx.size(2); ++v)
            for_lanes<T>(dx.size(3), [&]<class S>(S, Index c) {
                auto sum = S::zero();
                for (Index r = 0; r < taps.size(0); ++r) {
                    const Index down = h + o.padding - r * o.dilation;
                    if (down < 0 || down % o.stride || down / o.stride >= dy.size(1)) continue;
                    for (Index s = 0; s < taps.size(1); ++s) {
                        const Index across = v + o.padding - s * o.dilation;
                        if (across < 0 || across % o.stride || across / o.stride >= dy.size(2)) continue;
                        sum += S::load(dy.at(n, down / o.stride, across / o.stride, c)) * S::load(taps.at(r, s, c));
                    }
                }
                S::store(dx.at(n, h, v, c), sum);
            });
    });
}

/// Elements of scratch that `conv2d_depthwise_weight_gradient` takes: a sum of all taps for each image.
template <class T> Index conv2d_depthwise_weight_gradient_scratch(View<const T, 4> x, View<T, 4> dw) {
    return x.size(0) * dw.size();
}

/// dw[c,r,s,0] = sum over n,p,q of dy[n,p,q,c] * x[n, p*stride + r*dilation - padding, ..., c]: one sum an image, and
/// these added first to last.
template <class T>
void conv2d_depthwise_weight_gradient(Cpu, View<const T, 4> x, View<const T, 4> dy, const Conv2dOptions& o,
                                      View<T, 1> scratch, View<T, 4> dw) {
    const Index taps = dw.size(1) * dw.size(2), channels = x.size(3);
    parallel_for(x.size(0) * taps, [&](Index item) {
        const Index n = item / taps, r = item % taps / dw.size(2), s = item % dw.size(2);
        T* const sum = scratch.at(item * channels);
        std::fill_n(sum, channels, T(0));
        for (Index p = 0; p < dy.size(1); ++p) {
            const Index h = p * o.stride + r * o.dilation - o.padding;
            if (h < 0 || h >= x.size(1)) continue;
            for (Index q = 0; q < dy.size(2); ++q) {
                const Index v = q * o.stride + s * o.dilation - o.padding;
                if (v < 0 || v >= x.size(2)) continue;
                const T *const a = x.at(n, h, v), *const g = dy.at(n, p, q);
                for (Index c = 0; c < channels; ++c) sum[c] += a[c] * g[c];
            }
        }
    });
    std::fill_n(dw.data(), dw.size(), T(0));
    for (Index n = 0; n < x.size(0); ++n)
        for (Index tap = 0; tap < taps; ++tap)
            for (Index c = 0; c < channels; ++c) dw.at(c)[tap] += scratch((n * taps + tap) * channels + c);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
