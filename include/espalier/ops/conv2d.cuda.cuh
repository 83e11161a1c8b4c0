#pragma once

#include <espalier/cuda/tensor_product.cuh>
#include <espalier/ops/conv2d_bf16.cuda.cuh>

#include <cmath>
#include <cstdint>

// Convolutions as products (conv2d_gather.cuda.cuh) of operands as they are, or rounded while they are read; every pass
// does all groups.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Filters as the data's gradient reads them: a row for each channel, a term for each tap of a phase and each filter.
template <class T, int Width> struct ChannelRows {
    static constexpr bool along_terms = false;
    static constexpr int width = Width;
    const T* w;
    Divider line_taps, tap_filters;
    int filter, tap_down, tap_across; ///< elements from filter to filter and from tap to tap
    __device__ unsigned row(unsigned c) const { return c; }
    __device__ int term(unsigned t) const {
        const auto [place, k] = tap_filters(t);
        const auto [i, j] = line_taps(place);
        return static_cast<int>(k) * filter + static_cast<int>(i) * tap_down + static_cast<int>(j) * tap_across;
    }
    __device__ const T* at(unsigned c, int term) const { return w + (term + static_cast<int>(c)); }
};

/// y = x convolved with w; part g is group g.
template <class T, int Width> struct ConvProduct {
    const T *x, *w;
    PixelGather gather;
    unsigned rows, channels, filters, terms; ///< outputs; channels, filters and terms of a group
    View<T, 3> moments;                      ///< of y, for a convolution without bias, or none
    Output<T> output;

    __device__ auto part(unsigned g) const {
        return ProductPart<T, PixelRows<T, Width>, StridedRows<T, true, Width>, RowOffset>{
            {x + g * channels, gather},         {w + Index(g) * filters * terms, Index(terms), 1}, rows, filters, terms,
            {Index(g) * filters, output.pitch}, output.bias ? output.bias + g * filters : nullptr};
    }
};

/// dx of dy and w; part p * groups + g is group g of phase p.
template <class T, int Width> struct ConvDataProduct {
    static constexpr int most_phases = 4; ///< of a launch: all of stride 2
    const T *dy, *w;
    ConvPhase phases[most_phases];
    unsigned groups, channels, filters; ///< channels and filters of a group
    int height, width, stride, filter;  ///< extents of dx; elements of a filter
    Output<T> output;

    __device__ auto part(unsigned index) const {
        const unsigned g = index % groups;
        const ConvPhase& phase = phases[index / groups];
        const PixelGather& gather = phase.gather;
        return ProductPart<T, PixelRows<T, Width>, ChannelRows<T, Width>, PhaseOffset>{
            {dy + g * filters, gather},
            {w + (Index(g) * filters * filter + phase.first_tap), gather.line_taps, gather.tap_channels, filter,
             phase.filter_down, phase.filter_across},
            phase.rows,
            channels,
            phase.terms,
            {gather.image_pixels, gather.line_pixels, height, width, stride, phase.down, phase.across,
             Index(g) * channels, output.pitch},
            nullptr};
    }
};

/// dw of x and dy: rows are filters, columns taps and channels, terms outputs; part g is group g.
template <class T, int Width> struct ConvWeightProduct {
    const T *x, *dy;
    PixelGather gather;
    unsigned channels, filters, columns, terms; ///< of a group
    Index pitch;                                ///< channels of dy
    Output<T> output;

    __device__ auto part(unsigned g) const {
        return ProductPart<T, StridedRows<T, false, Width>, TapRows<T, Width>, RowOffset>{
            {dy + g * filters, 1, pitch},
            {x + g * channels, gather},
            filters,
            columns,
            terms,
            {Index(g) * filters * output.pitch, output.pitch},
            nullptr};
    }
};

} // namespace kernels

namespace detail {

/// Calls `f.operator()<4>()` if all these maps and filters can be read in aligned quads of channels, else `<1>`.
template <class F, class... T>
void with_width(const F& f, Index channels, Index filters, const View<const T, 4>&... maps) {
    const bool quads = channels % 4 == 0 && filters % 4 == 0 &&
                       ((reinterpret_cast<std::uintptr_t>(maps.data()) % sizeof(kernels::Quad<T>) == 0) && ...);
    quads ? f.template operator()<4>() : f.template operator()<1>();
}

} // namespace detail

