#pragma once

#include <espalier/regularizers/coupled_channels.hpp>

#include <algorithm>
#include <utility>

namespace espalier::inline ESPALIER_BACKEND {

/// How fast `GrowingL2` grows.
struct GrowingL2Options {
    double increment = 1e-4; ///< of the strength, at least 0
    Index every = 10;        ///< steps between increments, at least 1
    double ceiling = 1;      ///< of the strength, at least 0
};

/// Growing regularization: an l2 penalty, on the channels that were chosen for removal alone, whose strength rises
/// until they are gone; the others take over meanwhile, and cutting then changes little.
///
///     const auto plan = es::pruning::plan(model, image, {.keep_macs = 0.5});       // chooses
///     const es::GrowingL2<float> grow(es::pruning::coupled_channels(plan, model)); // a step: loss + grow(step)
///     es::pruning::apply(plan, model, &optimizer);                                 // cuts the same channels
///
/// It has no state, so that a resumed run needs none.
/// Source: Wang et al. 2021, "Neural Pruning via Growing Regularization" (arXiv 2012.09243), GReg-1.
template <class T> class GrowingL2 {
public:
    /// @throws ShapeError for an option out of range
    explicit GrowingL2(CoupledChannels<T> chosen, const GrowingL2Options& options = {})
        : chosen_(std::move(chosen)), options_(options) {
        expect(options.increment >= 0 && options.every >= 1 && options.ceiling >= 0,
               "GrowingL2: expected increment and ceiling of at least 0 and an interval of at least 1 step, got ",
               options.increment, ", ", options.ceiling, " and ", options.every);
    }

    /// Of a step, counted from 0: min(ceiling, increment * (1 + step / every)), the quotient being a whole number.
    double strength(Index step) const {
        return std::min(options_.ceiling, options_.increment * static_cast<double>(1 + step / options_.every));
    }
    /// y = strength / 2 * sum of v^2 over the entries of all chosen channels: as weight decay `strength` of theirs.
    /// @throws ShapeError if surgery has changed their variables since
    Var<T> operator()(Index step) const {
        if (strength(step) < options_.ceiling) holds_for(options_.every - step % options_.every);
        detail::check_channels("GrowingL2", chosen_);
        const auto maps = detail::maps_of(chosen_);
        const Tensor<double> sums = detail::channel_sums(chosen_, *maps, Norm::squared_l2);
        const auto weights = Tensor<double>::full(sums.shape(), strength(step) / 2, sums.device());
        return detail::penalise(chosen_, maps, sums, weights, Norm::squared_l2);
    }
    /// What shrinks: `channel_norms` of it says how far it has come.
    const CoupledChannels<T>& chosen() const { return chosen_; }

private:
    CoupledChannels<T> chosen_;
    GrowingL2Options options_;
};

} // namespace espalier::inline ESPALIER_BACKEND
