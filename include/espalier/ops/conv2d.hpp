#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/column_sum.hpp>
#include <espalier/ops/conv2d.cpu.hpp>
#include <espalier/ops/conv2d_bf16x2.cpu.hpp>
#include <espalier/ops/conv2d_bf16x2_weights.cpu.hpp>
#include <espalier/ops/conv2d_depthwise.cpu.hpp>
#include <espalier/ops/conv2d_weights.cpu.hpp>
#include <espalier/ops/conv2d_winograd.cpu.hpp>
#include <espalier/ops/conv2d_winograd_gradients.cpu.hpp>
#include <espalier/ops/conv2d_winograd_weights.cpu.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

inline void check_conv2d(const Shape& x, const Shape& w, const Shape* b, const Conv2dOptions& o) {
    expect(x.rank() == 4 && w.rank() == 4, "conv2d: expected x [N,H,W,C] and w [K,R,S,C/groups], got x ", x, " and w ",
           w);
    expect(o.stride >= 1 && o.padding >= 0 && o.dilation >= 1 && o.groups >= 1,
           "conv2d: expected stride, dilation and groups of at least 1 and padding of at least 0, got stride ",
           o.stride, ", padding ", o.padding, ", dilation ", o.dilation, ", groups ", o.groups);
    expect(x[3] % o.groups == 0 && w[0] % o.groups == 0, "conv2d: expected channels and filters divisible by ",
           o.groups, " groups, got x ", x, " and w ", w);
    expect(w[3] == x[3] / o.groups || (x[3] == 0 && w[0] == 0), "conv2d: expected filters [K,R,S,", x[3] / o.groups,
           "] for x ", x, " in ", o.groups, o.groups == 1 ? " group" : " groups", ", got ", w);
    expect(w[1] >= 1 && w[2] >= 1, "conv2d: expected filters of at least one tap, got ", w);
    expect(o.output(x[1], w[1]) >= 1 && o.output(x[2], w[2]) >= 1,
           "conv2d: expected filters that fit the padded input, got filters ", w, " with dilation ", o.dilation,
           " for x ", x, " with padding ", o.padding);
    expect(!b || *b == Shape{w[0]}, "conv2d: expected a bias [", w[0], "], got ", b ? *b : Shape{});
}

inline bool is_depthwise(const Shape& x, const Shape& w, const Conv2dOptions& o) {
    return o.groups > 1 && o.groups == x[3] && o.groups == w[0];
}

/// Equal counts: the j-th channels of all groups are what entry j of the weight's last axis eats, and the groups' k-th
/// filters go together. With one channel a group, whole groups: each channel takes the filters that read it along.
inline ChannelRule group_rule(ChannelRule rule, const Shape& w, Index groups) {
    constexpr int output = ChannelRule::output;
    const Index channels = w[3], filters = w[0] / groups; // of a group
    for (Index g = 0; g < groups; ++g)
        rule = std::move(rule).link(channels == 1 ? ChannelLink{.operand = output,
                                                                .axis = -1,
                                                                .other = 0,
                                                                .other_axis = -1,
                                                                .begin = g * filters,
                                                                .other_begin = g,
                                                                .count = filters,
                                                                .period = 1}
                                                  : ChannelLink{.operand = 1,
                                                                .axis = 3,
                                                                .other = 0,
                                                                .other_axis = -1,
                                                                .other_begin = g * channels,
                                                                .count = channels,
                                                                .role = ChannelRole::eats});
    if (channels == 1) return rule;
    return std::move(rule).link({.operand = output, .axis = -1, .other = output, .other_axis = -1, .period = filters});
}

