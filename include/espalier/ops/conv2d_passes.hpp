#pragma once

#include <espalier/autograd/node.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/ops/conv2d.cpu.hpp>
#include <espalier/ops/conv2d_bf16x2.cpu.hpp>
#include <espalier/ops/conv2d_bf16x2_weights.cpu.hpp>
#include <espalier/ops/conv2d_depthwise.cpu.hpp>
#include <espalier/ops/conv2d_few_pixels.cpu.hpp>
#include <espalier/ops/conv2d_weights.cpu.hpp>
#include <espalier/ops/conv2d_winograd.cpu.hpp>
#include <espalier/ops/conv2d_winograd_gradients.cpu.hpp>
#include <espalier/ops/conv2d_winograd_weights.cpu.hpp>
#include <espalier/tensor/side_by_side.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/conv2d.cuda.cuh>
#include <espalier/ops/conv2d_depthwise.cuda.cuh>
#endif

// The three passes of a convolution, and which kernels each device takes for them.

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

inline bool is_depthwise(const Shape& x, const Shape& w, const Conv2dOptions& o) {
    return o.groups > 1 && o.groups == x[3] && o.groups == w[0];
}

/// Group g of a map or of filters: its slice of `axis`.
template <class T> View<T, 4> group(View<T, 4> a, int axis, Index g, Index groups) {
    std::array<Index, 4> extents{a.size(0), a.size(1), a.size(2), a.size(3)}, first{};
    Index& extent = extents[static_cast<std::size_t>(axis)];
    extent /= groups;
    first[static_cast<std::size_t>(axis)] = g * extent;
    return {
        a.at(first[0], first[1], first[2], first[3]), extents, {a.stride(0), a.stride(1), a.stride(2), a.stride(3)}};
}

/// Whether a pass of a convolution goes to the matrix unit: in training, where there is one, and where it is faster. A
/// forward pass without gradients has answers to keep, to which other programs, and cut networks, are compared.
template <class T> bool takes_bf16(const Shape& x, const Shape& w, const Conv2dOptions& o, kernels::ConvPass pass) {
    return current_path() == Path::fast && kernels::bf16_pays<T>(x, w, o, pass);
}

/// Whether a pass of a convolution goes Winograd's way: where it is faster, and sums may be regrouped that far.
template <class T> bool takes_winograd(const Shape& x, const Shape& w, const Conv2dOptions& o, kernels::ConvPass pass) {
    return current_path() == Path::fast && kernels::winograd_pays<T>(x, w, o, pass);
}

template <class T> Tensor<T> depthwise_taps(const Tensor<T>& w) {
    Tensor<T> taps({w.size(1), w.size(2), w.size(0)}, w.device());
    dispatch(w.device(), [&](auto on) { kernels::depthwise_taps(on, view<4>(w), mutable_view<3>(taps)); });
    return taps;
}

