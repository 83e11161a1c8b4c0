#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/ops/reduce.hpp>

#include <cmath>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Which slices of which variables are one channel: all that a penalty of whole channels has to know of a network.
///
/// `pruning::coupled_channels` reads it off a recorded graph, for any network; it is a plain value, so that
/// regularizers know nothing of pruning. Shapes are those of now: read it again after surgery.
template <class T> struct CoupledChannels {
    /// The entries of one axis of a variable.
    struct Axis {
        Var<T> of;                  ///< parameter
        int axis;                   ///< counted from the first
        std::vector<Index> channel; ///< of each entry: which it belongs to, or -1
    };
    std::vector<Axis> axes;   ///< each (variable, axis) once; a channel may have several entries of one axis
    std::vector<Index> group; ///< of each channel: channels of one group are compared with each other

    /// Number of channels.
    Index count() const { return static_cast<Index>(group.size()); }
};

namespace kernels {

/// s[e] = sum over o, i of f(x[o,e,i]); x: [outer, extent, inner], s: [extent]. In double, in this order.
template <class T, class F> void slice_sums(Cpu, F f, View<const T, 3> x, View<double, 1> s) {
    std::fill_n(s.data(), s.size(0), 0.0);
    for (Index o = 0; o < x.size(0); ++o)
        for (Index e = 0; e < x.size(1); ++e) {
            double sum = 0;
            for (Index i = 0; i < x.size(2); ++i) sum += f(static_cast<double>(x(o, e, i)));
            s(e) += sum;
        }
}
/// dx[o,e,i] += slope(x[o,e,i], factor[e]); x, dx: [outer, extent, inner], factor: [extent].
template <class T, class F>
void add_slice_slopes(Cpu, F slope, View<const T, 3> x, View<const double, 1> factor, View<T, 3> dx) {
    for (Index o = 0; o < x.size(0); ++o)
        for (Index e = 0; e < x.size(1); ++e)
            for (Index i = 0; i < x.size(2); ++i)
                dx(o, e, i) += static_cast<T>(slope(static_cast<double>(x(o, e, i)), factor(e)));
}

} // namespace kernels

namespace detail {

inline std::array<Index, 3> slices_of(const Shape& shape, int axis) {
    return {shape.product(0, axis), shape[axis], shape.product(axis + 1, shape.rank())};
}

template <class T> void check_channels(const char* who, const CoupledChannels<T>& channels) {
    for (const auto& [of, axis, channel] : channels.axes) {
        expect(axis >= 0 && axis < of.rank() && of.size(axis) == static_cast<Index>(channel.size()), who,
               ": expected axis ", axis, " with ", channel.size(), " entries, got ", of.shape(),
               "; read the channels again after surgery");
        for (const Index c : channel)
            expect(c >= -1 && c < channels.count(), who, ": expected channels below ", channels.count(), ", got ", c);
    }
}

/// Sum of |v| or v^2 over the entries of each channel.
template <class T> std::vector<double> channel_sums(const CoupledChannels<T>& channels, Norm kind) {
    std::vector<Tensor<double>> parts;
    for (const auto& a : channels.axes) parts.emplace_back(Shape{a.of.size(a.axis)});
    parallel_for(static_cast<Index>(parts.size()), [&](Index n) { // each part has its own axis: any order will do
        const auto& a = channels.axes[static_cast<std::size_t>(n)];
        const View<const T, 3> x(a.of.value().data(), slices_of(a.of.shape(), a.axis));
        const auto sums = mutable_flat(parts[static_cast<std::size_t>(n)]);
        dispatch(a.of.device(), [&](auto on) {
            if (kind == Norm::l1)
                kernels::slice_sums(
                    on, [](double v) { return std::abs(v); }, x, sums);
            else
                kernels::slice_sums(
                    on, [](double v) { return v * v; }, x, sums);
        });
    });
    std::vector<double> sums(static_cast<std::size_t>(channels.count()), 0.0);
    for (std::size_t n = 0; n < parts.size(); ++n)
        for (std::size_t e = 0; e < channels.axes[n].channel.size(); ++e)
            if (const Index c = channels.axes[n].channel[e]; c >= 0)
                sums[static_cast<std::size_t>(c)] += parts[n].data()[e];
    return sums;
}

} // namespace detail

