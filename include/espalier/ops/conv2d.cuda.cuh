#pragma once

#include <espalier/cuda/tensor_product.cuh>
#include <espalier/ops/conv2d_options.hpp>
#include <espalier/tensor/view.hpp>

#include <cmath>
#include <cstdint>
#include <numeric>

// Convolutions as products whose operands are gathered while they are read: y = x convolved with w is a product with a
// row for each output pixel, a column for each filter and a term for each tap and channel; the gradients likewise. No
// unfolded map is ever written. x [N,H,W,C], w [K,R,S,C/groups], y [N,P,Q,K], all dense; every pass does all groups.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Which pixel of a map a tap of an output reads: along each axis first + scale * output + tap_step * tap.
struct PixelGather {
    Divider image_pixels, line_pixels; ///< outputs of an image, and of a line of it
    Divider line_taps, tap_channels;   ///< taps of a line of the filter, and channels of a tap
    Index image;                       ///< elements of an image of the map
    int height, width, pitch;          ///< extents of the map, all its channels
    int scale;                         ///< pixels of the map from output to output
    int first_down, first_across;      ///< pixel that tap 0 of output 0 reads
    int tap_down, tap_across;          ///< pixels of the map from tap to tap

    /// What an output's taps have in common: the pixel that tap 0 reads, which may be outside.
    struct Pixel {
        Index offset; ///< of that pixel's first channel
        int h, v;     ///< where it is
    };
    /// What a tap and channel adds to that.
    struct Tap {
        int offset, h, v; ///< as of Pixel
    };
    __device__ Pixel pixel(unsigned i) const {
        const auto [n, rest] = image_pixels(i);
        const auto [p, q] = line_pixels(rest);
        const int h = static_cast<int>(p) * scale + first_down, v = static_cast<int>(q) * scale + first_across;
        return {n * image + Index(h * width + v) * pitch, h, v};
    }
    __device__ Tap tap(unsigned t) const {
        const auto [place, c] = tap_channels(t);
        const auto [i, j] = line_taps(place);
        const int h = static_cast<int>(i) * tap_down, v = static_cast<int>(j) * tap_across;
        return {(h * width + v) * pitch + static_cast<int>(c), h, v};
    }
    /// Null if the pixel is outside of the map.
    template <class T> __device__ const T* at(const T* map, const Pixel& pixel, const Tap& tap) const {
        const bool inside = static_cast<unsigned>(pixel.h + tap.h) < static_cast<unsigned>(height) &&
                            static_cast<unsigned>(pixel.v + tap.v) < static_cast<unsigned>(width);
        return inside ? map + (pixel.offset + tap.offset) : nullptr;
    }
};

/// An operand with a row for each output and a term for each tap and channel.
template <class T, int Width> struct PixelRows {
    static constexpr bool along_terms = true;
    static constexpr int width = Width;
    const T* map;
    PixelGather gather;
    __device__ auto row(unsigned i) const { return gather.pixel(i); }
    __device__ auto term(unsigned t) const { return gather.tap(t); }
    __device__ const T* at(const PixelGather::Pixel& pixel, const PixelGather::Tap& tap) const {
        return gather.at(map, pixel, tap);
    }
};
/// The same turned: a row for each tap and channel, a term for each output.
template <class T, int Width> struct TapRows {
    static constexpr bool along_terms = false;
    static constexpr int width = Width;
    const T* map;
    PixelGather gather;
    __device__ auto row(unsigned i) const { return gather.tap(i); }
    __device__ auto term(unsigned t) const { return gather.pixel(t); }
    __device__ const T* at(const PixelGather::Tap& tap, const PixelGather::Pixel& pixel) const {
        return gather.at(map, pixel, tap);
    }
};
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

/// Where a phase's pixel is in the map whose gradient is computed.
struct PhaseOffset {
    Divider image_pixels, line_pixels;
    int height, width, stride, down, across;
    Index first, pitch;
    __device__ Index operator()(unsigned i) const {
        const auto [n, rest] = image_pixels(i);
        const auto [p, q] = line_pixels(rest);
        return first + ((Index(n) * height + (down + static_cast<int>(p) * stride)) * width + across +
                        static_cast<int>(q) * stride) *
                           pitch;
    }
};