/// `trains`: whether a gradient of it is recorded. `moments`: null, or where those of y go if they cost little.
template <class T>
void conv2d_forward_on(Cpu on, const Deferred<T>& input, const Tensor<T>& w, const Tensor<T>& b, const Conv2dOptions& o,
                       bool trains, Tensor<T>*, Tensor<T>& y) {
    const Shape shape = input.shape();
    if constexpr (std::is_same_v<T, float>)
        if (trains && takes_bf16<T>(shape, w.shape(), o, kernels::ConvPass::forward)) {
            const View<const T, 4> taps(w.data(), {w.size(1), w.size(2), w.size(3), w.size(0)},
                                        {w.size(2) * w.size(3), w.size(3), 1, w.size(1) * w.size(2) * w.size(3)});
            const auto rows = input.rows();
            const auto plan = kernels::bf16_conv_plan(on, rows, o.padding, w.size(1), mutable_view<4>(y));
            Tensor<T> scratch({plan.scratch()}, y.device());
            kernels::conv2d_bf16x2(on, plan, rows, taps, view<1>(b), mutable_flat(scratch), mutable_view<4>(y));
            return;
        }
    if (current_path() == Path::fast && o.groups == 1 && kernels::has_few_pixels<T>(y.shape(), w.shape())) {
        const auto plan = kernels::few_pixels_plan(on, view<4>(w), mutable_view<4>(y));
        Tensor<T> scratch({plan.scratch()}, y.device());
        kernels::conv2d_few_pixels(on, plan, view<4>(input.value()), view<4>(w), view<1>(b), o, mutable_flat(scratch),
                                   mutable_view<4>(y));
        return;
    }
    if (takes_winograd<T>(shape, w.shape(), o, kernels::ConvPass::forward)) {
        const View<const T, 4> taps(w.data(), {3, 3, w.size(3), w.size(0)},
                                    {3 * w.size(3), w.size(3), 1, 9 * w.size(3)});
        const auto rows = input.rows();
        const auto plan = kernels::winograd_plan(on, rows, o.padding, mutable_view<4>(y));
        Tensor<T> scratch({plan.scratch()}, y.device());
        kernels::conv2d_winograd(on, plan, rows, taps, view<1>(b), mutable_flat(scratch), mutable_view<4>(y));
        return;
    }
    const Tensor<T>& x = input.value();
    // Compilers fuse multiply and add in one kernel and not in another: on the fixed-order path there is one, so
    // that a depthwise convolution of which one channel is left, now an ordinary one, has the same bits.
    if (is_depthwise(x.shape(), w.shape(), o) && current_path() != Path::fixed_order) {
        const Tensor<T> taps = depthwise_taps(w);
        kernels::conv2d_depthwise(on, view<4>(x), view<3>(taps), view<1>(b), o, mutable_view<4>(y));
        return;
    }
    const Index filters = b.size() / o.groups;
    for (Index g = 0; g < o.groups; ++g) {
        const auto xg = group(view<4>(x), 3, g, o.groups), wg = group(view<4>(w), 0, g, o.groups);
        const auto yg = group(mutable_view<4>(y), 3, g, o.groups);
        const View<const T, 1> bg(b.data() + g * filters, {filters});
        if (current_path() == Path::fixed_order) {
            Tensor<T> scratch({kernels::conv2d_fixed_order_scratch(on, wg)}, x.device());
            kernels::conv2d_fixed_order(on, xg, wg, bg, o, mutable_flat(scratch), yg);
        } else {
            const auto plan = kernels::conv2d_plan(on, xg, wg, o, yg);
            Tensor<T> scratch({plan.scratch()}, x.device());
            kernels::conv2d(on, plan, xg, wg, bg, mutable_flat(scratch), yg);
        }
    }
}

#if ESPALIER_CUDA
/// The kernels count pixels, and elements of an image and of all filters, in 32 bits.
inline void expect_countable(const Shape& x, const Shape& w, const Shape& y) {
    constexpr Index most = (Index(1) << 31) - 256; // a tile may reach past the last of them
    expect(
        std::max(x.product(0, 3), y.product(0, 3)) < most &&
            std::max({x.product(1, 4), y.product(1, 4), w.size()}) < most,
        "conv2d: expected fewer than 2^31 pixels, and as few elements in an image and in the filters, on cuda, got x ",
        x, ", w ", w, " and y ", y);
}

/// As above. The fixed order has one kernel, as on the CPU.
template <class T>
void conv2d_forward_on(Cuda on, const Deferred<T>& input, const Tensor<T>& w, const Tensor<T>& b,
                       const Conv2dOptions& o, bool, Tensor<T>* moments, Tensor<T>& y) {
    const Tensor<T>& x = input.value();
    expect_countable(x.shape(), w.shape(), y.shape());
    if (current_path() == Path::fixed_order)
        return kernels::conv2d_fixed_order(on, view<4>(x), view<4>(w), view<1>(b), o, mutable_view<4>(y));
    if (is_depthwise(x.shape(), w.shape(), o)) {
        const Tensor<T> taps = depthwise_taps(w);
        return kernels::conv2d_depthwise(on, view<4>(x), view<3>(taps), view<1>(b), o, mutable_view<4>(y));
    }
    const auto plan = kernels::conv2d_plan(on, view<4>(x), view<4>(w), o, view<4>(y));
    View<T, 3> tiles(nullptr, {0, 0, 0});
    if (moments && plan.splits == 1) { // else no kernel has the whole sums before they are in memory
        *moments = Tensor<T>({2, kernels::moment_tiles(plan.rows), y.size(3)}, y.device());
        tiles = mutable_view<3>(*moments);
    }
    Tensor<T> scratch({plan.scratch()}, y.device());
    kernels::conv2d(on, plan, view<4>(x), view<4>(w), view<1>(b), o, tiles, mutable_flat(scratch), mutable_view<4>(y));
}
#endif

