#pragma once

#include <espalier/cuda/divider.cuh>
#include <espalier/cuda/product.cuh>
#include <espalier/ops/conv2d_options.hpp>
#include <espalier/tensor/view.hpp>

#include <algorithm>
#include <numeric>
#include <utility>

// Operands of convolutions as products, gathered while they are read: y = x convolved with w is a product with a row
// for each output pixel, a column for each filter and a term for each tap and channel; the gradients likewise. No
// unfolded map is ever written. x [N,H,W,C], w [K,R,S,C/groups], y [N,P,Q,K], all dense; a product has a part for each
// group.

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

} // namespace kernels

namespace detail {

/// How the outputs y of a convolution read x.
template <class X, class W, class Y>
kernels::PixelGather conv_gather(View<X, 4> x, View<W, 4> w, const Conv2dOptions& o, View<Y, 4> y) {
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

/// How the pixels of one phase of dx read dy, and filters [*,R,S,*] from tap to tap.
template <class Dy, class W, class Dx>
kernels::ConvPhase conv_phase(const AxisPhase& down, const AxisPhase& across, View<Dy, 4> dy, View<W, 4> w,
                              View<Dx, 4> dx, Index groups) {
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

/// Fills `product.phases`, and calls `multiply(count)` when they are as many as it has room for, and at the end.
template <class Product, class Dy, class W, class Dx, class F>
void each_phases(Product& product, View<Dy, 4> dy, View<W, 4> w, View<Dx, 4> dx, const Conv2dOptions& o,
                 const F& multiply) {
    int count = 0;
    for (Index a = 0; a < std::min(o.stride, dx.size(1)); ++a)
        for (Index b = 0; b < std::min(o.stride, dx.size(2)); ++b) {
            product.phases[count++] = conv_phase(axis_phase(a, dx.size(1), w.size(1), o),
                                                 axis_phase(b, dx.size(2), w.size(2), o), dy, w, dx, o.groups);
            if (count == Product::most_phases) multiply(std::exchange(count, 0));
        }
    if (count > 0) multiply(count);
}

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
