#pragma once

#include <espalier/cuda/channels.cuh>
#include <espalier/ops/pool_window.hpp>
#include <espalier/tensor/view.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

// What `map_channels` does with a channel, as on the CPU: a thread makes elements of y, or gathers those of dx.
template <class T> struct AdaptivePool {
    View<const T, 4> x;
    Index P, Q;
    struct Channel {
        const AdaptivePool& pool;
        Index c;
        __device__ T operator()(Index m, Index) const {
            const kernels::Pixel at = kernels::pixel_at(m, pool.P, pool.Q);
            const kernels::AdaptiveWindow high(at.h, pool.P, pool.x.size(1)), wide(at.w, pool.Q, pool.x.size(2));
            T sum = 0;
            for (Index h = high.begin; h < high.end; ++h)
                for (Index w = wide.begin; w < wide.end; ++w) sum += pool.x(at.n, h, w, c);
            return sum / static_cast<T>(high.size() * wide.size());
        }
    };
    __device__ Channel channel(Index c) const { return {*this, c}; }
};
template <class T> struct AdaptivePoolBackward {
    View<const T, 4> dy;
    Index H, W;
    struct Channel {
        const AdaptivePoolBackward& pool;
        Index c;
        __device__ T operator()(Index m, Index) const {
            using Window = kernels::AdaptiveWindow;
            const Index height = pool.H, width = pool.W, P = pool.dy.size(1), Q = pool.dy.size(2);
            const kernels::Pixel at = kernels::pixel_at(m, height, width);
            const Window above(at.h, height, P), beside(at.w, width, Q);
            T sum = 0;
            for (Index p = above.begin; p < above.end; ++p)
                for (Index q = beside.begin; q < beside.end; ++q)
                    sum += pool.dy(at.n, p, q, c) /
                           static_cast<T>(Window(p, P, height).size() * Window(q, Q, width).size());
            return sum;
        }
    };
    __device__ Channel channel(Index c) const { return {*this, c}; }
};

} // namespace detail

namespace kernels {

/// As on the CPU.
/// @{
template <class T> void adaptive_avg_pool2d(Cuda on, View<const T, 4> x, View<T, 4> y) {
    map_channels(on, detail::AdaptivePool<T>{x, y.size(1), y.size(2)}, y.size(0) * y.size(1) * y.size(2), y.size(3),
                 y.data());
}
template <class T> void adaptive_avg_pool2d_backward(Cuda on, View<const T, 4> dy, View<T, 4> dx) {
    map_channels(on, detail::AdaptivePoolBackward<T>{dy, dx.size(1), dx.size(2)}, dx.size(0) * dx.size(1) * dx.size(2),
                 dx.size(3), dx.data());
}
/// @}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
