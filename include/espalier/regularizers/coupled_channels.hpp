#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/ops/reduce.hpp>
#if ESPALIER_CUDA
#include <espalier/regularizers/coupled_channels.cuda.cuh>
#endif

#include <cmath>
#include <memory>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// What kernels know of coupled channels: the channel of each entry, entries being numbered through all axes, and lists
/// of entries by channel and of channels by group. Made once a device, since the CPU has to wait for a copy to a GPU.
struct ChannelMaps {
    /// A list of lists: numbers[k] for k from first[i] to first[i + 1] are the i-th.
    struct Lists {
        Tensor<Index> first, numbers;
    };
    std::vector<std::vector<Index>> channels; ///< of each axis, as it was when the maps were made
    std::vector<Index> group;                 ///< likewise
    Device device = Device::cpu;
    Tensor<Index> channel_of; ///< of each entry, or -1
    Lists entries, members;   ///< of each channel; of each group
};

} // namespace detail

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
    /// Of the penalties, which keep what they have told a GPU; made again when the above has changed. Two threads must
    /// not take a penalty of one value at a time.
    mutable std::shared_ptr<const detail::ChannelMaps> maps = nullptr;

    /// Number of channels.
    Index count() const { return static_cast<Index>(group.size()); }
    /// Where the variables are: the CPU if there are none.
    Device device() const { return axes.empty() ? Device::cpu : axes.front().of.device(); }
};

namespace kernels {

/// Elements of scratch that `slice_sums` takes.
template <class T> Index slice_scratch(Cpu, View<const T, 3>) { return 0; }
/// s[e] = sum over o, i of f(x[o,e,i]); x: [outer, extent, inner], s: [extent]. In double, in this order.
template <class T, class F> void slice_sums(Cpu, F f, View<const T, 3> x, View<double, 1> s, View<double, 1>) {
    std::fill_n(s.data(), s.size(0), 0.0);
    for (Index o = 0; o < x.size(0); ++o)
        for (Index e = 0; e < x.size(1); ++e) {
            double sum = 0;
            for (Index i = 0; i < x.size(2); ++i) sum += f(static_cast<double>(x(o, e, i)));
            s(e) += sum;
        }
}
/// s[c] = sum over k in [first[c], first[c+1]) of x[numbers[k]], in this order.
inline void sum_lists(Cpu, View<const double, 1> x, View<const Index, 1> first, View<const Index, 1> numbers,
                      View<double, 1> s) {
    for (Index c = 0; c < s.size(0); ++c) {
        s(c) = 0;
        for (Index k = first(c); k < first(c + 1); ++k) s(c) += x(numbers(k));
    }
}
/// strength[c] = 2^(alpha * (I_max - I_c) / (I_max - I_min)), extremes being those of the list that c is in; 1 where
/// they are one. Each c is in one list.
inline void relative_strengths(Cpu, double alpha, View<const double, 1> importance, View<const Index, 1> first,
                               View<const Index, 1> numbers, View<double, 1> strength) {
    for (Index g = 0; g + 1 < first.size(0); ++g) {
        double least = HUGE_VAL, largest = 0;
        for (Index k = first(g); k < first(g + 1); ++k) {
            least = std::min(least, importance(numbers(k)));
            largest = std::max(largest, importance(numbers(k)));
        }
        for (Index k = first(g); k < first(g + 1); ++k) {
            const Index c = numbers(k);
            strength(c) = largest > least ? std::exp2(alpha * (largest - importance(c)) / (largest - least)) : 1;
        }
    }
}
/// y = sum over c of weight[c] * norm[c], the norm being kind.norm(sums[c]); factor[c] = kind.factor(weight[c],
/// norm[c]).
template <class Kind, class T>
void weigh_norms(Cpu, Kind kind, View<const double, 1> sums, View<const double, 1> weights, View<T, 1> y,
                 View<double, 1> factor) {
    double sum = 0;
    for (Index c = 0; c < sums.size(0); ++c) {
        const double norm = kind.norm(sums(c));
        sum += weights(c) * norm;
        factor(c) = kind.factor(weights(c), norm);
    }
    y(0) = static_cast<T>(sum);
}
/// dx[o,e,i] += slope(x[o,e,i], dy * factor[channel[e]]) where channel[e] is not -1; x, dx: [outer, extent, inner].
template <class T, class F>
void add_slice_slopes(Cpu, F slope, View<const T, 3> x, View<const Index, 1> channel, View<const double, 1> factor,
                      View<const T, 1> dy, View<T, 3> dx) {
    const double g = static_cast<double>(dy(0));
    for (Index o = 0; o < x.size(0); ++o)
        for (Index e = 0; e < x.size(1); ++e) {
            if (channel(e) < 0) continue;
            const double f = g * factor(channel(e));
            for (Index i = 0; i < x.size(2); ++i)
                dx(o, e, i) += static_cast<T>(slope(static_cast<double>(x(o, e, i)), f));
        }
}

} // namespace kernels

