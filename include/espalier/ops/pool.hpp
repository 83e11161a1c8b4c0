#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/ops/pool_window.hpp>
#include <espalier/ops/reduce.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/pool.cuda.cuh>
#endif

#include <limits>

namespace espalier::inline ESPALIER_BACKEND {

namespace kernels {

/// Calls `tap(h, w, number)` for each tap of window (p, q) that lies in the map, in order of number.
template <class Tap> void pool_taps(const PoolWindow& window, Index H, Index W, Index p, Index q, const Tap& tap) {
    const Index h0 = p * window.stride - window.padding, w0 = q * window.stride - window.padding;
    const Index r1 = std::min(window.R, H - h0), s1 = std::min(window.S, W - w0);
    for (Index r = std::max<Index>(0, -h0); r < r1; ++r)
        for (Index s = std::max<Index>(0, -w0); s < s1; ++s) tap(h0 + r, w0 + s, r * window.S + s);
}

/// y[n,p,q,c] = max over taps; arg = the number of the first tap that has it. A thread takes rows of windows.
template <class T>
void max_pool2d(Cpu, const PoolWindow& window, View<const T, 4> x, View<T, 4> y, View<std::int32_t, 4> arg) {
    const Index P = y.size(1), C = y.size(3);
    parallel_for(y.size(0) * P, [&](Index row) {
        const Index n = row / P, p = row % P;
        for (Index q = 0; q < y.size(2); ++q) {
            T* __restrict const best = y.at(n, p, q);
            std::int32_t* __restrict const first = arg.at(n, p, q);
            bool fresh = true;
            pool_taps(window, x.size(1), x.size(2), p, q, [&](Index h, Index w, Index number) {
                const T* __restrict const from = x.at(n, h, w);
                const auto tap = static_cast<std::int32_t>(number);
                if (fresh) {
                    std::copy_n(from, C, best);
                    std::fill_n(first, C, tap);
                    fresh = false;
                    return;
                }
                for (Index c = 0; c < C; ++c) {
                    const T v = from[c], b = best[c];
                    const bool better = (v > b) | ((v != v) & (b == b)); // the first NaN wins and stays
                    best[c] = better ? v : b;
                    first[c] = better ? tap : first[c];
                }
            });
        }
    });
}

/// y[n,p,q,c] = sum over taps / (R * S): padding counts as zeros. A thread takes rows of windows.
template <class T> void avg_pool2d(Cpu, const PoolWindow& window, View<const T, 4> x, View<T, 4> y) {
    const Index P = y.size(1), C = y.size(3);
    const T area = static_cast<T>(window.R * window.S);
    parallel_for(y.size(0) * P, [&](Index row) {
        const Index n = row / P, p = row % P;
        for (Index q = 0; q < y.size(2); ++q) {
            T* __restrict const sum = y.at(n, p, q);
            std::fill_n(sum, C, T(0));
            pool_taps(window, x.size(1), x.size(2), p, q, [&](Index h, Index w, Index) {
                const T* __restrict const from = x.at(n, h, w);
                for (Index c = 0; c < C; ++c) sum[c] += from[c];
            });
            for (Index c = 0; c < C; ++c) sum[c] /= area;
        }
    });
}

/// dx = the sum, over the windows (p, q) that a pixel is tap `number` of, of what `add(n, p, q, number, dx)` adds.
///
/// A thread takes rows of pixels and gathers from the windows above them: no two write the same place.
template <class T, class Add>
void pool2d_backward(Cpu, const PoolWindow& window, Index P, Index Q, View<T, 4> dx, const Add& add) {
    const Index H = dx.size(1), W = dx.size(2);
    const auto first = [&](Index i, Index taps) { // of the windows that pixel i lies in
        const Index past = i + window.padding - taps + 1;
        return past <= 0 ? 0 : (past + window.stride - 1) / window.stride;
    };
    const auto last = [&](Index i, Index windows) {
        return std::min(windows, (i + window.padding) / window.stride + 1);
    };
    parallel_for(dx.size(0) * H, [&](Index row) {
        const Index n = row / H, h = row % H;
        for (Index w = 0; w < W; ++w) {
            T* const to = dx.at(n, h, w);
            std::fill_n(to, dx.size(3), T(0));
            for (Index p = first(h, window.R); p < last(h, P); ++p)
                for (Index q = first(w, window.S); q < last(w, Q); ++q)
                    add(n, p, q,
                        (h + window.padding - p * window.stride) * window.S + w + window.padding - q * window.stride,
                        to);
        }
    });
}

/// dx of `max_pool2d`: dy goes to the tap that `arg` names.
template <class T>
void max_pool2d_backward(Cpu on, const PoolWindow& window, View<const T, 4> dy, View<const std::int32_t, 4> arg,
                         View<T, 4> dx) {
    const auto add = [&](Index n, Index p, Index q, Index number, T* __restrict to) {
        const T* __restrict const g = dy.at(n, p, q);
        const std::int32_t* __restrict const chosen = arg.at(n, p, q);
        const auto tap = static_cast<std::int32_t>(number);
        for (Index c = 0; c < dy.size(3); ++c) to[c] += chosen[c] == tap ? g[c] : T(0);
    };
    pool2d_backward(on, window, dy.size(1), dy.size(2), dx, add);
}

/// dx of `avg_pool2d`: each tap gets dy / (R * S).
template <class T> void avg_pool2d_backward(Cpu on, const PoolWindow& window, View<const T, 4> dy, View<T, 4> dx) {
    const T area = static_cast<T>(window.R * window.S);
    const auto add = [&](Index n, Index p, Index q, Index, T* __restrict to) {
        const T* __restrict const g = dy.at(n, p, q);
        for (Index c = 0; c < dy.size(3); ++c) to[c] += g[c] / area;
    };
    pool2d_backward(on, window, dy.size(1), dy.size(2), dx, add);
}

} // namespace kernels

namespace detail {

inline kernels::PoolWindow pool_window(const char* op, const Shape& x, PoolOptions options) {
    if (options.stride == 0) options.stride = options.size;
    const auto [size, stride, padding] = options;
    expect(x.rank() == 4, op, ": expected x [N,H,W,C], got ", x);
    expect(size >= 1 && stride >= 1 && padding >= 0 && 2 * padding <= size, op,
           ": expected size and stride of at least 1 and padding of at most half the size, got size ", size,
           ", stride ", stride, " and padding ", padding);
    expect(x[1] > 0 && x[2] > 0 && x[1] + 2 * padding >= size && x[2] + 2 * padding >= size, op,
           ": expected a map of at least one window of ", size, " with padding ", padding, ", got ", x);
    return {size, size, stride, padding};
}
inline Attributes pool_attributes(const kernels::PoolWindow& window) {
    return {{"rows", window.R}, {"columns", window.S}, {"stride", window.stride}, {"padding", window.padding}};
}
inline Shape pooled_shape(const Shape& x, const kernels::PoolWindow& window) {
    return {x[0], (x[1] + 2 * window.padding - window.R) / window.stride + 1,
            (x[2] + 2 * window.padding - window.S) / window.stride + 1, x[3]};
}

template <class T>
Var<T> max_pool(const char* op, const Var<T>& x, const kernels::PoolWindow& window, const Shape& result) {
    const Shape pooled = pooled_shape(x.shape(), window);
    Tensor<T> y(pooled, x.device());
    Tensor<std::int32_t> arg(pooled, x.device());
    dispatch(x.device(), [&](auto on) {
        kernels::max_pool2d(on, window, view<4>(x.value()), mutable_view<4>(y), mutable_view<4>(arg));
    });
    const auto backward = [window, arg, shape = x.shape()](const Tensor<T>& dy, const Inputs<T>& input) {
        Tensor<T> dx(shape, dy.device());
        dispatch(dy.device(), [&](auto on) {
            kernels::max_pool2d_backward(on, window, view<4>(dy.reshape(arg.shape())), view<4>(arg),
                                         mutable_view<4>(dx));
        });
        input[0].add_grad(std::move(dx));
    };
    return record<T>(op, y.reshape(result), {x}, ChannelRule::same(), backward, pool_attributes(window));
}

} // namespace detail

/// y[n,p,q,c] = largest x in the window; x [N,H,W,C], y [N,P,Q,C], P = (H + 2 padding - size) / stride + 1, rounded
/// down.
///
/// Padding never wins. NaN does. The gradient goes to the first largest tap, row by row.
/// @throws ShapeError if x is no map, no window fits, or the options are out of range
template <class T> Var<T> max_pool2d(const Var<T>& x, const PoolOptions& options = {}) {
    const auto window = detail::pool_window("max_pool2d", x.shape(), options);
    return detail::max_pool("max_pool2d", x, window, detail::pooled_shape(x.shape(), window));
}

/// y[n,p,q,c] = mean of x in the window, padding counted as zeros; shapes and errors as in `max_pool2d`.
template <class T> Var<T> avg_pool2d(const Var<T>& x, const PoolOptions& options = {}) {
    const auto window = detail::pool_window("avg_pool2d", x.shape(), options);
    Tensor<T> y(detail::pooled_shape(x.shape(), window), x.device());
    dispatch(x.device(), [&](auto on) { kernels::avg_pool2d(on, window, view<4>(x.value()), mutable_view<4>(y)); });
    const auto backward = [window, shape = x.shape()](const Tensor<T>& dy, const Inputs<T>& input) {
        Tensor<T> dx(shape, dy.device());
        dispatch(dy.device(),
                 [&](auto on) { kernels::avg_pool2d_backward(on, window, view<4>(dy), mutable_view<4>(dx)); });
        input[0].add_grad(std::move(dx));
    };
    return record<T>("avg_pool2d", y, {x}, ChannelRule::same(), backward, detail::pool_attributes(window));
}

/// Mean over all pixels: x [N,H,W,C], y [N,C]. @throws ShapeError if x is no map or has no pixels
template <class T> Var<T> global_avg_pool(const Var<T>& x) {
    expect(x.rank() == 4 && x.size(1) > 0 && x.size(2) > 0,
           "global_avg_pool: expected x [N,H,W,C] with H and W of at least 1, got ", x.shape());
    return mean(x, {1, 2});
}

/// Largest pixel of each channel: x [N,H,W,C], y [N,C]; otherwise as `max_pool2d`.
template <class T> Var<T> global_max_pool(const Var<T>& x) {
    expect(x.rank() == 4 && x.size(1) > 0 && x.size(2) > 0,
           "global_max_pool: expected x [N,H,W,C] with H and W of at least 1, got ", x.shape());
    return detail::max_pool("global_max_pool", x, {x.size(1), x.size(2), 1, 0}, {x.size(0), x.size(3)});
}

ESPALIER_COMPILED_FUNCTION(max_pool2d);
ESPALIER_COMPILED_FUNCTION(avg_pool2d);
ESPALIER_COMPILED_FUNCTION(global_avg_pool);
ESPALIER_COMPILED_FUNCTION(global_max_pool);

} // namespace espalier::inline ESPALIER_BACKEND
