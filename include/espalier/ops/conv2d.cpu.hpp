#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/ops/conv2d_options.hpp>
#include <espalier/tensor/tensor.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

template <class T>
void conv2d(Cpu, View<const T, 4> x, View<const T, 4> w, View<const T, 1> b, const Conv2dOptions& o, View<T, 4> y) {
    const Index rows = y.size(1), per = w.size(3), filters = y.size(3) / o.groups;
    parallel_for(y.size(0) * rows, [&](Index i) {
        const Index n = i / rows, p = i % rows;
        for (Index q = 0; q < y.size(2); ++q)
            for (Index k = 0; k < y.size(3); ++k) {
                T sum = 0;
                for (Index r = 0; r < w.size(1); ++r) {
                    const Index h = p * o.stride + r * o.dilation - o.padding;
                    if (h < 0 || h >= x.size(1)) continue;
                    for (Index s = 0; s < w.size(2); ++s) {
                        const Index v = q * o.stride + s * o.dilation - o.padding;
                        if (v < 0 || v >= x.size(2)) continue;
                        const T *from = x.at(n, h, v) + k / filters * per, *weight = w.at(k, r, s);
                        for (Index c = 0; c < per; ++c) sum += from[c] * weight[c];
                    }
                }
                y(n, p, q, k) = b.size() ? sum + b(k) : sum;
            }
    });
}

template <class T>
void conv2d_data_gradient(Cpu, View<const T, 4> dy, View<const T, 4> w, const Conv2dOptions& o, View<T, 4> dx) {
    const Index per = w.size(3), filters = o.groups ? dy.size(3) / o.groups : 0;
    parallel_for(dx.size(0), [&](Index n) {
        for (Index i = 0; i < dx.size(1) * dx.size(2) * dx.size(3); ++i) dx.at(n)[i] = 0;
        for (Index p = 0; p < dy.size(1); ++p)
            for (Index q = 0; q < dy.size(2); ++q)
                for (Index k = 0; k < dy.size(3); ++k)
                    for (Index r = 0; r < w.size(1); ++r) {
                        const Index h = p * o.stride + r * o.dilation - o.padding;
                        if (h < 0 || h >= dx.size(1)) continue;
                        for (Index s = 0; s < w.size(2); ++s) {
                            const Index v = q * o.stride + s * o.dilation - o.padding;
                            if (v < 0 || v >= dx.size(2)) continue;
                            T* to = dx.at(n, h, v) + k / filters * per;
                            for (Index c = 0; c < per; ++c) to[c] += dy(n, p, q, k) * w(k, r, s, c);
                        }
                    }
    });
}

template <class T>
void conv2d_weight_gradient(Cpu, View<const T, 4> x, View<const T, 4> dy, const Conv2dOptions& o, View<T, 4> dw) {
    const Index per = dw.size(3), filters = dy.size(3) / o.groups;
    parallel_for(dw.size(0), [&](Index k) {
        for (Index i = 0; i < dw.size(1) * dw.size(2) * dw.size(3); ++i) dw.at(k)[i] = 0;
        for (Index n = 0; n < dy.size(0); ++n)
            for (Index p = 0; p < dy.size(1); ++p)
                for (Index q = 0; q < dy.size(2); ++q)
                    for (Index r = 0; r < dw.size(1); ++r) {
                        const Index h = p * o.stride + r * o.dilation - o.padding;
                        if (h < 0 || h >= x.size(1)) continue;
                        for (Index s = 0; s < dw.size(2); ++s) {
                            const Index v = q * o.stride + s * o.dilation - o.padding;
                            if (v < 0 || v >= x.size(2)) continue;
                            const T* from = x.at(n, h, v) + k / filters * per;
                            for (Index c = 0; c < per; ++c) dw(k, r, s, c) += dy(n, p, q, k) * from[c];
                        }
                    }
    });
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