/// As above, into a new tensor.
template <class T>
Tensor<T> conv2d_forward(const Deferred<T>& input, const Tensor<T>& w, const Tensor<T>& b, const Conv2dOptions& o,
                         bool trains, Tensor<T>* moments = nullptr) {
    const Shape x = input.shape();
    Tensor<T> y({x[0], o.output(x[1], w.size(1)), o.output(x[2], w.size(2)), w.size(0)}, input.device());
    if (y.size() > 0) dispatch(y.device(), [&](auto on) { conv2d_forward_on(on, input, w, b, o, trains, moments, y); });
    return y;
}

/// The filters of w [K,R,S,C] turned around, as the data's gradient reads them: [R,S,K,C].
template <class T> View<const T, 4> turned_filters(const Tensor<T>& w) {
    const Index r = w.size(1), s = w.size(2), c = w.size(3);
    return {w.data() + (r * s - 1) * c, {r, s, w.size(0), c}, {-s * c, -c, r * s * c, 1}};
}

/// Writes the gradient to dx [N,H,W,C], or adds it.
template <class T>
void conv2d_data_gradient_on(Cpu on, const Deferred<T>& gradient, const Tensor<T>& w, const Conv2dOptions& o, bool adds,
                             Tensor<T>& dx) {
    if constexpr (std::is_same_v<T, float>)
        if (takes_bf16<T>(dx.shape(), w.shape(), o, kernels::ConvPass::data_gradient)) {
            const auto rows = gradient.rows();
            auto plan = kernels::bf16_conv_plan(on, rows, w.size(1) - 1 - o.padding, w.size(1), mutable_view<4>(dx));
            plan.adds = adds;
            Tensor<T> scratch({plan.scratch()}, dx.device());
            kernels::conv2d_bf16x2(on, plan, rows, turned_filters(w), View<const T, 1>(nullptr, {0}),
                                   mutable_flat(scratch), mutable_view<4>(dx));
            return;
        }
    if (takes_winograd<T>(dx.shape(), w.shape(), o, kernels::ConvPass::data_gradient)) {
        const auto rows = gradient.rows();
        auto plan = kernels::winograd_plan(on, rows, 2 - o.padding, mutable_view<4>(dx));
        plan.adds = adds;
        Tensor<T> scratch({plan.scratch()}, dx.device());
        kernels::conv2d_winograd(on, plan, rows, turned_filters(w), View<const T, 1>(nullptr, {0}),
                                 mutable_flat(scratch), mutable_view<4>(dx));
        return;
    }
    if (adds) {
        Tensor<T> added = empty_like(dx);
        conv2d_data_gradient_on(on, gradient, w, o, false, added);
        return kernels::accumulate(on, flat(added), mutable_flat(dx));
    }
    const Tensor<T>& dy = gradient.value();
    if (is_depthwise(dx.shape(), w.shape(), o)) {
        const Tensor<T> taps = depthwise_taps(w);
        kernels::conv2d_depthwise_data_gradient(on, view<4>(dy), view<3>(taps), o, mutable_view<4>(dx));
        return;
    }
    for (Index g = 0; g < o.groups; ++g) {
        const auto dyg = group(view<4>(dy), 3, g, o.groups), wg = group(view<4>(w), 0, g, o.groups);
        const auto dxg = group(mutable_view<4>(dx), 3, g, o.groups);
        const auto plan = kernels::conv2d_data_gradient_plan(on, dyg, wg, o, dxg);
        Tensor<T> scratch({plan.scratch()}, dy.device());
        kernels::conv2d_data_gradient(on, plan, dyg, wg, o, mutable_flat(scratch), dxg);
    }
}

