#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/ops/column_sum.hpp>
#include <espalier/ops/conv2d_passes.hpp>

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
/// of up to 4e-6 instead of 1e-6; the unit makes NaN of infinite operands. On a GPU that path rounds floats as
/// `current_matmul_precision()` says, but not those of depthwise convolutions. On `Path::fixed_order` each output adds
/// its terms one by one in the order r, s, c, and the bias last. Gradients are computed on the path, and in the
/// precision, of the thread that calls `backward`.
/// @throws ShapeError  if operands or options do not fit each other, or the filter is larger than the padded input
template <class T> Var<T> conv2d(const Var<T>& x, const Var<T>& w, const Var<T>& b, const Conv2dOptions& options) {
    const bool biased = b.defined();
    detail::check_conv2d(x.shape(), w.shape(), biased ? &b.shape() : nullptr, options);
    if (biased)
        expect_same_device("conv2d", x, w, b);
    else
        expect_same_device("conv2d", x, w);
    std::vector<Var<T>> operands{x, w};
    if (biased) operands.push_back(b);
    const bool trains = is_recorded<T>(operands);
    Tensor<T> moments; // a convolution with a bias is not followed by batch norm
    Tensor<T> made = detail::conv2d_forward(x.deferred(), w.value(), biased ? b.value() : Tensor<T>({0}, x.device()),
                                            options, trains, trains && !biased ? &moments : nullptr);
    ChannelRule rule = detail::conv2d_rule(x.shape(), w.shape(), made.shape(), options, biased);
    Var<T> y =
        record<T>("conv2d", std::move(made), operands, std::move(rule),
                  [xv = w.needs_grad() ? x.deferred() : Deferred<T>(), wv = x.needs_grad() ? w.value() : Tensor<T>(),
                   options, biased](const Deferred<T>& dy, const Inputs<T>& input) {
                      detail::conv2d_backward(xv, wv, dy, options, input);
                      if (biased && input[2].needs_grad()) input[2].add_grad(detail::column_sums(dy.value()));
                  },
                  {{"stride", options.stride},
                   {"padding", options.padding},
                   {"dilation", options.dilation},
                   {"groups", options.groups}});
    if (moments.defined()) y.node()->moments = {std::move(moments), y.value().writes()};
    return y;
}

/// Convolution without a bias.
template <class T> Var<T> conv2d(const Var<T>& x, const Var<T>& w, const Conv2dOptions& options) {
    return conv2d(x, w, Var<T>(), options);
}

} // namespace espalier::inline ESPALIER_BACKEND