namespace kernels {

/// Plan of `conv2d`, for all groups.
template <class T>
ProductPlan conv2d_plan(Cuda, View<const T, 4> x, View<const T, 4> w, const Conv2dOptions& o, View<const T, 4> y) {
    ProductPlan plan = product_plan(y.size(0) * y.size(1) * y.size(2), w.size(0) / o.groups,
                                    w.size(1) * w.size(2) * w.size(3), o.groups, y.size());
    if (in_bf16<T>(plan)) plan.copies = bf16_copies(x, w.size(3)) + bf16_copies(w, w.size(3));
    return plan;
}
/// y = x convolved with w, plus b unless that is empty. Where `moments` [2,moment_tiles(N*P*Q),K] are not empty, theirs
/// is y: of a plan without splits, and without b.
template <class T>
void conv2d(Cuda on, const ProductPlan& plan, View<const T, 4> x, View<const T, 4> w, View<const T, 1> b,
            const Conv2dOptions& o, View<T, 3> moments, View<T, 1> scratch, View<T, 4> y) {
    if constexpr (std::is_same_v<T, float>)
        if (in_bf16<T>(plan)) return conv2d_bf16(on, plan, x, w, b, o, moments, scratch, y);
    const auto run = [&]<int Width>() {
        const ConvProduct<T, Width> product{x.data(),
                                            w.data(),
                                            detail::conv_gather(x, w, o, View<const T, 4>(y)),
                                            static_cast<unsigned>(plan.rows),
                                            static_cast<unsigned>(w.size(3)),
                                            static_cast<unsigned>(plan.columns),
                                            static_cast<unsigned>(w.size(1) * w.size(2) * w.size(3)),
                                            moments,
                                            {}};
        multiply_rounded(on, plan, product, y.data(), y.size(3), y.size(3), b.size() ? b.data() : nullptr, false,
                         scratch.data());
    };
    detail::with_width(run, w.size(3), 4, x, w);
}

/// Plan of `conv2d_data_gradient`, for all groups.
template <class T>
ProductPlan conv2d_data_gradient_plan(Cuda, View<const T, 4> dy, View<const T, 4> w, const Conv2dOptions& o,
                                      View<const T, 4> dx) {
    const auto per_phase = [&](Index extent) { return (extent + o.stride - 1) / o.stride; };
    const Index terms = per_phase(w.size(1)) * per_phase(w.size(2)) * w.size(0) / o.groups;
    const Index rows = dx.size(0) * per_phase(dx.size(1)) * per_phase(dx.size(2));
    // Phases of several launches are not added up from ranges, which would have to wait for the last of them.
    ProductPlan plan =
        product_plan(rows, w.size(3), o.stride > 2 ? 0 : terms, o.groups * o.stride * o.stride, dx.size());
    if (in_bf16<T>(plan))
        plan.copies = bf16_copies(dy, w.size(0) / o.groups) +
                      dx.size(3) * w.size(1) * w.size(2) * in_chunks(w.size(0) / o.groups) / 2;
    return plan;
}
/// dx[n,h,w,c] = sum over the outputs p, q and taps r, s that read pixel h, w, and over k, of dy[n,p,q,k] * w[k,r,s,c],
/// or this added to what is there.
template <class T>
void conv2d_data_gradient(Cuda on, const ProductPlan& plan, View<const T, 4> dy, View<const T, 4> w,
                          const Conv2dOptions& o, bool adds, View<T, 1> scratch, View<T, 4> dx) {
    if constexpr (std::is_same_v<T, float>)
        if (in_bf16<T>(plan)) return conv2d_bf16_data_gradient(on, plan, dy, w, o, adds, scratch, dx);
    const auto run = [&]<int Width>() {
        using Product = ConvDataProduct<T, Width>;
        Product product{dy.data(),
                        w.data(),
                        {},
                        static_cast<unsigned>(o.groups),
                        static_cast<unsigned>(w.size(3)),
                        static_cast<unsigned>(w.size(0) / o.groups),
                        static_cast<int>(dx.size(1)),
                        static_cast<int>(dx.size(2)),
                        static_cast<int>(o.stride),
                        static_cast<int>(w.size(1) * w.size(2) * w.size(3)),
                        {}};
        detail::each_phases(product, dy, w, dx, o, [&](Index phases) {
            ProductPlan some = plan;
            some.parts = phases * o.groups;
            multiply_rounded(on, some, product, dx.data(), dx.size(3), dx.size(3), static_cast<const T*>(nullptr), adds,
                             scratch.data());
        });
    };
    detail::with_width(run, w.size(3), w.size(0) / o.groups, dy, w);
}

/// Plan of `conv2d_weight_gradient`, for all groups.
template <class T>
ProductPlan conv2d_weight_gradient_plan(Cuda, View<const T, 4> x, View<const T, 4> dy, const Conv2dOptions& o,
                                        View<const T, 4> dw) {
    ProductPlan plan = product_plan(dw.size(0) / o.groups, dw.size(1) * dw.size(2) * dw.size(3),
                                    dy.size(0) * dy.size(1) * dy.size(2), o.groups, dw.size());
    if (in_bf16<T>(plan)) plan.copies = bf16_copies(x, dw.size(3)) + bf16_copies(dy, dw.size(0) / o.groups);
    return plan;
}
/// dw[k,r,s,c] = sum over n,p,q of dy[n,p,q,k] * x[n, p*stride + r*dilation - padding, ..., c].
template <class T>
void conv2d_weight_gradient(Cuda on, const ProductPlan& plan, View<const T, 4> x, View<const T, 4> dy,
                            const Conv2dOptions& o, View<T, 1> scratch, View<T, 4> dw) {
    if constexpr (std::is_same_v<T, float>)
        if (in_bf16<T>(plan)) return conv2d_bf16_weight_gradient(on, plan, x, dy, o, scratch, dw);
    const auto run = [&]<int Width>() {
        const ConvWeightProduct<T, Width> product{x.data(),
                                                  dy.data(),
                                                  detail::conv_gather(x, View<const T, 4>(dw), o, dy),
                                                  static_cast<unsigned>(dw.size(3)),
                                                  static_cast<unsigned>(plan.rows),
                                                  static_cast<unsigned>(plan.columns),
                                                  static_cast<unsigned>(dy.size(0) * dy.size(1) * dy.size(2)),
                                                  dy.size(3),
                                                  {}};
        multiply_rounded(on, plan, product, dw.data(), plan.columns, plan.columns, static_cast<const T*>(nullptr),
                         false, scratch.data());
    };
    detail::with_width(run, dw.size(3), dw.size(0) / o.groups, x, dy);
}

// One thread an output, of any group. fma, not what a compiler makes of a product and a sum, so that a term is added
// alike wherever it stands.
template <class T>
__global__ void conv2d_fixed_order_kernel(View<const T, 4> x, View<const T, 4> w, View<const T, 1> b, Conv2dOptions o,
                                          View<T, 4> y) {
    const Index i = global_thread();
    if (i >= y.size()) return;
    const Index k = i % y.size(3), q = i / y.size(3) % y.size(2), p = i / (y.size(3) * y.size(2)) % y.size(1);
    const Index n = i / (y.size(3) * y.size(2) * y.size(1)), first = k / (y.size(3) / o.groups) * w.size(3);
    T sum = 0;
    for (Index r = 0; r < w.size(1); ++r) {
        const Index h = p * o.stride + r * o.dilation - o.padding;
        if (h < 0 || h >= x.size(1)) continue;
        for (Index s = 0; s < w.size(2); ++s) {
            const Index v = q * o.stride + s * o.dilation - o.padding;
            if (v < 0 || v >= x.size(2)) continue;
            const T *const pixel = x.at(n, h, v, first), *const tap = w.at(k, r, s);
            for (Index c = 0; c < w.size(3); ++c) sum = std::fma(pixel[c], tap[c], sum);
        }
    }
    if (b.size()) sum += b(k);
    y(n, p, q, k) = sum;
}
/// As on the CPU, for all groups and without scratch.
template <class T>
void conv2d_fixed_order(Cuda on, View<const T, 4> x, View<const T, 4> w, View<const T, 1> b, const Conv2dOptions& o,
                        View<T, 4> y) {
    launch(on.stream, elements(y.size()), conv2d_fixed_order_kernel<T>, x, w, b, o, y);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
