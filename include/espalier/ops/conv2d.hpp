#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/cpu/column_sum.hpp>
#include <espalier/ops/conv2d.cpu.hpp>

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
    expect(w[3] == x[3] / o.groups, "conv2d: expected filters [K,R,S,", x[3] / o.groups, "] for x ", x, " in ",
           o.groups, o.groups == 1 ? " group" : " groups", ", got ", w);
    expect(w[1] >= 1 && w[2] >= 1, "conv2d: expected filters of at least one tap, got ", w);
    expect(o.output(x[1], w[1]) >= 1 && o.output(x[2], w[2]) >= 1,
           "conv2d: expected filters that fit the padded input, got filters ", w, " with dilation ", o.dilation,
           " for x ", x, " with padding ", o.padding);
    expect(!b || *b == Shape{w[0]}, "conv2d: expected a bias [", w[0], "], got ", b ? *b : Shape{});
}

inline ChannelRule conv2d_rule(const Shape& w, const Shape& y, const Shape& x, const Conv2dOptions& o, bool biased) {
    const Index positions = y[0] * y[1] * y[2];
    const bool depthwise = o.groups > 1 && o.groups == x[3] && o.groups == w[0];
    ChannelRule rule = ChannelRule::declared().multiply(1, positions);
    if (o.groups == 1)
        rule = std::move(rule).make(1, 0).eat(1, 3, 0);
    else if (depthwise)
        rule = std::move(rule).pass(0).make(1, 0);
    else
        rule = std::move(rule).block(0, "group convolution").block(ChannelRule::output, "group convolution");
    return biased && (o.groups == 1 || depthwise) ? std::move(rule).ride(2, 0, ChannelRole::shifts) : rule;
}

} // namespace detail

/// Convolution, channels last.
///
/// y[n,p,q,k] = b[k] + sum over r,s,c of x[n, p*stride + r*dilation - padding, q*stride + s*dilation - padding, c] *
/// w[k,r,s,c], pixels outside x being zero; with groups, the K/groups filters of a group see its C/groups channels.
///
/// x [N,H,W,C]; w [K,R,S,C/groups]; b [K] or undefined.  Returns y [N,P,Q,K],
/// P = (H + 2*padding - dilation*(R-1) - 1) / stride + 1, Q likewise. N, C and K may be 0.
/// On `Path::fixed_order` each output adds its terms one by one in the order r, s, c, and the bias last.
/// @throws ShapeError  if operands or options do not fit each other, or the filter is larger than the padded input
template <class T>
Var<T> conv2d(const Var<T>& x, const Var<T>& w, const Var<T>& b, const Conv2dOptions& options) {
    const bool biased = b.defined();
    detail::check_conv2d(x.shape(), w.shape(), biased ? &b.shape() : nullptr, options);
    const Shape extents = x.shape(), filters = w.shape();
    Tensor<T> y({extents[0], options.output(extents[1], filters[1]), options.output(extents[2], filters[2]), filters[0]},
                x.device());
    const Tensor<T> bias = biased ? b.value() : Tensor<T>({0});
    dispatch(x.device(), [&](auto on) {
        kernels::conv2d(on, view<4>(x.value()), view<4>(w.value()), view<1>(bias), options, mutable_view<4>(y));
    });
    std::vector<Var<T>> operands{x, w};
    if (biased) operands.push_back(b);
    ChannelRule rule = detail::conv2d_rule(filters, y.shape(), extents, options, biased);
    return record<T>("conv2d", y, operands, std::move(rule),
                     [xv = w.needs_grad() ? x.value() : Tensor<T>(), wv = x.needs_grad() ? w.value() : Tensor<T>(),
                      extents, filters, options, biased](const Tensor<T>& dy, const Inputs<T>& input) {
                         dispatch(dy.device(), [&](auto on) {
                             if (input[0].needs_grad()) {
                                 Tensor<T> dx(extents, dy.device());
                                 kernels::conv2d_data_gradient(on, view<4>(dy), view<4>(wv), options,
                                                               mutable_view<4>(dx));
                                 input[0].add_grad(std::move(dx));
                             }
                             if (input[1].needs_grad()) {
                                 Tensor<T> dw(filters, dy.device());
                                 kernels::conv2d_weight_gradient(on, view<4>(xv), view<4>(dy), options,
                                                                 mutable_view<4>(dw));
                                 input[1].add_grad(std::move(dw));
                             }
                             if (biased && input[2].needs_grad()) {
                                 const auto rows = pixels(dy);
                                 Tensor<T> db({filters[0]}, dy.device());
                                 Tensor<T> scratch({kernels::column_sum_scratch(rows.size(0), rows.size(1))});
                                 kernels::column_sum(on, rows, mutable_flat(scratch), mutable_flat(db));
                                 input[2].add_grad(std::move(db));
                             }
                         });
                     });
}

/// Convolution without a bias.
template <class T> Var<T> conv2d(const Var<T>& x, const Var<T>& w, const Conv2dOptions& options) {
    return conv2d(x, w, Var<T>(), options);
}

} // namespace espalier::inline ESPALIER_BACKEND