#if ESPALIER_CUDA
/// As above.
template <class T>
void conv2d_data_gradient_on(Cuda on, const Deferred<T>& gradient, const Tensor<T>& w, const Conv2dOptions& o,
                             bool adds, Tensor<T>& dx) {
    const Tensor<T>& dy = gradient.value();
    if (is_depthwise(dx.shape(), w.shape(), o)) {
        const Tensor<T> taps = depthwise_taps(w);
        return kernels::conv2d_depthwise_data_gradient(on, view<4>(dy), view<3>(taps), o, adds, mutable_view<4>(dx));
    }
    const auto plan = kernels::conv2d_data_gradient_plan(on, view<4>(dy), view<4>(w), o, view<4>(dx));
    Tensor<T> scratch({plan.scratch()}, dx.device());
    kernels::conv2d_data_gradient(on, plan, view<4>(dy), view<4>(w), o, adds, mutable_flat(scratch),
                                  mutable_view<4>(dx));
}
#endif

/// As above, on the device of dx.
template <class T>
void conv2d_data_gradient(const Deferred<T>& gradient, const Tensor<T>& w, const Conv2dOptions& o, Tensor<T>& dx,
                          bool adds) {
    if (dx.size() > 0) dispatch(dx.device(), [&](auto on) { conv2d_data_gradient_on(on, gradient, w, o, adds, dx); });
}

template <class T>
void conv2d_weight_gradient_on(Cpu on, const Deferred<T>& input, const Deferred<T>& gradient, const Conv2dOptions& o,
                               Tensor<T>& dw) {
    if constexpr (std::is_same_v<T, float>)
        if (takes_bf16<T>(input.shape(), dw.shape(), o, kernels::ConvPass::weight_gradient)) {
            const auto x = input.rows(), dy = gradient.rows();
            const auto plan = kernels::bf16_weight_plan(on, x, dy, o.padding, dw.size(1));
            Tensor<T> scratch({plan.scratch()}, dw.device());
            kernels::conv2d_bf16x2_weight_gradient(on, plan, x, dy, mutable_flat(scratch), mutable_view<4>(dw));
            return;
        }
    if (takes_winograd<T>(input.shape(), dw.shape(), o, kernels::ConvPass::weight_gradient)) {
        const auto x = input.rows(), dy = gradient.rows();
        const auto plan = kernels::winograd_weight_plan(on, x, dy, o.padding);
        Tensor<T> scratch({plan.scratch()}, dw.device());
        kernels::conv2d_winograd_weight_gradient(on, plan, x, dy, mutable_flat(scratch), mutable_view<4>(dw));
        return;
    }
    const Tensor<T>&x = input.value(), &dy = gradient.value();
    if (is_depthwise(x.shape(), dw.shape(), o)) {
        Tensor<T> scratch({kernels::conv2d_depthwise_weight_gradient_scratch(view<4>(x), mutable_view<4>(dw))},
                          dy.device());
        kernels::conv2d_depthwise_weight_gradient(on, view<4>(x), view<4>(dy), o, mutable_flat(scratch),
                                                  mutable_view<4>(dw));
        return;
    }
    for (Index g = 0; g < o.groups; ++g) {
        const auto xg = group(view<4>(x), 3, g, o.groups), dyg = group(view<4>(dy), 3, g, o.groups);
        const auto dwg = group(mutable_view<4>(dw), 0, g, o.groups);
        const auto plan = kernels::conv2d_weight_gradient_plan(on, xg, dyg, o, dwg);
        Tensor<T> scratch({plan.scratch()}, dy.device());
        kernels::conv2d_weight_gradient(on, plan, xg, dyg, o, mutable_flat(scratch), dwg);
    }
}

#if ESPALIER_CUDA
template <class T>
void conv2d_weight_gradient_on(Cuda on, const Deferred<T>& input, const Deferred<T>& gradient, const Conv2dOptions& o,
                               Tensor<T>& dw) {
    const Tensor<T>&x = input.value(), &dy = gradient.value();
    if (is_depthwise(x.shape(), dw.shape(), o)) {
        Tensor<T> scratch({kernels::conv2d_depthwise_weight_gradient_scratch(on, view<4>(dy), mutable_view<4>(dw))},
                          dw.device());
        return kernels::conv2d_depthwise_weight_gradient(on, view<4>(x), view<4>(dy), o, mutable_flat(scratch),
                                                         mutable_view<4>(dw));
    }
    const auto plan = kernels::conv2d_weight_gradient_plan(on, view<4>(x), view<4>(dy), o, view<4>(dw));
    Tensor<T> scratch({plan.scratch()}, dw.device());
    kernels::conv2d_weight_gradient(on, plan, view<4>(x), view<4>(dy), o, mutable_flat(scratch), mutable_view<4>(dw));
}
#endif

