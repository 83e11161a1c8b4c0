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
/// Inputs of functions with kinks must stay ten steps away from them. Inputs are on one device, any.
template <class F> GradientCheck check_gradients(F&& f, const std::vector<Tensor<double>>& inputs) {
    GradientCheck result;
    std::vector<Var<double>> vars;
    for (const auto& input : inputs) vars.push_back(parameter(input.clone()));

    const Var<double> y = f(vars);
    const Tensor<double> cotangent = uniform<double>(y.shape(), Random(20210602, "gradient_check"), -1, 1);
    const auto contract = [&](const Tensor<double>& result_of_f, double& scale) {
        const Tensor<double> value = result_of_f.to(Device::cpu);
        double sum = 0;
        scale = 1;
        for (Index i = 0; i < value.size(); ++i) {
            const double term = value.data()[i] * cotangent.data()[i];
            sum += term;
            scale += std::abs(term);
        }
        return sum;
    };
    const auto gradients = [&] {
        y.backward(cotangent.to(y.device()));
        std::vector<std::vector<double>> all;
        for (auto& v : vars) all.push_back((v.grad().defined() ? v.grad() : zeros_like(v.value())).to_vector());
        return all;
    };
    const auto once = gradients(), doubled = gradients();

    for (std::size_t i = 0; i < vars.size() && result.passed(); ++i) {
        Var<double>& v = vars[i];
        const auto original = inputs[i].to_vector(), present = v.value().to_vector();
        Tensor<double> elements = v.mutable_value().reshape({v.size()});
        for (Index e = 0; e < v.size() && result.passed(); ++e) {
            const std::string where = join_text("input ", i, " ", v.shape(), " element ", e);
            const auto at = static_cast<std::size_t>(e);
            const double x = original[at], analytic = once[i][at], twice = doubled[i][at];
            if (present[at] != x) result.failure = "changed its " + where;
            if (!(std::abs(twice - 2 * analytic) <= 1e-12 * std::max(1.0, std::abs(analytic))))
                result.failure = join_text("second backward: expected ", 2 * analytic, ", got ", twice, " at ", where);

            const double step = std::cbrt(2.220446049250313e-16) * std::max(1.0, std::abs(x));
            const NoGrad no_grad;
            double scale = 1, ignored = 1;
            elements.set(x + step, e);
            const double above = contract(f(vars).value(), scale);
            elements.set(x - step, e);
            const double below = contract(f(vars).value(), ignored);
            elements.set(x, e);
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