/// The data's gradient of pixels with the same h mod stride and w mod stride, which the same taps reach.
struct ConvPhase {
    PixelGather gather;             ///< of dy
    unsigned rows, terms;           ///< pixels, taps times filters
    int down, across;               ///< first pixel
    int first_tap;                  ///< where it is in a filter
    int filter_down, filter_across; ///< elements of a filter from tap to tap
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

/// How the outputs y of a convolution read x.
template <class T>
kernels::PixelGather conv_gather(View<const T, 4> x, View<const T, 4> w, const Conv2dOptions& o, View<const T, 4> y) {
    const int padding = static_cast<int>(o.padding), dilation = static_cast<int>(o.dilation);
    return {kernels::Divider(y.size(1) * y.size(2)),
            kernels::Divider(y.size(2)),
            kernels::Divider(w.size(2)),
            kernels::Divider(std::max<Index>(1, w.size(3))),
            x.stride(0),
            static_cast<int>(x.size(1)),
            static_cast<int>(x.size(2)),
            static_cast<int>(x.size(3)),
            static_cast<int>(o.stride),
            -padding,
            -padding,
            dilation,
            dilation};
}

/// A phase of the data's gradient along one axis. Pixel h = p * stride + r * dilation - padding; of the pixels
/// h = first + i * stride, i < extent, taps r = tap + j * tap_step, j < taps, read p = i + shift + j * shift_step.
struct AxisPhase {
    Index first, extent, tap, tap_step, taps, shift, shift_step;
};
inline AxisPhase axis_phase(Index first, Index extent, Index taps, const Conv2dOptions& o) {
    const Index step = o.stride / std::gcd(o.stride, o.dilation);
    Index tap = 0;
    while (tap < std::min(step, taps) && (first + o.padding - tap * o.dilation) % o.stride != 0) ++tap;
    const Index count = tap < std::min(step, taps) ? (taps - tap + step - 1) / step : 0;
    return {first,
            extent > first ? (extent - first + o.stride - 1) / o.stride : 0,
            tap,
            step,
            count,
            count ? (first + o.padding - tap * o.dilation) / o.stride : 0,
            -step * o.dilation / o.stride};
}

/// How the pixels of one phase of dx read dy and w.
template <class T>
kernels::ConvPhase conv_phase(const AxisPhase& down, const AxisPhase& across, View<const T, 4> dy, View<const T, 4> w,
                              View<const T, 4> dx, Index groups) {
    const Index filters = dy.size(3) / groups, channels = w.size(3);
    const kernels::PixelGather gather{kernels::Divider(down.extent * across.extent),
                                      kernels::Divider(across.extent),
                                      kernels::Divider(std::max<Index>(1, across.taps)),
                                      kernels::Divider(std::max<Index>(1, filters)),
                                      dy.stride(0),
                                      static_cast<int>(dy.size(1)),
                                      static_cast<int>(dy.size(2)),
                                      static_cast<int>(dy.size(3)),
                                      1,
                                      static_cast<int>(down.shift),
                                      static_cast<int>(across.shift),
                                      static_cast<int>(down.shift_step),
                                      static_cast<int>(across.shift_step)};
    return {gather,
            static_cast<unsigned>(dx.size(0) * down.extent * across.extent),
            static_cast<unsigned>(down.taps * across.taps * filters),
            static_cast<int>(down.first),
            static_cast<int>(across.first),
            static_cast<int>((down.tap * w.size(2) + across.tap) * channels),
            static_cast<int>(down.tap_step * w.size(2) * channels),
            static_cast<int>(across.tap_step * channels)};
}

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
template <class T> ProductPlan conv2d_plan(Cuda, View<const T, 4> w, const Conv2dOptions& o, View<const T, 4> y) {
    return product_plan(y.size(0) * y.size(1) * y.size(2), w.size(0) / o.groups, w.size(1) * w.size(2) * w.size(3),
                        o.groups, y.size());
}
/// y = x convolved with w, plus b unless that is empty. Where `moments` [2,moment_tiles(N*P*Q),K] are not empty, theirs
/// is y: of a plan without splits, and without b.
template <class T>
void conv2d(Cuda on, const ProductPlan& plan, View<const T, 4> x, View<const T, 4> w, View<const T, 1> b,
            const Conv2dOptions& o, View<T, 3> moments, View<T, 1> scratch, View<T, 4> y) {
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
ProductPlan conv2d_data_gradient_plan(Cuda, View<const T, 4> w, const Conv2dOptions& o, View<const T, 4> dx) {
    const auto per_phase = [&](Index extent) { return (extent + o.stride - 1) / o.stride; };
    const Index terms = per_phase(w.size(1)) * per_phase(w.size(2)) * w.size(0) / o.groups;
    const Index rows = dx.size(0) * per_phase(dx.size(1)) * per_phase(dx.size(2));
    // Phases of several launches are not added up from ranges, which would have to wait for the last of them.
    return product_plan(rows, w.size(3), o.stride > 2 ? 0 : terms, o.groups * o.stride * o.stride, dx.size());
}
/// dx[n,h,w,c] = sum over the outputs p, q and taps r, s that read pixel h, w, and over k, of dy[n,p,q,k] * w[k,r,s,c],
/// or this added to what is there.
template <class T>
void conv2d_data_gradient(Cuda on, const ProductPlan& plan, View<const T, 4> dy, View<const T, 4> w,
                          const Conv2dOptions& o, bool adds, View<T, 1> scratch, View<T, 4> dx) {
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
        int count = 0;
        const auto flush = [&] {
            ProductPlan some = plan;
            some.parts = count * o.groups;
            multiply_rounded(on, some, product, dx.data(), dx.size(3), dx.size(3), static_cast<const T*>(nullptr), adds,
                             scratch.data());
            count = 0;
        };
        for (Index a = 0; a < std::min(o.stride, dx.size(1)); ++a)
            for (Index b = 0; b < std::min(o.stride, dx.size(2)); ++b) {
                product.phases[count++] = detail::conv_phase(detail::axis_phase(a, dx.size(1), w.size(1), o),
                                                             detail::axis_phase(b, dx.size(2), w.size(2), o), dy, w,
                                                             View<const T, 4>(dx), o.groups);
                if (count == Product::most_phases) flush();
            }
        if (count > 0) flush();
    };
    detail::with_width(run, w.size(3), w.size(0) / o.groups, dy, w);
}

/// Plan of `conv2d_weight_gradient`, for all groups.
template <class T>
ProductPlan conv2d_weight_gradient_plan(Cuda, View<const T, 4> dy, const Conv2dOptions& o, View<const T, 4> dw) {
    return product_plan(dw.size(0) / o.groups, dw.size(1) * dw.size(2) * dw.size(3),
                        dy.size(0) * dy.size(1) * dy.size(2), o.groups, dw.size());
}
/// dw[k,r,s,c] = sum over n,p,q of dy[n,p,q,k] * x[n, p*stride + r*dilation - padding, ..., c].
template <class T>
void conv2d_weight_gradient(Cuda on, const ProductPlan& plan, View<const T, 4> x, View<const T, 4> dy,
                            const Conv2dOptions& o, View<T, 1> scratch, View<T, 4> dw) {
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
