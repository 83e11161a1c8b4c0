#pragma once

#include <espalier/ops/feature_flow.hpp>

#include <algorithm>

namespace espalier::inline ESPALIER_BACKEND {

/// Feature flow regularization: a loss term that makes features evolve smoothly from layer to layer.
///
///     const es::FeatureFlow regularize({.gradient = 0.1, .curvature = 0.1}, 1000);
///     loss = cross_entropy(out.logits, labels) + regularize(out.flow, step);
///
/// This is the regularizer of Wu et al. 2021 (arXiv 2106.02914) as reconstructed from its abstract, candidate A: first
/// and second differences of consecutive features under a norm that is not squared. What the abstract leaves open is an
/// option; its coefficients are not published. It has no state, so that a resumed run needs none.
class FeatureFlow {
public:
    /// During the first `warm_up` steps both weights grow linearly from 0.
    /// @throws ShapeError if a weight or `warm_up` is negative
    explicit FeatureFlow(const FeatureFlowOptions& options, Index warm_up = 0) : options_(options), warm_up_(warm_up) {
        expect(options.gradient >= 0 && options.curvature >= 0, "FeatureFlow: expected weights of at least 0, got ",
               options.gradient, " and ", options.curvature);
        expect(warm_up >= 0, "FeatureFlow: expected a warm-up of at least 0 steps, got ", warm_up);
    }

    /// Share of the weights that holds at a step: min(1, step / warm_up).
    double strength(Index step) const {
        return step >= warm_up_ ? 1 : std::max(0.0, static_cast<double>(step) / static_cast<double>(warm_up_));
    }
    /// The weighted term of one batch, a scalar, at full strength.
    template <class T> Var<T> operator()(const Flow<T>& flow) const { return feature_flow(flow, options_); }
    /// As above with the strength of a training step, counted from 0.
    template <class T> Var<T> operator()(const Flow<T>& flow, Index step) const {
        FeatureFlowOptions now = options_;
        if (step < warm_up_) holds_for(1);
        now.gradient *= strength(step);
        now.curvature *= strength(step);
        return feature_flow(flow, now);
    }

    /// The weights at full strength, and the choices.
    const FeatureFlowOptions& options() const { return options_; }

private:
    FeatureFlowOptions options_;
    Index warm_up_;
};

} // namespace espalier::inline ESPALIER_BACKEND
