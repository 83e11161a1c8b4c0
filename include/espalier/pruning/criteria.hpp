#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/groups.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <unordered_map>

namespace espalier::inline ESPALIER_BACKEND {

namespace pruning {

/// Importance of one channel: higher stays longer. NaN means that the criterion has nothing to say of this channel; its
/// group is then not cut.
template <class T> using Score = std::function<double(const Channel<T>&)>;

/// Any type with `std::string name() const` and `Score<T> prepare(const ChannelGraph<T>&) const` is a criterion:
/// `prepare` looks at the network once, the score it returns is asked for every channel.
template <class T> class Criterion {
public:
    /// Keeps a copy of a criterion of any type.
    template <class C>
    Criterion(const C& criterion) // NOLINT: a criterion is given by its own type
        : name_(criterion.name()),
          prepare_([criterion](const ChannelGraph<T>& graph) { return criterion.prepare(graph); }) {}

    /// What plans and error texts call it.
    const std::string& name() const { return name_; }
    /// Looks at a network; the score that it returns is valid while the graph and its parameters are.
    Score<T> prepare(const ChannelGraph<T>& graph) const { return prepare_(graph); }

private:
    std::string name_;
    std::function<Score<T>(const ChannelGraph<T>&)> prepare_;
};

/// Calls f(element), in double, for each element of x [...] that has index `entry` on one axis: of one filter, say.
template <class T, class F> void each_of_slice(const Tensor<T>& x, int axis, Index entry, const F& f) {
    const Index outer = x.shape().product(0, axis), inner = x.shape().product(axis + 1, x.rank());
    for (Index o = 0; o < outer; ++o)
        for (Index i = 0; i < inner; ++i) f(static_cast<double>(x.data()[(o * x.size(axis) + entry) * inner + i]));
}

/// l1 (power 1) or l2 (power 2) norm of what a member is: one filter, one input channel of a weight, one scale.
template <class T> double slice_norm(const ChannelMember<T>& m, int power) {
    double sum = 0;
    each_of_slice(m.variable.value(), m.axis, m.entry, [&](double v) { sum += power == 1 ? std::abs(v) : v * v; });
    return power == 1 ? sum : std::sqrt(sum);
}

/// Mean of `f(member)` over the members of a role; NaN if there are none. A channel that several layers make (a
/// residual stream) is as important as its filters are on average.
template <class T, class F> double mean_over(const Channel<T>& channel, ChannelRole role, const F& f) {
    double sum = 0;
    Index count = 0;
    for (const auto& m : channel.members)
        if (m.role == role) {
            sum += f(m);
            ++count;
        }
    return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(count);
}

namespace detail {

template <class T> Score<T> score_by_norm(int power) {
    expect(power == 1 || power == 2, "FilterNorm: expected power 1 or 2, got ", power);
    return [power](const Channel<T>& channel) {
        return mean_over(channel, ChannelRole::makes, [power](const auto& m) { return slice_norm(m, power); });
    };
}

template <class T> Score<T> score_by_scale() {
    return [](const Channel<T>& channel) {
        return mean_over(channel, ChannelRole::scales, [](const auto& m) { return slice_norm(m, 1); });
    };
}

template <class T> Score<T> score_by_folded_norm(const ChannelGraph<T>& graph, double epsilon) {
    struct Folding {
        Tensor<T> gamma, variance;
    };
    std::unordered_map<const Node<T>*, const Node<T>*> made_by; // result of a product -> its weight
    auto foldings = std::make_shared<std::unordered_map<const Node<T>*, Folding>>();
    const auto& variables = graph.trace().variables;
    for (const auto& node : graph.trace().nodes) {
        if (node->rule.weight() >= 0)
            made_by[node.get()] = node->inputs[static_cast<std::size_t>(node->rule.weight())].get();
        if (std::string(node->op) != "batch_norm" || !made_by.count(node->inputs[0].get())) continue;
        (*foldings)[made_by[node->inputs[0].get()]] = {variables.at(node->inputs[1].get()).var.value(),
                                                       variables.at(node->inputs[4].get()).var.value()};
    }
    return [foldings, epsilon](const Channel<T>& channel) {
        return mean_over(channel, ChannelRole::makes, [&](const auto& m) {
            const double norm = slice_norm(m, 2);
            const auto it = foldings->find(m.variable.node().get());
            if (it == foldings->end()) return norm;
            const double gamma = static_cast<double>(it->second.gamma.data()[m.entry]);
            return std::abs(gamma) * norm /
                   std::sqrt(static_cast<double>(it->second.variance.data()[m.entry]) + epsilon);
        });
    };
}

template <class T> Score<T> score_at_random(std::uint64_t seed) {
    return [seed](const Channel<T>& channel) {
        return mean_over(channel, ChannelRole::makes, [seed](const auto& m) {
            return Random(seed, m.name).uniform(static_cast<std::uint64_t>(m.entry));
        });
    };
}

} // namespace detail
} // namespace pruning

/// l1 (power 1) or l2 (power 2) norm of the filter. Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets",
/// section 3.1.
struct FilterNorm {
    int power = 1; ///< 1 or 2

