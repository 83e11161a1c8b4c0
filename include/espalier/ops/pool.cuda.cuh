#pragma once

#include <espalier/cuda/channels.cuh>
#include <espalier/ops/pool_window.hpp>
#include <espalier/tensor/view.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// Windows of a map of H x W with P x Q results, in numbers that divide fast.
struct PoolMap {
    int R, S, stride, padding, H, W, P, Q;
    Index channels;

    PoolMap(const kernels::PoolWindow& window, Index height, Index width, Index rows, Index columns, Index C)
        : R(static_cast<int>(window.R)), S(static_cast<int>(window.S)), stride(static_cast<int>(window.stride)),
          padding(static_cast<int>(window.padding)), H(static_cast<int>(height)), W(static_cast<int>(width)),
          P(static_cast<int>(rows)), Q(static_cast<int>(columns)), channels(C) {}

    /// Calls `tap(element of x, number)` for each tap of result number m that lies in the map, in order of number.
    template <class Tap> __device__ void taps(Index m, Index c, const Tap& tap) const {
        const kernels::Pixel at = kernels::pixel_at(m, P, Q);
        const int h0 = static_cast<int>(at.h) * stride - padding, w0 = static_cast<int>(at.w) * stride - padding;
        const int r1 = R < H - h0 ? R : H - h0, s1 = S < W - w0 ? S : W - w0;
        for (int r = h0 < 0 ? -h0 : 0; r < r1; ++r)
            for (int s = w0 < 0 ? -w0 : 0; s < s1; ++s)
                tap(((at.n * H + h0 + r) * W + w0 + s) * channels + c, r * S + s);
    }
    /// Calls `window(element of dy, number)` for each window that pixel number m is tap `number` of, in order.
    template <class Window> __device__ void windows(Index m, Index c, const Window& window) const {
        const kernels::Pixel at = kernels::pixel_at(m, H, W);
        const int h = static_cast<int>(at.h) + padding, w = static_cast<int>(at.w) + padding;
        const int p1 = h / stride + 1 < P ? h / stride + 1 : P, q1 = w / stride + 1 < Q ? w / stride + 1 : Q;
        for (int p = h < R ? 0 : (h - R) / stride + 1; p < p1; ++p)
            for (int q = w < S ? 0 : (w - S) / stride + 1; q < q1; ++q)
                window(((at.n * P + p) * Q + q) * channels + c, (h - p * stride) * S + w - q * stride);
    }
};

// What `map_channels` does with a channel, as on the CPU: a thread makes elements of y, or gathers those of dx.
template <class T> struct MaxPool {
    PoolMap map;
    const T* x;
    std::int32_t* arg;
    struct Channel {
        const MaxPool& pool;
        Index c;
        __device__ T operator()(Index m, Index e) const {
            T best = 0;
            std::int32_t first = -1;
            pool.map.taps(m, c, [&, x = pool.x](Index from, int number) {
                const T v = x[from];
                if (first >= 0 && !(v > best || (v != v && best == best))) return; // the first NaN wins and stays
                best = v;
                first = number;
            });
            pool.arg[e] = first;
            return best;
        }
    };
    __device__ Channel channel(Index c) const { return {*this, c}; }
};
template <class T> struct AvgPool {
    PoolMap map;
    const T* x;
    struct Channel {
        const AvgPool& pool;
        Index c;
        __device__ T operator()(Index m, Index) const {
            T sum = 0;
            pool.map.taps(m, c, [&, x = pool.x](Index from, int) { sum += x[from]; });
            return sum / static_cast<T>(pool.map.R * pool.map.S);
        }
    };
    __device__ Channel channel(Index c) const { return {*this, c}; }
};
template <class T> struct MaxPoolBackward {
    PoolMap map;
    const T* dy;
    const std::int32_t* arg;
    struct Channel {
        const MaxPoolBackward& pool;
        Index c;
        __device__ T operator()(Index m, Index) const {
            T sum = 0;
            pool.map.windows(m, c, [&, dy = pool.dy, arg = pool.arg](Index from, int number) {
                if (arg[from] == number) sum += dy[from];
            });
            return sum;
        }
    };
    __device__ Channel channel(Index c) const { return {*this, c}; }
};
template <class T> struct AvgPoolBackward {
    PoolMap map;
    const T* dy;
    struct Channel {
        const AvgPoolBackward& pool;
        Index c;
        __device__ T operator()(Index m, Index) const {
            T sum = 0;
            const T area = static_cast<T>(pool.map.R * pool.map.S);
            pool.map.windows(m, c, [&, dy = pool.dy](Index from, int) { sum += dy[from] / area; });
            return sum;
        }
    };
    __device__ Channel channel(Index c) const { return {*this, c}; }
};

template <class X, class Y> PoolMap pool_map(const kernels::PoolWindow& window, const X& x, const Y& y) {
    return {window, x.size(1), x.size(2), y.size(1), y.size(2), x.size(3)};
}

} // namespace detail

namespace kernels {

/// As on the CPU.
/// @{
template <class T>
void max_pool2d(Cuda on, const PoolWindow& window, View<const T, 4> x, View<T, 4> y, View<std::int32_t, 4> arg) {
    map_channels(on, detail::MaxPool<T>{detail::pool_map(window, x, y), x.data(), arg.data()},
                 y.size(0) * y.size(1) * y.size(2), y.size(3), y.data());
}
template <class T> void avg_pool2d(Cuda on, const PoolWindow& window, View<const T, 4> x, View<T, 4> y) {
    map_channels(on, detail::AvgPool<T>{detail::pool_map(window, x, y), x.data()}, y.size(0) * y.size(1) * y.size(2),
                 y.size(3), y.data());
}
template <class T>
void max_pool2d_backward(Cuda on, const PoolWindow& window, View<const T, 4> dy, View<const std::int32_t, 4> arg,
                         View<T, 4> dx) {
    map_channels(on, detail::MaxPoolBackward<T>{detail::pool_map(window, dx, dy), dy.data(), arg.data()},
                 dx.size(0) * dx.size(1) * dx.size(2), dx.size(3), dx.data());
}
template <class T> void avg_pool2d_backward(Cuda on, const PoolWindow& window, View<const T, 4> dy, View<T, 4> dx) {
    map_channels(on, detail::AvgPoolBackward<T>{detail::pool_map(window, dx, dy), dy.data()},
                 dx.size(0) * dx.size(1) * dx.size(2), dx.size(3), dx.data());
}
/// @}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
