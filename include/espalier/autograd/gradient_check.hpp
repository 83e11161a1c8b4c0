#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/tensor/random.hpp>

#include <algorithm>
#include <cmath>
#include <string>

namespace espalier::inline ESPALIER_BACKEND {

/// What `check_gradients` found: empty text means that all gradients agree.
struct GradientCheck {
    std::string failure; ///< where, what was expected and got
    double worst = 0;    ///< largest |analytic - numeric| / allowed
    /// All gradients agree.
    bool passed() const { return failure.empty(); }
};

/// Compares the gradients of `f` with central differences, in double, at every element of every input.
///
/// `f` takes `std::vector<Var<double>>&` and returns a `Var<double>` of any shape, which is contracted with a fixed
/// random cotangent. The step is cbrt(eps) * max(1, |x|), where truncation and rounding balance. An element passes when
/// |a - n| <= 1e-9 * scale + 1e-6 * max(|a|, |n|), `scale` being the sum of the absolute contracted terms, at least 1.
/// Also checks that the inputs are unchanged and that a second backward doubles the gradient.
/// Inputs of functions with kinks must stay ten steps away from them.
template <class F> GradientCheck check_gradients(F&& f, const std::vector<Tensor<double>>& inputs) {
    GradientCheck result;
    std::vector<Var<double>> vars;
    for (const auto& input : inputs) vars.push_back(parameter(input.clone()));

    const Var<double> y = f(vars);
    const Tensor<double> cotangent = uniform<double>(y.shape(), Random(20210602, "gradient_check"), -1, 1);
    const auto contract = [&](const Tensor<double>& value, double& scale) {
        double sum = 0;
        scale = 1;
        for (Index i = 0; i < value.size(); ++i) {
            const double term = value.data()[i] * cotangent.data()[i];
            sum += term;
            scale += std::abs(term);
        }
        return sum;
    };
    y.backward(cotangent);
    std::vector<Tensor<double>> once;
    for (auto& v : vars) once.push_back(v.grad().defined() ? v.grad().clone() : zeros_like(v.value()));
    y.backward(cotangent);

    for (std::size_t i = 0; i < vars.size() && result.passed(); ++i) {
        Var<double>& v = vars[i];
        for (Index e = 0; e < v.size() && result.passed(); ++e) {
            const std::string where = join_text("input ", i, " ", v.shape(), " element ", e);
            const double x = inputs[i].data()[e], analytic = once[i].data()[e];
            if (v.value().data()[e] != x) result.failure = "changed its " + where;
            const double twice = v.grad().defined() ? v.grad().data()[e] : 0;
            if (!(std::abs(twice - 2 * analytic) <= 1e-12 * std::max(1.0, std::abs(analytic))))
                result.failure = join_text("second backward: expected ", 2 * analytic, ", got ", twice, " at ", where);

            const double step = std::cbrt(2.220446049250313e-16) * std::max(1.0, std::abs(x));
            const NoGrad no_grad;
            double scale = 1, ignored = 1;
            v.mutable_value().mutable_data()[e] = x + step;
            const double above = contract(f(vars).value(), scale);
            v.mutable_value().mutable_data()[e] = x - step;
            const double below = contract(f(vars).value(), ignored);
            v.mutable_value().mutable_data()[e] = x;
            const double numeric = (above - below) / (2 * step);
            const double allowed = 1e-9 * scale + 1e-6 * std::max(std::abs(analytic), std::abs(numeric));
            const double error = std::abs(analytic - numeric);
            if (!(error <= allowed))
                result.failure =
                    join_text("expected ", numeric, ", got ", analytic, " at ", where, " (allowed ", allowed, ")");
            result.worst = std::max(result.worst, error / allowed);
        }
    }
    return result;
}

} // namespace espalier::inline ESPALIER_BACKEND
