#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/activations.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// How the products g w of gradient and weight, one for each element of a slice, become one number.
enum class TaylorSum {
    absolute,       ///< sum |g w|
    squared,        ///< sum (g w)^2
    joint_absolute, ///< |sum g w|
    joint_squared,  ///< (sum g w)^2
};
/// `sum |gw|`, `sum (gw)^2`, `|sum gw|` or `(sum gw)^2`.
inline std::string to_text(TaylorSum sum) {
    constexpr const char* names[] = {"sum |gw|", "sum (gw)^2", "|sum gw|", "(sum gw)^2"};
    return names[static_cast<int>(sum)];
}

namespace pruning::detail {

template <class T> double taylor_term(ChannelSlice<T> slice, TaylorSum kind) {
    const Tensor<T>&w = slice[0].variable.value(), &g = slice[0].variable.grad();
    if (!g.defined()) return 0; // the loss does not depend on it
    const bool joint = kind == TaylorSum::joint_absolute || kind == TaylorSum::joint_squared;
    double sum = 0;
    each_offset(slice, [&](Index i) {
        const double product = static_cast<double>(w.data()[i]) * static_cast<double>(g.data()[i]);
        sum += joint ? product : kind == TaylorSum::absolute ? std::abs(product) : product * product;
    });
    return kind == TaylorSum::joint_absolute ? std::abs(sum) : kind == TaylorSum::joint_squared ? sum * sum : sum;
}

template <class T> struct WeightTaylorOptions {
    TaylorSum sum;
    ChannelRoles roles;
    Combine combine;
};

template <class T>
Score<T> score_by_weight_taylor(const ChannelGraph<T>& graph, const Network<T>& net,
                                const std::vector<Tensor<T>>& batches, const BatchLoss<T>& loss,
                                const WeightTaylorOptions<T>& options) {
    expect(!batches.empty(), "WeightTaylor: expected at least one batch of images, got none");
    expect<StateError>(static_cast<bool>(loss), "WeightTaylor: expected a loss, got none");
    const auto each = [&](const auto& f) { // slice, always in this order
        for (const auto& group : graph.groups())
            for (const auto& channel : group.channels) each_slice(channel, options.roles, f);
    };
    std::vector<Combiner> terms;
    for (std::size_t b = 0; b < batches.size(); ++b) {
        const GradientScope<T> scope(net.module);
        const auto logits = [&] {
            const ModeScope<T> inference(net.module, Mode::inference);
            return net.forward(Var<T>(batches[b]));
        }();
        loss(logits, static_cast<Index>(b)).backward();
        std::size_t i = 0;
        each([&](ChannelSlice<T> slice) {
            if (i == terms.size()) terms.emplace_back(Combine::mean);
            terms[i++].add(taylor_term(slice, options.sum));
        });
    }
    std::size_t i = 0;
    return score_groups(graph, [&](const ChannelGroup<T>& group) {
        std::vector<double> scores;
        for (const Channel<T>& channel : group.channels)
            scores.push_back(
                combined(channel, options.roles, options.combine, [&](ChannelSlice<T>) { return terms[i++].value(); }));
        return scores;
    });
}

template <class T> double map_taylor(const ChannelMap<T>& map) {
    if (!map.gradients) return 0; // the loss does not depend on it
    double sum = 0;
    for (Index i = 0; i < map.pixels(); ++i)
        sum += static_cast<double>(map.values[i * map.stride]) * static_cast<double>(map.gradients[i * map.stride]);
    return std::abs(sum) / static_cast<double>(map.pixels());
}

} // namespace pruning::detail

/// First-order Taylor expansion of the loss in the weights: what it would change by, if the filter's were zero.
///
/// For each batch the products of gradient and weight become a number a slice, as `sum` says; of these the mean over
/// batches is taken, and then `combine` of a channel's slices. Gradients of one large batch are the smaller, the better
/// the network is trained: many small batches say more.
/// Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", section 3: `squared` adds up the
/// importance of the weights, `joint_squared` is that of the filter as a whole.
template <class T> struct WeightTaylor {
    Network<T> net;                            ///< whose graph is given to `prepare`: `network(model)`
    std::vector<Tensor<T>> batches = {};       ///< of images [N,H,W,C], as the network is fed
    pruning::BatchLoss<T> loss = {};           ///< of the logits of a batch
    TaylorSum sum = TaylorSum::squared;        ///< of the products of a slice
    ChannelRoles roles = {ChannelRole::makes}; ///< slices that count
    Combine combine = Combine::mean;           ///< of their numbers

    /// As of every criterion. NaN for a channel without such a slice. The network runs in inference mode and is left as
    /// it was, gradients included. @throws ShapeError without a batch, StateError without a loss, when prepared; and
    /// what the loss throws
    /// @{
    std::string name() const {
        const bool is_default = roles == ChannelRoles{ChannelRole::makes} && combine == Combine::mean;
        return pruning::detail::criterion_name("weight Taylor " + to_text(sum), is_default, roles, combine);
    }
    pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return pruning::detail::score_by_weight_taylor<T>(graph, net, batches, loss, {sum, roles, combine});
    }
    /// @}
};

/// First-order Taylor expansion of the loss in the activations: |sum over pixels of gradient times activation| / (H W),
/// mean over images, of the channel's map.
///
/// A loss that is a mean over the batch makes all scores smaller alike, as long as batches are of the same size.
/// Source: Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference", section
/// 2.2; their normalization, l2 over a layer, is the planner's to choose.
template <class T> struct ActivationTaylor {
    Network<T> net;                      ///< as of `ActivationPeak`
    std::vector<Tensor<T>> batches = {}; ///< likewise
    pruning::BatchLoss<T> loss = {};     ///< of the logits of a batch
    Combine combine = Combine::mean;     ///< of the numbers of a channel's maps

    /// As of `ActivationPeak`; gradients, too, are as before. @throws StateError without a loss, when prepared
    /// @{
    std::string name() const { return "activation Taylor"; }
    pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        expect<StateError>(static_cast<bool>(loss), "ActivationTaylor: expected a loss, got none");
        return pruning::detail::score_by_maps<T>(
            {"ActivationTaylor", pruning::detail::map_taylor<T>, Combine::mean, combine, loss}, graph, net, batches);
    }
    /// @}
};

ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_weight_taylor);

} // namespace espalier::inline ESPALIER_BACKEND
