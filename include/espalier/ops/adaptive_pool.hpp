#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/ops/pool_window.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/adaptive_pool.cuda.cuh>
#endif

namespace espalier::inline ESPALIER_BACKEND {

namespace kernels {

/// y[n,p,q,c] = sum over the window / its pixels. A thread takes rows of windows.
template <class T> void adaptive_avg_pool2d(Cpu, View<const T, 4> x, View<T, 4> y) {
    const Index P = y.size(1), Q = y.size(2), C = y.size(3);
    parallel_for(y.size(0) * P, [&](Index row) {
        const Index n = row / P, p = row % P;
        const AdaptiveWindow high(p, P, x.size(1));
        for (Index q = 0; q < Q; ++q) {
            const AdaptiveWindow wide(q, Q, x.size(2));
            T* __restrict const sum = y.at(n, p, q);
            std::fill_n(sum, C, T(0));
            for (Index h = high.begin; h < high.end; ++h)
                for (Index w = wide.begin; w < wide.end; ++w) {
                    const T* __restrict const from = x.at(n, h, w);
                    for (Index c = 0; c < C; ++c) sum[c] += from[c];
                }
            const T area = static_cast<T>(high.size() * wide.size());
            for (Index c = 0; c < C; ++c) sum[c] /= area;
        }
    });
}

/// dx[n,h,w,c] = sum over the windows (p,q) that the pixel lies in of dy[n,p,q,c] / pixels of the window. A thread
/// takes rows of pixels.
template <class T> void adaptive_avg_pool2d_backward(Cpu, View<const T, 4> dy, View<T, 4> dx) {
    const Index H = dx.size(1), W = dx.size(2), C = dx.size(3), P = dy.size(1), Q = dy.size(2);
    parallel_for(dx.size(0) * H, [&](Index row) {
        const Index n = row / H, h = row % H;
        const AdaptiveWindow above(h, H, P);
        for (Index w = 0; w < W; ++w) {
            const AdaptiveWindow beside(w, W, Q);
            T* __restrict const to = dx.at(n, h, w);
            std::fill_n(to, C, T(0));
            for (Index p = above.begin; p < above.end; ++p)
                for (Index q = beside.begin; q < beside.end; ++q) {
                    const T* __restrict const from = dy.at(n, p, q);
                    const T area = static_cast<T>(AdaptiveWindow(p, P, H).size() * AdaptiveWindow(q, Q, W).size());
                    for (Index c = 0; c < C; ++c) to[c] += from[c] / area;
                }
        }
    });
}

} // namespace kernels

/// Averages a map of any height and width to `size` x `size` pixels.
///
/// x [N,H,W,C] -> y [N,size,size,C]: y[n,p,q,c] = mean of x over rows floor(p H / size) to ceil((p + 1) H / size) - 1
/// and columns likewise. Windows differ by a pixel and overlap where `size` does not divide H; a smaller map is
/// repeated. dx[n,h,w,c] = sum over the windows that the pixel lies in of dy[n,p,q,c] / pixels of the window.
/// @throws ShapeError if x is no map or has no pixels, or size < 1
template <class T> Var<T> adaptive_avg_pool2d(const Var<T>& x, Index size) {
    expect(x.rank() == 4 && x.size(1) > 0 && x.size(2) > 0 && size >= 1,
           "adaptive_avg_pool2d: expected x [N,H,W,C] with H and W of at least 1 and a size of at least 1, got ",
           x.shape(), " and ", size);
    Tensor<T> y({x.size(0), size, size, x.size(3)}, x.device());
    dispatch(x.device(), [&](auto on) { kernels::adaptive_avg_pool2d(on, view<4>(x.value()), mutable_view<4>(y)); });
    return record<T>("adaptive_avg_pool2d", y, {x}, ChannelRule::same(),
                     [shape = x.shape()](const Tensor<T>& dy, const Inputs<T>& input) {
                         Tensor<T> dx(shape, dy.device());
                         dispatch(dy.device(), [&](auto on) {
                             kernels::adaptive_avg_pool2d_backward(on, view<4>(dy), mutable_view<4>(dx));
                         });
                         input[0].add_grad(std::move(dx));
                     });
}

ESPALIER_COMPILED_FUNCTION(adaptive_avg_pool2d);

} // namespace espalier::inline ESPALIER_BACKEND
