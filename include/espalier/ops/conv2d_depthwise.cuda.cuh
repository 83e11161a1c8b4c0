#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/cuda/divider.cuh>
#include <espalier/ops/conv2d_options.hpp>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/view.hpp>

#include <algorithm>

// Depthwise convolution on a GPU, as in conv2d_depthwise.cpu.hpp: x [N,H,W,C], w [C,R,S,1], y [N,P,Q,C], taps [R,S,C].
// A block is 32 x 8 threads: 32 channels side by side, of 8 pixels or lines.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// How a depthwise kernel finds the pixel of its thread, and the outputs that read it.
struct DepthwiseSteps {
    Divider image_pixels, line_pixels, stride; ///< pixels of an image and of a line of the map that is written
    unsigned pixels;                           ///< of that map, all images
};

// One thread an element of taps.
template <class T> __global__ void depthwise_taps_kernel(View<const T, 4> w, View<T, 3> taps) {
    const Index i = global_thread(), C = taps.size(2);
    if (i < taps.size()) taps.data()[i] = w.data()[i % C * (taps.size(0) * taps.size(1)) + i / C];
}

// One thread an output: channel 32 * blockIdx.y + threadIdx.x of pixel 8 * blockIdx.x + threadIdx.y.
template <class T>
__global__ void conv2d_depthwise_kernel(View<const T, 4> x, View<const T, 3> taps, View<const T, 1> b, Conv2dOptions o,
                                        DepthwiseSteps steps, View<T, 4> y) {
    const unsigned pixel = blockIdx.x * 8 + threadIdx.y, c = blockIdx.y * 32 + threadIdx.x;
    if (pixel >= steps.pixels || c >= y.size(3)) return;
    const auto [n, rest] = steps.image_pixels(pixel);
    const auto [p, q] = steps.line_pixels(rest);
    const int stride = static_cast<int>(o.stride), dilation = static_cast<int>(o.dilation);
    const int top = static_cast<int>(p) * stride - static_cast<int>(o.padding);
    const int left = static_cast<int>(q) * stride - static_cast<int>(o.padding);
    const int R = static_cast<int>(taps.size(0)), S = static_cast<int>(taps.size(1));
    T sum = 0;
    for (int r = 0; r < R; ++r) {
        const int h = top + r * dilation;
        if (h < 0 || h >= x.size(1)) continue;
        for (int s = 0; s < S; ++s) {
            const int v = left + s * dilation;
            if (v >= 0 && v < x.size(2)) sum += *x.at(n, h, v, c) * *taps.at(r, s, c);
        }
    }
    if (b.size()) sum += b(c);
    y.data()[pixel * y.size(3) + c] = sum;
}

// One thread an element of dx, as above.
template <class T>
__global__ void conv2d_depthwise_data_gradient_kernel(View<const T, 4> dy, View<const T, 3> taps, Conv2dOptions o,
                                                      DepthwiseSteps steps, bool adds, View<T, 4> dx) {
    const unsigned pixel = blockIdx.x * 8 + threadIdx.y, c = blockIdx.y * 32 + threadIdx.x;
    if (pixel >= steps.pixels || c >= dx.size(3)) return;
    const auto [n, rest] = steps.image_pixels(pixel);
    const auto [h, v] = steps.line_pixels(rest);
    const int dilation = static_cast<int>(o.dilation), padding = static_cast<int>(o.padding);
    const int R = static_cast<int>(taps.size(0)), S = static_cast<int>(taps.size(1));
    T sum = 0;
    for (int r = 0; r < R; ++r) {
        const int down = static_cast<int>(h) + padding - r * dilation;
        if (down < 0) continue;
        const auto [p, past_p] = steps.stride(static_cast<unsigned>(down));
        if (past_p || p >= dy.size(1)) continue;
        for (int s = 0; s < S; ++s) {
            const int across = static_cast<int>(v) + padding - s * dilation;
            if (across < 0) continue;
            const auto [q, past_q] = steps.stride(static_cast<unsigned>(across));
            if (past_q || q >= dy.size(2)) continue;
            sum += *dy.at(n, p, q, c) * *taps.at(r, s, c);
        }
    }
    T& to = dx.data()[pixel * dx.size(3) + c];
    to = adds ? to + sum : sum;
}