inline ChannelRule conv2d_rule(const Shape& x, const Shape& w, const Shape& y, const Conv2dOptions& o, bool biased) {
    ChannelRule rule = ChannelRule::declared().multiply(1, y[0] * y[1] * y[2]);
    if (o.groups == 1)
        rule = std::move(rule).make(1, 0).eat(1, 3, 0);
    else if (is_depthwise(x, w, o))
        rule = std::move(rule).pass(0).make(1, 0);
    else
        rule = group_rule(std::move(rule).make(1, 0), w, o.groups);
    if (biased) rule = std::move(rule).ride(2, 0, ChannelRole::shifts);
    return rule;
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

/// `trains`: whether a gradient of it is recorded.
template <class T>
Tensor<T> conv2d_forward(const Deferred<T>& input, const Tensor<T>& w, const Tensor<T>& b, const Conv2dOptions& o,
                         bool trains) {
    const Shape shape = input.shape();
    Tensor<T> y({shape[0], o.output(shape[1], w.size(1)), o.output(shape[2], w.size(2)), w.size(0)}, input.device());
    if (y.size() == 0) return y;
    dispatch(y.device(), [&](auto on) {
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
    });
    return y;
}

/// The filters of w [K,R,S,C] turned around, as the data's gradient reads them: [R,S,K,C].
template <class T> View<const T, 4> turned_filters(const Tensor<T>& w) {
    const Index r = w.size(1), s = w.size(2), c = w.size(3);
    return {w.data() + (r * s - 1) * c, {r, s, w.size(0), c}, {-s * c, -c, r * s * c, 1}};
}

/// Writes the gradient to dx [N,H,W,C], or adds it.
template <class T>
void conv2d_data_gradient(const Deferred<T>& gradient, const Tensor<T>& w, const Conv2dOptions& o, Tensor<T>& dx,
                          bool adds) {
    if (dx.size() == 0) return;
    dispatch(dx.device(), [&](auto on) {
        if constexpr (std::is_same_v<T, float>)
            if (takes_bf16<T>(dx.shape(), w.shape(), o, kernels::ConvPass::data_gradient)) {
                const auto rows = gradient.rows();
                auto plan =
                    kernels::bf16_conv_plan(on, rows, w.size(1) - 1 - o.padding, w.size(1), mutable_view<4>(dx));
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
            conv2d_data_gradient(gradient, w, o, added, false);
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
    });
}

template <class T>
Tensor<T> conv2d_weight_gradient(const Deferred<T>& input, const Deferred<T>& gradient, const Shape& w,
                                 const Conv2dOptions& o) {
    Tensor<T> dw(w, gradient.device());
    if (dw.size() == 0) return dw;
    dispatch(dw.device(), [&](auto on) {
        if constexpr (std::is_same_v<T, float>)
            if (takes_bf16<T>(input.shape(), w, o, kernels::ConvPass::weight_gradient)) {
                const auto x = input.rows(), dy = gradient.rows();
                const auto plan = kernels::bf16_weight_plan(on, x, dy, o.padding, w[1]);
                Tensor<T> scratch({plan.scratch()}, dw.device());
                kernels::conv2d_bf16x2_weight_gradient(on, plan, x, dy, mutable_flat(scratch), mutable_view<4>(dw));
                return;
            }
        if (takes_winograd<T>(input.shape(), w, o, kernels::ConvPass::weight_gradient)) {
            const auto x = input.rows(), dy = gradient.rows();
            const auto plan = kernels::winograd_weight_plan(on, x, dy, o.padding);
            Tensor<T> scratch({plan.scratch()}, dw.device());
            kernels::conv2d_winograd_weight_gradient(on, plan, x, dy, mutable_flat(scratch), mutable_view<4>(dw));
            return;
        }
        const Tensor<T>&x = input.value(), &dy = gradient.value();
        if (is_depthwise(x.shape(), w, o)) {
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
    });
    return dw;
}

/// Whether `conv2d_gradients` can make both gradients.
template <class T> bool takes_winograd_together(const Shape& x, const Shape& w, const Conv2dOptions& o) {
    return x.size() > 0 && takes_winograd<T>(x, w, o, kernels::ConvPass::data_gradient) &&
           takes_winograd<T>(x, w, o, kernels::ConvPass::weight_gradient) &&
           kernels::winograd_gradients_together<T>(x, w, o.padding);
}

/// Both gradients from one reading of what they come from: returns dw, and writes dx or adds it.
template <class T>
Tensor<T> conv2d_gradients(const Deferred<T>& input, const Deferred<T>& gradient, const Tensor<T>& w, Tensor<T>& dx,
                           bool adds) {
    Tensor<T> dw(w.shape(), gradient.device());
    dispatch(dx.device(), [&](auto on) {
        const auto x = input.rows(), dy = gradient.rows();
        auto plan = kernels::winograd_gradients_plan(on, x, dy, mutable_view<4>(dx));
        plan.data.adds = adds;
        Tensor<T> scratch({plan.scratch()}, dx.device());
        kernels::conv2d_winograd_gradients(on, plan, x, dy, turned_filters(w), mutable_flat(scratch),
                                           mutable_view<4>(dw), mutable_view<4>(dx));
    });
    return dw;
}

/// Hands each operand that needs one its gradient.
template <class T>
void conv2d_backward(const Deferred<T>& x, const Tensor<T>& w, const Deferred<T>& dy, const Conv2dOptions& o,
                     const Inputs<T>& input) {
    const bool both = input[0].needs_grad() && input[1].needs_grad();
    const bool alone = takes_bf16<T>(input[0].shape, input[1].shape, o, kernels::ConvPass::data_gradient) ||
                       takes_bf16<T>(input[0].shape, input[1].shape, o, kernels::ConvPass::weight_gradient);
    if (both && !alone && takes_winograd_together<T>(input[0].shape, input[1].shape, o)) {
        Tensor<T> dw;
        input[0].write_grad(dy.device(), [&](Tensor<T>& dx, bool adds) { dw = conv2d_gradients(x, dy, w, dx, adds); });
        return input[1].add_grad(std::move(dw));
    }
    input[0].write_grad(dy.device(), [&](Tensor<T>& dx, bool adds) { conv2d_data_gradient(dy, w, o, dx, adds); });
    if (input[1].needs_grad()) input[1].add_grad(conv2d_weight_gradient(x, dy, input[1].shape, o));
}

} // namespace detail

/// Convolution, channels last.
///
/// y[n,p,q,k] = b[k] + sum over r,s,c of x[n, p*stride + r*dilation - padding, q*stride + s*dilation - padding, c] *
/// w[k,r,s,c], pixels outside x being zero; with groups, the K/groups filters of a group see its C/groups channels.
///
/// x [N,H,W,C]; w [K,R,S,C/groups]; b [K] or undefined.  Returns y [N,P,Q,K],
/// P = (H + 2*padding - dilation*(R-1) - 1) / stride + 1, Q likewise. N, C and K may be 0; where C and K both are, so
/// is the last extent of w, or it is what it was when there were channels. On `Path::fast`, 3x3 filters of stride 1 go
/// Winograd's way where that is faster, or to a matrix unit if a gradient is recorded, with a relative error in float
/// of up to 4e-6 instead of 1e-6; the unit makes NaN of infinite operands. On `Path::fixed_order` each output adds its
/// terms one by one in the order r, s, c, and the bias last. Gradients are computed on the path of the thread that
/// calls `backward`.
/// @throws ShapeError  if operands or options do not fit each other, or the filter is larger than the padded input
template <class T> Var<T> conv2d(const Var<T>& x, const Var<T>& w, const Var<T>& b, const Conv2dOptions& options) {
    const bool biased = b.defined();
    detail::check_conv2d(x.shape(), w.shape(), biased ? &b.shape() : nullptr, options);
    std::vector<Var<T>> operands{x, w};
    if (biased) operands.push_back(b);
    Tensor<T> y = detail::conv2d_forward(x.deferred(), w.value(), biased ? b.value() : Tensor<T>({0}), options,
                                         is_recorded<T>(operands));
    ChannelRule rule = detail::conv2d_rule(x.shape(), w.shape(), y.shape(), options, biased);
    return record<T>("conv2d", std::move(y), operands, std::move(rule),
                     [xv = w.needs_grad() ? x.deferred() : Deferred<T>(), wv = x.needs_grad() ? w.value() : Tensor<T>(),
                      options, biased](const Deferred<T>& dy, const Inputs<T>& input) {
                         detail::conv2d_backward(xv, wv, dy, options, input);
                         if (biased && input[2].needs_grad()) input[2].add_grad(detail::column_sums(dy.value()));
                     },
                     {{"stride", options.stride},
                      {"padding", options.padding},
                      {"dilation", options.dilation},
                      {"groups", options.groups}});
}

/// Convolution without a bias.
template <class T> Var<T> conv2d(const Var<T>& x, const Var<T>& w, const Conv2dOptions& options) {
    return conv2d(x, w, Var<T>(), options);
}

ESPALIER_COMPILED_FUNCTION(detail::conv2d_forward);
ESPALIER_COMPILED_FUNCTION(detail::conv2d_data_gradient);
ESPALIER_COMPILED_FUNCTION(detail::conv2d_weight_gradient);
ESPALIER_COMPILED_FUNCTION(detail::conv2d_gradients);
ESPALIER_COMPILED_FUNCTION(detail::conv2d_backward);

} // namespace espalier::inline ESPALIER_BACKEND
