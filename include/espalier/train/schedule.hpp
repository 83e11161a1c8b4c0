#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// The learning rate of step 0, 1, 2, ...: a pure function of the step, so a resumed run has it right by construction.
using Schedule = std::function<double(Index step)>;

/// Learning rates by step.
namespace schedules {

namespace detail {
/// From `from` to `to` along half a cosine wave, at `fraction` in [0, 1] of the way.
inline double anneal(double from, double to, double fraction) {
    return to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * std::clamp(fraction, 0.0, 1.0)));
}
} // namespace detail

/// The same rate for ever.
Schedule constant(double learning_rate);

/// A rate that drops at milestones.
struct MultiStep {
    double learning_rate = 0.1;    ///< before the first milestone
    std::vector<Index> milestones; ///< steps from which on the rate is multiplied once more, rising
    double factor = 0.1;           ///< at every milestone
};
/// learning_rate * factor^(milestones reached). @throws ShapeError if the milestones do not rise
Schedule multi_step(MultiStep options);

/// A rate that falls along a cosine.
struct Cosine {
    double learning_rate = 0.1; ///< at step 0
    Index steps = 1;            ///< after which the rate is `last` and stays there
    double last = 0;            ///< at the end
};
/// Half a cosine wave from `learning_rate` down to `last`. @throws ShapeError for less than one step
/// Source: Loshchilov & Hutter 2017, equation 5, without restarts.
Schedule cosine(const Cosine& options);

/// A rate that rises once and falls once.
struct OneCycle {
    double learning_rate = 0.1; ///< the highest
    Index steps = 2;            ///< of the whole run
    double rising = 0.3;        ///< fraction of the steps until the highest rate
    double first_divisor = 25;  ///< the first rate is learning_rate / first_divisor
    double last_divisor = 1e4;  ///< the last rate is the first one / last_divisor
};
/// Half a cosine wave up to the highest rate and another one down to nearly nothing; momentum is left alone.
/// @throws ShapeError if an option is out of range
/// Source: Smith & Topin 2018, in the form of torch.optim.lr_scheduler.OneCycleLR.
Schedule one_cycle(const OneCycle& options);

/// A slow start before another schedule.
struct WarmUp {
    Index steps = 0; ///< until the other schedule holds alone, at least 0
    double from = 0; ///< fraction of the rate that step 0 would have had, in [0, 1]
};
/// The first `steps` rates of `after` multiplied by a line from `from` to 1; later ones are those of `after`.
/// @throws ShapeError if an option is out of range
Schedule warm_up(const WarmUp& options, Schedule after);

} // namespace schedules
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {
namespace schedules {

ESPALIER_BODY Schedule constant(double learning_rate) {
    return [=](Index) { return learning_rate; };
}

ESPALIER_BODY Schedule multi_step(MultiStep options) {
    expect(std::is_sorted(options.milestones.begin(), options.milestones.end()),
           "multi_step: expected rising milestones, got ", options.milestones);
    return [options = std::move(options)](Index step) {
        double rate = options.learning_rate;
        for (const Index milestone : options.milestones)
            if (step >= milestone) rate *= options.factor;
        return rate;
    };
}

ESPALIER_BODY Schedule cosine(const Cosine& options) {
    expect(options.steps >= 1, "cosine: expected at least 1 step, got ", options.steps);
    return [=](Index step) {
        return detail::anneal(options.learning_rate, options.last,
                              static_cast<double>(step) / static_cast<double>(options.steps));
    };
}

ESPALIER_BODY Schedule one_cycle(const OneCycle& options) {
    const double peak = options.rising * static_cast<double>(options.steps) - 1;
    const double end = static_cast<double>(options.steps) - 1;
    expect(peak > 0 && peak < end,
           "one_cycle: expected the highest rate after the first step and before the last, got ", options.rising,
           " of ", options.steps, " steps");
    expect(options.first_divisor > 0 && options.last_divisor > 0, "one_cycle: expected positive divisors, got ",
           options.first_divisor, " and ", options.last_divisor);
    return [=](Index step) {
        const double at = static_cast<double>(step), first = options.learning_rate / options.first_divisor;
        if (at <= peak) return detail::anneal(first, options.learning_rate, at / peak);
        return detail::anneal(options.learning_rate, first / options.last_divisor, (at - peak) / (end - peak));
    };
}

ESPALIER_BODY Schedule warm_up(const WarmUp& options, Schedule after) {
    expect(options.steps >= 0 && options.from >= 0 && options.from <= 1,
           "warm_up: expected steps of at least 0 and a start in [0, 1], got ", options.steps, " and ", options.from);
    return [=, after = std::move(after)](Index step) {
        if (step >= options.steps) return after(step);
        return after(step) *
               (options.from + (1 - options.from) * static_cast<double>(step) / static_cast<double>(options.steps));
    };
}

} // namespace schedules
} // namespace espalier::inline ESPALIER_BACKEND
#endif
