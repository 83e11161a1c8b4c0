#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// How the share that is kept falls from 1 to the target k over n steps; after step i it is
enum class Decline {
    linear,    ///< 1 - (1 - k) i / n
    cubic,     ///< k + (1 - k) (1 - i / n)^3: much at first, when much is redundant (Zhu & Gupta 2017, equation 1)
    geometric, ///< k^(i / n): each step takes the same share of what is left
};

/// How a network is pruned step by step.
struct Gradual {
    Index steps = 1;                  ///< at least 1; one step is one-shot pruning
    Decline decline = Decline::cubic; ///< of the share kept
};

/// Share of the original that is kept after step `step` of `by.steps`: 1 after step 0, exactly `target` after the last.
/// @throws ShapeError for a target outside [0,1], less than one step, or a step that is not in [0, steps]
double share_kept(double target, Index step, const Gradual& by);

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

ESPALIER_BODY double share_kept(double target, Index step, const Gradual& by) {
    expect(target >= 0 && target <= 1, "share_kept: expected a target in [0,1], got ", target);
    expect(by.steps >= 1, "share_kept: expected at least 1 step, got ", by.steps);
    expect(step >= 0 && step <= by.steps, "share_kept: expected a step in [0,", by.steps, "], got ", step);
    if (step == by.steps) return target; // without a rounding
    const double way = static_cast<double>(step) / static_cast<double>(by.steps);
    if (by.decline == Decline::linear) return 1 - (1 - target) * way;
    if (by.decline == Decline::geometric) return std::pow(target, way);
    const double rest = 1 - way;
    return target + (1 - target) * rest * rest * rest;
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND
#endif