/// Norm of each channel over all its entries: sum |v|, sqrt(sum v^2) or sum v^2.
/// @throws ShapeError if the channels do not fit their variables
template <class T> std::vector<double> channel_norms(const CoupledChannels<T>& channels, Norm kind = Norm::l2) {
    detail::check_channels("channel_norms", channels);
    std::vector<double> norms = detail::channel_sums(channels, kind);
    if (kind == Norm::l2)
        for (double& n : norms) n = std::sqrt(n);
    return norms;
}

/// y = sum over channels c of weight_c * norm_c, a scalar: a group lasso over everything that one channel is made of.
///
/// Gradients of an entry v of channel c: weight_c times sign(v), v / norm_c or 2 v; 0 where |v| or the l2 norm has its
/// kink. An entry that belongs to two channels (filter of one, input of another) gets the sum. Weights are constants.
/// @throws ShapeError unless there is one weight a channel and the channels fit their variables
template <class T>
Var<T> channel_penalty(const CoupledChannels<T>& channels, const std::vector<double>& weights, Norm kind) {
    detail::check_channels("channel_penalty", channels);
    expect(static_cast<Index>(weights.size()) == channels.count(), "channel_penalty: expected ", channels.count(),
           " weights, one a channel, got ", weights.size());
    const std::vector<double> norms = channel_norms(channels, kind);
    double y = 0;
    std::vector<double> factors; // of the slope of each entry
    for (std::size_t c = 0; c < weights.size(); ++c) {
        y += weights[c] * norms[c];
        factors.push_back(kind == Norm::l1           ? weights[c]
                          : kind == Norm::squared_l2 ? 2 * weights[c]
                          : norms[c] > 0             ? weights[c] / norms[c]
                                                     : 0);
    }
    std::vector<Var<T>> operands; // each variable once
    std::vector<Tensor<T>> values;
    std::vector<std::vector<typename CoupledChannels<T>::Axis>> axes; // of each
    for (const auto& a : channels.axes) {
        std::size_t at = 0;
        while (at < operands.size() && operands[at].node() != a.of.node()) ++at;
        if (at == operands.size()) {
            operands.push_back(a.of);
            values.push_back(a.of.value());
            axes.emplace_back();
        }
        axes[at].push_back({Var<T>(), a.axis, a.channel}); // no handle: the graph must not hold itself
    }
    const auto backward = [values, axes, factors, kind](const Tensor<T>& dy, const Inputs<T>& input) {
        const double g = static_cast<double>(dy.item());
        parallel_for(static_cast<Index>(values.size()), [&](Index n) { // each variable has its own gradient
            const auto v = static_cast<std::size_t>(n);
            if (!input[v].needs_grad()) return;
            Tensor<T> dx = zeros_like(values[v]);
            for (const auto& a : axes[v]) {
                Tensor<double> factor = Tensor<double>::zeros({static_cast<Index>(a.channel.size())});
                for (std::size_t e = 0; e < a.channel.size(); ++e)
                    if (a.channel[e] >= 0)
                        factor.mutable_data()[e] = g * factors[static_cast<std::size_t>(a.channel[e])];
                const auto extents = detail::slices_of(dx.shape(), a.axis);
                const View<const T, 3> x(values[v].data(), extents);
                const View<T, 3> slopes(dx.mutable_data(), extents);
                dispatch(dx.device(), [&](auto on) {
                    if (kind == Norm::l1)
                        kernels::add_slice_slopes(
                            on, [](double e, double f) { return e > 0   ? f
                                                                : e < 0 ? -f
                                                                        : 0; }, x, flat(factor), slopes);
                    else
                        kernels::add_slice_slopes(
                            on, [](double e, double f) { return e * f; }, x, flat(factor), slopes);
                });
            }
            input[v].add_grad(std::move(dx));
        });
    };
    return record<T>("channel_penalty", Tensor<T>::scalar(static_cast<T>(y)), operands, ChannelRule::declared(),
                     backward);
}

ESPALIER_COMPILED_FUNCTION(channel_norms);
ESPALIER_COMPILED_FUNCTION(channel_penalty);

} // namespace espalier::inline ESPALIER_BACKEND