    /// As of every criterion. @throws ShapeError for another power, when prepared
    /// @{
    std::string name() const { return power == 1 ? "filter l1" : "filter l2"; }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>&) const {
        return pruning::detail::score_by_norm<T>(power);
    }
    /// @}
};

/// |gamma| of the batch norm behind the filter. Source: Liu et al. 2017, "Network Slimming", section 3.
struct BatchNormScale {
    /// As of every criterion. NaN for a channel without batch norm.
    /// @{
    std::string name() const { return "batch-norm scale"; }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>&) const {
        return pruning::detail::score_by_scale<T>();
    }
    /// @}
};

/// l2 norm of the filter with its batch norm folded in: |gamma| ||w|| / sqrt(running_var + epsilon).
///
/// A batch norm makes the raw norm meaningless, since it rescales whatever the filter gives. Filters without one count
/// by their own norm.
struct FoldedNorm {
    double epsilon = 1e-5; ///< of the network's batch norms

    /// As of every criterion.
    /// @{
    std::string name() const { return "batch-norm-folded l2"; }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return pruning::detail::score_by_folded_norm<T>(graph, epsilon);
    }
    /// @}
};

/// Largest |activation| that the channel's consumers ever see on the given images: 0 is a filter that is dead after
/// relu, whatever its norm. Use it with a threshold.
template <class M> struct ActivationPeak {
    M& model;                          ///< whose graph is given to `prepare`; outlives this
    Tensor<typename M::Scalar> images; ///< [N,H,W,C], as the network is fed

    /// As of every criterion. NaN for a channel that nothing eats.
    /// @{
    std::string name() const { return "activation peak"; }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        // A second trace, with values, of the network that `graph` was read off: same model, so the same classes in the
        // same order.
        const KeepValues<T> values;
        const pruning::ChannelGraph<T> seen(pruning::trace(model, images), graph.joins());
        std::unordered_map<std::size_t, double> peak_of_class;
        for (const auto& node : seen.trace().nodes)
            for (const ChannelLink& link : node->rule.links()) {
                if (link.role != ChannelRole::eats) continue;
                const Node<T>* const eaten = node->inputs[static_cast<std::size_t>(link.other)].get();
                if (eaten == seen.trace().input.get()) continue;
                const Tensor<T>& value = values.of(eaten);
                for (Index c = 0; c < value.size(-1); ++c) {
                    double peak = 0;
                    for (Index i = c; i < value.size(); i += value.size(-1))
                        peak = std::max(peak, std::abs(static_cast<double>(value.data()[i])));
                    double& known = peak_of_class[seen.channel(eaten, -1, c)];
                    known = std::max(known, peak);
                }
            }
        // Both graphs have the same groups and channels; scores are handed over by the parameter entries they share.
        auto peaks = std::make_shared<std::map<std::pair<const Node<T>*, Index>, double>>();
        for (const auto& group : seen.groups())
            for (const auto& channel : group.channels)
                for (const auto& m : channel.members)
                    if (m.role == ChannelRole::makes && peak_of_class.count(channel.id))
                        (*peaks)[{m.variable.node().get(), m.entry}] = peak_of_class[channel.id];
        return [peaks](const pruning::Channel<T>& channel) {
            return pruning::mean_over(channel, ChannelRole::makes, [&](const auto& m) {
                const auto it = peaks->find({m.variable.node().get(), m.entry});
                return it == peaks->end() ? std::numeric_limits<double>::quiet_NaN() : it->second;
            });
        };
    }
    /// @}
};
/// The scalar type is the model's.
template <class M, class T> ActivationPeak(M&, Tensor<T>) -> ActivationPeak<M>;

/// Random scores in [0, 1): the control that every criterion has to beat.
struct RandomScore {
    std::uint64_t seed = 1; ///< of the draws

    /// As of every criterion. A channel's score depends on the seed and its parameter's name alone.
    /// @{
    std::string name() const { return "random"; }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>&) const {
        return pruning::detail::score_at_random<T>(seed);
    }
    /// @}
};

ESPALIER_COMPILED_CLASS(pruning::Criterion);
ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_norm);
ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_scale);
ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_folded_norm);
ESPALIER_COMPILED_FUNCTION(pruning::detail::score_at_random);

} // namespace espalier::inline ESPALIER_BACKEND