// A block takes 32 channels, tap blockIdx.y and a range of lines n, p (blockIdx.z of gridDim.z): thread (c, i) adds
// every eighth line from i on, then thread (c, 0) the eight sums in order, to partial [ranges, taps, C]. Shared memory:
// 1 KiB for floats.
template <class T>
__global__ void conv2d_depthwise_weight_gradient_kernel(View<const T, 4> x, View<const T, 4> dy, Conv2dOptions o,
                                                        unsigned columns, Divider image_lines, unsigned lines,
                                                        T* partial) {
    __shared__ T sums[8][32];
    const unsigned c = blockIdx.x * 32 + threadIdx.x, range = (lines + gridDim.z - 1) / gridDim.z;
    const unsigned first = blockIdx.z * range, last = first + range < lines ? first + range : lines;
    const int stride = static_cast<int>(o.stride), dilation = static_cast<int>(o.dilation);
    const int down = static_cast<int>(blockIdx.y / columns) * dilation - static_cast<int>(o.padding);
    const int across = static_cast<int>(blockIdx.y % columns) * dilation - static_cast<int>(o.padding);
    const int Q = static_cast<int>(dy.size(2));
    T sum = 0;
    if (c < x.size(3))
        for (unsigned line = first + threadIdx.y; line < last; line += 8) {
            const auto [n, p] = image_lines(line);
            const int h = static_cast<int>(p) * stride + down;
            if (h < 0 || h >= x.size(1)) continue;
            for (int q = 0; q < Q; ++q) {
                const int v = q * stride + across;
                if (v >= 0 && v < x.size(2)) sum += *x.at(n, h, v, c) * *dy.at(n, p, q, c);
            }
        }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || c >= x.size(3)) return;
    for (int i = 1; i < 8; ++i) sum += sums[i][threadIdx.x];
    partial[(Index(blockIdx.z) * gridDim.y + blockIdx.y) * x.size(3) + c] = sum;
}
// One thread an element of dw, tap by tap: adds the ranges in order.
template <class T>
__global__ void depthwise_ranges_kernel(const T* partial, unsigned ranges, unsigned taps, unsigned channels, T* dw) {
    const auto i = static_cast<unsigned>(global_thread());
    if (i >= taps * channels) return;
    T sum = 0;
    for (unsigned range = 0; range < ranges; ++range) sum += partial[Index(range) * taps * channels + i];
    dw[i % channels * taps + i / channels] = sum;
}

/// As on the CPU.
template <class T> void depthwise_taps(Cuda on, View<const T, 4> w, View<T, 3> taps) {
    launch(on.stream, elements(taps.size()), depthwise_taps_kernel<T>, w, taps);
}

} // namespace kernels

namespace detail {
template <class T> kernels::DepthwiseSteps depthwise_steps(View<T, 4> written, const Conv2dOptions& o) {
    return {kernels::Divider(written.size(1) * written.size(2)), kernels::Divider(written.size(2)),
            kernels::Divider(o.stride), static_cast<unsigned>(written.size(0) * written.size(1) * written.size(2))};
}
template <class T> kernels::Grid depthwise_grid(View<T, 4> written) {
    const Index pixels = written.size(0) * written.size(1) * written.size(2);
    return {{static_cast<unsigned>((pixels + 7) / 8), static_cast<unsigned>((written.size(3) + 31) / 32)}, {32, 8}};
}
/// Ranges of lines that are summed apart: enough blocks for a large GPU, at least 8 lines for each of 8 threads.
template <class T> Index depthwise_ranges(View<const T, 4> dy, Index taps) {
    const Index blocks = (dy.size(3) + 31) / 32 * taps;
    return std::max<Index>(1, std::min({(264 + blocks - 1) / blocks, dy.size(0) * dy.size(1) / 64, Index(128)}));
}
} // namespace detail

namespace kernels {

/// As on the CPU.
template <class T>
void conv2d_depthwise(Cuda on, View<const T, 4> x, View<const T, 3> taps, View<const T, 1> b, const Conv2dOptions& o,
                      View<T, 4> y) {
    launch(on.stream, detail::depthwise_grid(y), conv2d_depthwise_kernel<T>, x, taps, b, o,
           detail::depthwise_steps(y, o), y);
}
/// As on the CPU, or added to what is there.
template <class T>
void conv2d_depthwise_data_gradient(Cuda on, View<const T, 4> dy, View<const T, 3> taps, const Conv2dOptions& o,
                                    bool adds, View<T, 4> dx) {
    launch(on.stream, detail::depthwise_grid(dx), conv2d_depthwise_data_gradient_kernel<T>, dy, taps, o,
           detail::depthwise_steps(dx, o), adds, dx);
}
/// Elements of scratch that `conv2d_depthwise_weight_gradient` takes.
template <class T> Index conv2d_depthwise_weight_gradient_scratch(Cuda, View<const T, 4> dy, View<T, 4> dw) {
    return detail::depthwise_ranges(dy, dw.size(1) * dw.size(2)) * dw.size();
}
/// As on the CPU, but for the order of sums: ranges of lines.
template <class T>
void conv2d_depthwise_weight_gradient(Cuda on, View<const T, 4> x, View<const T, 4> dy, const Conv2dOptions& o,
                                      View<T, 1> scratch, View<T, 4> dw) {
    const auto taps = static_cast<unsigned>(dw.size(1) * dw.size(2)), channels = static_cast<unsigned>(x.size(3));
    const auto ranges = static_cast<unsigned>(detail::depthwise_ranges(dy, taps));
    launch(on.stream, {{(channels + 31) / 32, taps, ranges}, {32, 8}}, conv2d_depthwise_weight_gradient_kernel<T>, x,
           dy, o, static_cast<unsigned>(dw.size(2)), Divider(dy.size(1)),
           static_cast<unsigned>(dy.size(0) * dy.size(1)), scratch.data());
    launch(on.stream, elements(dw.size()), depthwise_ranges_kernel<T>, scratch.data(), ranges, taps, channels,
           dw.data());
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
