#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/mask.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Which entries of a variable stay: 1, or 0 for those that are to be zero. `Masks` keeps them so in training.
template <class T> struct Mask {
    NamedVar<T> of;            ///< parameter or buffer
    Tensor<std::uint8_t> kept; ///< shaped as it is
};

namespace pruning {

/// Where the entries that stay are chosen from.
enum class MaskScope {
    global, ///< all weights together: sensitive layers keep more
    local,  ///< each weight keeps the same share
};

/// Options of `magnitude_masks`.
struct MagnitudeOptions {
    double keep = 0.1;                   ///< share of the entries that stays, in [0, 1]
    MaskScope scope = MaskScope::global; ///< where they are chosen from
    double keep_of_each = 0;             ///< least share that every weight keeps, in [0, keep]; one entry in any case
};

namespace detail {

/// Marks the `count` largest of some magnitudes; of equal ones the last stay, so that the result is always the same.
inline std::vector<bool> largest(const std::vector<double>& magnitudes, Index count) {
    std::vector<std::size_t> order(magnitudes.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::nth_element(order.begin(), order.end() - count, order.end(), [&](std::size_t a, std::size_t b) {
        return magnitudes[a] != magnitudes[b] ? magnitudes[a] < magnitudes[b] : a < b;
    });
    std::vector<bool> marked(order.size(), false);
    for (auto it = order.end() - count; it != order.end(); ++it) marked[*it] = true;
    return marked;
}

inline Index share_of(Index n, double share) {
    return static_cast<Index>(std::llround(share * static_cast<double>(n)));
}

} // namespace detail

/// Masks of the weights of a model (parameters of two axes or more) that keep the entries of largest magnitude:
/// round(keep * n) of all n entries together, or of each weight's. The shares are those of all entries, zeros included,
/// so masks that follow each other with falling shares never compound. The model is not changed.
/// @throws ShapeError for options out of range, StateError for a weight that is not finite
/// Source: Han et al. 2015, "Learning both Weights and Connections", section 3; Zhu & Gupta 2017, section 3.
template <class T> std::vector<Mask<T>> magnitude_masks(const Module<T>& model, const MagnitudeOptions& options) {
    expect(options.keep >= 0 && options.keep <= 1, "magnitude_masks: expected a share to keep in [0,1], got ",
           options.keep);
    expect(options.keep_of_each >= 0 && options.keep_of_each <= options.keep,
           "magnitude_masks: expected keep_of_each in [0,", options.keep, "], got ", options.keep_of_each);
    std::vector<Mask<T>> masks;
    std::vector<double> all; // of all weights, one after the other
    for (const NamedVar<T>& weight : model.parameters()) {
        if (weight.var.rank() < 2 || weight.var.size() == 0) continue;
        std::vector<double> own;
        for (const T v : weight.var.value()) {
            expect<StateError>(std::isfinite(v), "magnitude_masks: expected finite weights, got ", v, " in '",
                               weight.name, "'");
            own.push_back(std::abs(static_cast<double>(v)));
        }
        Mask<T>& mask = masks.emplace_back(Mask<T>{weight, Tensor<std::uint8_t>(weight.var.shape())});
        const Index n = mask.kept.size();
        const bool is_local = options.scope == MaskScope::local;
        const auto safe = detail::largest(
            own, std::max<Index>(1, detail::share_of(n, is_local ? options.keep : options.keep_of_each)));
        std::copy(safe.begin(), safe.end(), mask.kept.mutable_data());
        for (std::size_t i = 0; i < own.size(); ++i)
            all.push_back(safe[i] ? std::numeric_limits<double>::infinity() : own[i]);
    }
    if (options.scope == MaskScope::local) return masks;
    const auto kept = detail::largest(all, detail::share_of(static_cast<Index>(all.size()), options.keep));
    auto from = kept.begin();
    for (Mask<T>& mask : masks)
        for (Index i = 0; i < mask.kept.size(); ++i) // what is safe stays, even if `keep` alone leaves less
            mask.kept.mutable_data()[i] |= static_cast<std::uint8_t>(*from++);
    return masks;
}

namespace detail {

template <class T> std::vector<Mask<T>> channel_masks(const Plan& plan, const Network<T>& net) {
    const ChannelGraph<T> graph(trace_image(net, plan.image), plan.joins);
    const Removal<T> removal = detail::removal(plan, graph);
    std::vector<Mask<T>> masks;
    std::map<const Node<T>*, std::size_t> known;
    each_silenced(graph, removal, [&](const ChannelMember<T>& m) {
        const auto [it, is_new] = known.try_emplace(m.variable.node().get(), masks.size());
        if (is_new)
            masks.push_back({{m.name, m.variable}, Tensor<std::uint8_t>::full(m.variable.shape(), std::uint8_t(1))});
        fill_slice(m, masks[it->second].kept, std::uint8_t(0));
    });
    return masks;
}

} // namespace detail

/// Masks of everything that makes, scales, shifts or describes the channels that a plan cuts: with them a network
/// trains as the pruned one would, at full size. The model is not changed. @throws StateError if the plan does not fit
/// the model
template <class M> std::vector<Mask<typename M::Scalar>> channel_masks(const Plan& plan, M& model) {
    return detail::channel_masks(plan, network(model));
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::magnitude_masks);
ESPALIER_COMPILED_FUNCTION(pruning::detail::channel_masks);

} // namespace espalier::inline ESPALIER_BACKEND