template <class T>
Tensor<T> conv2d_weight_gradient(const Deferred<T>& input, const Deferred<T>& gradient, const Shape& w,
                                 const Conv2dOptions& o) {
    Tensor<T> dw(w, gradient.device());
    if (dw.size() > 0) dispatch(dw.device(), [&](auto on) { conv2d_weight_gradient_on(on, input, gradient, o, dw); });
    return dw;
}

/// Whether `conv2d_gradients` can make both gradients, on the CPU.
template <class T> bool takes_winograd_together(const Shape& x, const Shape& w, const Conv2dOptions& o) {
    return x.size() > 0 && takes_winograd<T>(x, w, o, kernels::ConvPass::data_gradient) &&
           takes_winograd<T>(x, w, o, kernels::ConvPass::weight_gradient) &&
           kernels::winograd_gradients_together<T>(x, w, o.padding);
}

/// Both gradients from one reading of what they come from: returns dw, and writes dx or adds it.
template <class T>
Tensor<T> conv2d_gradients(const Deferred<T>& input, const Deferred<T>& gradient, const Tensor<T>& w, Tensor<T>& dx,
                           bool adds) {
    const Cpu on;
    Tensor<T> dw(w.shape());
    const auto x = input.rows(), dy = gradient.rows();
    auto plan = kernels::winograd_gradients_plan(on, x, dy, mutable_view<4>(dx));
    plan.data.adds = adds;
    Tensor<T> scratch({plan.scratch()});
    kernels::conv2d_winograd_gradients(on, plan, x, dy, turned_filters(w), mutable_flat(scratch), mutable_view<4>(dw),
                                       mutable_view<4>(dx));
    return dw;
}

/// Hands each operand that needs one its gradient.
template <class T>
void conv2d_backward(const Deferred<T>& x, const Tensor<T>& w, const Deferred<T>& dy, const Conv2dOptions& o,
                     const Inputs<T>& input) {
    const bool both = dy.device() == Device::cpu && input[0].needs_grad() && input[1].needs_grad();
    const bool alone = takes_bf16<T>(input[0].shape, input[1].shape, o, kernels::ConvPass::data_gradient) ||
                       takes_bf16<T>(input[0].shape, input[1].shape, o, kernels::ConvPass::weight_gradient);
    if (both && !alone && takes_winograd_together<T>(input[0].shape, input[1].shape, o)) {
        Tensor<T> dw;
        input[0].write_grad(dy.device(), [&](Tensor<T>& dx, bool adds) { dw = conv2d_gradients(x, dy, w, dx, adds); });
        return input[1].add_grad(std::move(dw));
    }
    const auto data = [&] {
        input[0].write_grad(dy.device(), [&](Tensor<T>& dx, bool adds) { conv2d_data_gradient(dy, w, o, dx, adds); });
    };
    if (!input[1].needs_grad()) return data();
    Tensor<T> dw;
    const auto weights = [&] { dw = conv2d_weight_gradient(x, dy, input[1].shape, o); };
    if (input[0].needs_grad())
        side_by_side(dy.device(), data, weights); // a GPU's x and dy are in memory: neither side makes what both read
    else
        weights();
    input[1].add_grad(std::move(dw));
}

} // namespace detail

ESPALIER_COMPILED_FUNCTION(detail::conv2d_forward);
ESPALIER_COMPILED_FUNCTION(detail::conv2d_data_gradient);
ESPALIER_COMPILED_FUNCTION(detail::conv2d_weight_gradient);
ESPALIER_COMPILED_FUNCTION(detail::conv2d_gradients);
ESPALIER_COMPILED_FUNCTION(detail::conv2d_backward);

} // namespace espalier::inline ESPALIER_BACKEND