namespace detail {

// What `kernels::weigh_norms` and `kernels::add_slice_slopes` do with a number, as in ops/math.hpp.
struct ChannelNorm {
    Norm kind;
    ESPALIER_HD double norm(double sum) const { return kind == Norm::l2 ? std::sqrt(sum) : sum; }
    ESPALIER_HD double factor(double weight, double norm) const {
        return kind == Norm::l1 ? weight : kind == Norm::squared_l2 ? 2 * weight : norm > 0 ? weight / norm : 0;
    }
};
struct SignSlope {
    ESPALIER_HD double operator()(double v, double f) const { return v > 0 ? f : v < 0 ? -f : 0; }
};

inline std::array<Index, 3> slices_of(const Shape& shape, int axis) {
    return {shape.product(0, axis), shape[axis], shape.product(axis + 1, shape.rank())};
}

template <class T> void check_channels(const char* who, const CoupledChannels<T>& channels) {
    for (const auto& [of, axis, channel] : channels.axes) {
        expect_same_device(who, of, channels);
        expect(axis >= 0 && axis < of.rank() && of.size(axis) == static_cast<Index>(channel.size()), who,
               ": expected axis ", axis, " with ", channel.size(), " entries, got ", of.shape(),
               "; read the channels again after surgery");
        for (const Index c : channel)
            expect(c >= -1 && c < channels.count(), who, ": expected channels below ", channels.count(), ", got ", c);
    }
}

/// The lists of those i for which list_of[i] is 0, 1, ..., each in ascending order.
inline ChannelMaps::Lists lists_of(const std::vector<Index>& list_of, Index lists, Device device) {
    std::vector<Index> first(static_cast<std::size_t>(lists + 1), 0), next;
    for (const Index list : list_of)
        if (list >= 0) ++first[static_cast<std::size_t>(list + 1)];
    for (std::size_t i = 1; i < first.size(); ++i) first[i] += first[i - 1];
    std::vector<Index> numbers(static_cast<std::size_t>(first.back()));
    next = first;
    for (std::size_t i = 0; i < list_of.size(); ++i)
        if (list_of[i] >= 0) {
            Index& at = next[static_cast<std::size_t>(list_of[i])];
            numbers[static_cast<std::size_t>(at++)] = static_cast<Index>(i);
        }
    return {Tensor<Index>::from({lists + 1}, first, device), Tensor<Index>::from({first.back()}, numbers, device)};
}

/// The maps of channels that were checked: for a GPU those of the last call, unless something has changed.
template <class T> std::shared_ptr<const ChannelMaps> maps_of(const CoupledChannels<T>& channels) {
    const auto same = [](const auto& axis, const std::vector<Index>& known) { return axis.channel == known; };
    const auto& kept = channels.maps;
    if (kept && kept->device == channels.device() && kept->group == channels.group &&
        std::equal(channels.axes.begin(), channels.axes.end(), kept->channels.begin(), kept->channels.end(), same))
        return kept;
    auto maps = std::make_shared<ChannelMaps>();
    std::vector<Index> channel_of;
    for (const auto& a : channels.axes) {
        maps->channels.push_back(a.channel);
        channel_of.insert(channel_of.end(), a.channel.begin(), a.channel.end());
    }
    maps->group = channels.group;
    maps->device = channels.device();
    maps->channel_of = Tensor<Index>::from({static_cast<Index>(channel_of.size())}, channel_of, maps->device);
    maps->entries = lists_of(channel_of, channels.count(), maps->device);
    Index groups = 0;
    for (const Index g : channels.group) groups = std::max(groups, g + 1);
    maps->members = lists_of(channels.group, groups, maps->device);
    if (maps->device != Device::cpu) channels.maps = maps;
    return maps;
}

/// Calls f(n) for n below `count`, which must not depend on each other: in parallel on the CPU; a GPU's kernels are
/// queued in order.
template <class F> void each_apart(Device device, Index count, const F& f) {
    if (device == Device::cpu) return parallel_for(count, f);
    for (Index n = 0; n < count; ++n) f(n);
}

/// Sum of |v| or v^2 over the entries of each channel.
template <class T> Tensor<double> channel_sums(const CoupledChannels<T>& channels, const ChannelMaps& maps, Norm kind) {
    const Device device = channels.device();
    Tensor<double> of_entries(maps.channel_of.shape(), device), sums(Shape{channels.count()}, device);
    std::vector<View<double, 1>> parts; // of each axis
    Index first = 0;
    for (const auto& a : channels.axes) {
        parts.emplace_back(of_entries.mutable_data() + first, std::array<Index, 1>{a.of.size(a.axis)});
        first += a.of.size(a.axis);
    }
    each_apart(device, static_cast<Index>(parts.size()), [&](Index n) {
        const auto& a = channels.axes[static_cast<std::size_t>(n)];
        const View<const T, 3> x(a.of.value().data(), slices_of(a.of.shape(), a.axis));
        const auto& part = parts[static_cast<std::size_t>(n)];
        dispatch(device, [&](auto on) {
            Tensor<double> scratch(Shape{kernels::slice_scratch(on, x)}, device);
            if (kind == Norm::l1)
                kernels::slice_sums(on, Abs(), x, part, mutable_flat(scratch));
            else
                kernels::slice_sums(on, Square(), x, part, mutable_flat(scratch));
        });
    });
    dispatch(device, [&](auto on) {
        kernels::sum_lists(on, flat(of_entries), flat(maps.entries.first), flat(maps.entries.numbers),
                           mutable_flat(sums));
    });
    return sums;
}

/// Where in `ChannelMaps::channel_of` an axis of a variable is.
struct MappedAxis {
    int axis;
    Index first;
};

/// The penalty of `channel_penalty`, from the sums of `kind` (those of squares for both l2 norms).
template <class T>
Var<T> penalise(const CoupledChannels<T>& channels, const std::shared_ptr<const ChannelMaps>& maps,
                const Tensor<double>& sums, const Tensor<double>& weights, Norm kind) {
    const Device device = channels.device();
    Tensor<T> y(Shape{}, device);
    Tensor<double> factors(sums.shape(), device);
    dispatch(device, [&](auto on) {
        kernels::weigh_norms(on, ChannelNorm{kind}, flat(sums), flat(weights), mutable_flat(y), mutable_flat(factors));
    });
    std::vector<Var<T>> operands; // each variable once
    std::vector<Tensor<T>> values;
    std::vector<std::vector<MappedAxis>> axes; // of each
    Index first = 0;
    for (const auto& a : channels.axes) {
        std::size_t at = 0;
        while (at < operands.size() && operands[at].node() != a.of.node()) ++at;
        if (at == operands.size()) {
            operands.push_back(a.of);
            values.push_back(a.of.value());
            axes.emplace_back();
        }
        axes[at].push_back({a.axis, first});
        first += a.of.size(a.axis);
    }
    const auto backward = [values, axes, maps, factors, kind](const Tensor<T>& dy, const Inputs<T>& input) {
        each_apart(dy.device(), static_cast<Index>(values.size()), [&](Index n) { // each variable has its own gradient
            const auto v = static_cast<std::size_t>(n);
            if (!input[v].needs_grad()) return;
            Tensor<T> dx = zeros_like(values[v]);
            for (const auto& [axis, start] : axes[v]) {
                const auto extents = slices_of(dx.shape(), axis);
                const View<const T, 3> x(values[v].data(), extents);
                const View<const Index, 1> channel(maps->channel_of.data() + start, {extents[1]});
                const View<T, 3> slopes(dx.mutable_data(), extents);
                dispatch(dx.device(), [&](auto on) {
                    if (kind == Norm::l1)
                        kernels::add_slice_slopes(on, SignSlope(), x, channel, flat(factors), flat(dy), slopes);
                    else
                        kernels::add_slice_slopes(on, Multiply(), x, channel, flat(factors), flat(dy), slopes);
                });
            }
            input[v].add_grad(std::move(dx));
        });
    };
    return record<T>("channel_penalty", y, operands, ChannelRule::declared(), backward);
}

} // namespace detail

