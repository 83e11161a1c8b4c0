#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/ops/arithmetic.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

// Clipping comes between backward and update: a trainer's hook before steps.
//
//     options.before_step.push_back([&](const es::Progress&) { norm = es::clip_gradient_norm(parameters, 1); });

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

// As in ops/math.hpp.
template <class T> struct Clamp {
    T limit;
    ESPALIER_HD T operator()(T g) const { return g < -limit ? -limit : g > limit ? limit : g; }
};

/// Replaces the gradient g of each parameter that has one by f(g), element by element.
template <class T, class F> void map_gradients(const std::vector<NamedVar<T>>& parameters, const F& f) {
    for (const NamedVar<T>& parameter : parameters) {
        Var<T> var = parameter.var;
        if (!var.grad().defined()) continue;
        Tensor<T> g = empty_like(var.grad());
        dispatch(var.device(), [&](auto on) { kernels::elementwise(on, f, mutable_strided(g), strided(var.grad())); });
        var.clear_grad();
        var.node()->add_grad(std::move(g));
    }
}

} // namespace detail

/// Scales all gradients by one factor, so that their common norm is at most `limit`: g *= min(1, limit / |g|), where
/// |g| = sqrt(sum of the squares of all elements of all gradients), summed in double in a fixed order.
///
/// @return |g| before, which parameters without a gradient do not enter
/// @throws ShapeError unless the limit is positive; StateError, with nothing changed, if |g| is not finite
/// Source: Pascanu, Mikolov & Bengio 2013, algorithm 1.
template <class T> double clip_gradient_norm(const std::vector<NamedVar<T>>& parameters, double limit) {
    expect(limit > 0, "clip_gradient_norm: expected a positive limit, got ", limit);
    double sum = 0;
    for (const auto& [name, var] : parameters) {
        if (!var.grad().defined()) continue;
        const auto all = detail::axis_set("clip_gradient_norm", var.shape(), detail::all_axes(var.shape()));
        sum += detail::reduce<double>(all, detail::Square(), std::identity(), var.grad()).item();
        expect<StateError>(std::isfinite(sum), "clip_gradient_norm: expected a finite norm, got ", std::sqrt(sum),
                           " at the gradient of '", name, "'");
    }
    const double norm = std::sqrt(sum);
    if (norm > limit) detail::map_gradients(parameters, detail::Times<T>{static_cast<T>(limit / norm)});
    return norm;
}

/// Moves every element of every gradient to the nearest number in [-limit, limit].
///
/// @return the largest |element| before, 0 if there is none
/// @throws ShapeError unless the limit is positive; StateError, with nothing changed, if an element is not finite
template <class T> double clip_gradient_values(const std::vector<NamedVar<T>>& parameters, double limit) {
    expect(limit > 0, "clip_gradient_values: expected a positive limit, got ", limit);
    T largest = 0;
    for (const auto& [name, var] : parameters) {
        if (!var.grad().defined()) continue;
        const Tensor<T> gradient = var.grad().to(Device::cpu);
        for (const T g : gradient) {
            expect<StateError>(std::isfinite(g), "clip_gradient_values: expected finite gradients, got ", g, " for '",
                               name, "'");
            largest = std::max(largest, std::abs(g));
        }
    }
    const double before = static_cast<double>(largest);
    if (before > limit) detail::map_gradients(parameters, detail::Clamp<T>{static_cast<T>(limit)});
    return before;
}

ESPALIER_COMPILED_FUNCTION(clip_gradient_norm);
ESPALIER_COMPILED_FUNCTION(clip_gradient_values);

} // namespace espalier::inline ESPALIER_BACKEND