/// Norm of each channel over all its entries: sum |v|, sqrt(sum v^2) or sum v^2. Waits for a GPU.
/// @throws ShapeError if the channels do not fit their variables
template <class T> std::vector<double> channel_norms(const CoupledChannels<T>& channels, Norm kind = Norm::l2) {
    detail::check_channels("channel_norms", channels);
    std::vector<double> norms = detail::channel_sums(channels, *detail::maps_of(channels), kind).to_vector();
    for (double& n : norms) n = detail::ChannelNorm{kind}.norm(n);
    return norms;
}

/// y = sum over channels c of weight_c * norm_c, a scalar: a group lasso over everything that one channel is made of.
///
/// Gradients of an entry v of channel c: weight_c times sign(v), v / norm_c or 2 v; 0 where |v| or the l2 norm has its
/// kink. An entry that belongs to two channels (filter of one, input of another) gets the sum. Weights are constants,
/// and sent to a GPU each time.
/// @throws ShapeError unless there is one weight a channel and the channels fit their variables
template <class T>
Var<T> channel_penalty(const CoupledChannels<T>& channels, const std::vector<double>& weights, Norm kind) {
    detail::check_channels("channel_penalty", channels);
    expect(static_cast<Index>(weights.size()) == channels.count(), "channel_penalty: expected ", channels.count(),
           " weights, one a channel, got ", weights.size());
    const auto maps = detail::maps_of(channels);
    return detail::penalise(channels, maps, detail::channel_sums(channels, *maps, kind),
                            Tensor<double>::from(Shape{channels.count()}, weights, channels.device()), kind);
}

ESPALIER_COMPILED_FUNCTION(detail::channel_sums);
ESPALIER_COMPILED_FUNCTION(detail::penalise);
ESPALIER_COMPILED_FUNCTION(channel_norms);
ESPALIER_COMPILED_FUNCTION(channel_penalty);

} // namespace espalier::inline ESPALIER_BACKEND
