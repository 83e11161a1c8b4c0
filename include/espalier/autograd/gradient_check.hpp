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

/// What `check_gradients` moves its inputs along.
struct GradientCheckOptions {
    int directions = 0; ///< 0: each element of each input by itself; else so many random directions of each input
};

namespace detail {

inline Tensor<double> unit_direction(const Shape& shape, Index element) {
    auto d = Tensor<double>::zeros(shape);
    d.mutable_data()[element] = 1;
    return d;
}
// Of length 1, so that a step errs as one along an element does.
inline Tensor<double> random_direction(const Shape& shape, std::size_t input, Index k) {
    auto d = uniform<double>(shape, Random(20210602, join_text("direction ", k, " of input ", input)), -1, 1);
    double squares = 0;
    for (const double e : d) squares += e * e;
    for (Index e = 0; e < d.size(); ++e) d.mutable_data()[e] /= std::sqrt(squares);
    return d;
}

} // namespace detail

/// Compares the gradients of `f` with central differences, in double, at every element of every input.
///
/// Along a random direction all elements of an input move at once, each about as far as its share of a step: a wrong
/// element shows with far fewer calls of `f`, but not which it is.
/// `f` takes `std::vector<Var<double>>&` and returns a `Var<double>` of any shape, which is contracted with a fixed
/// random cotangent. The step is cbrt(eps) * max(1, |x|), where truncation and rounding balance. An element passes when
/// |a - n| <= 1e-9 * scale + 1e-6 * max(|a|, |n|), `scale` being the sum of the absolute contracted terms, at least 1.
/// Also checks that the inputs are unchanged and that a second backward doubles the gradient.
/// Inputs of functions with kinks must stay ten steps away from them. Inputs are on one device, any.
template <class F>
GradientCheck check_gradients(F&& f, const std::vector<Tensor<double>>& inputs,
                              const GradientCheckOptions& options = {}) {
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
        for (std::size_t e = 0; e < original.size() && result.passed(); ++e) {
            const std::string where = join_text("input ", i, " ", v.shape(), " element ", e);
            const double analytic = once[i][e], twice = doubled[i][e];
            if (present[e] != original[e]) result.failure = "changed its " + where;
            if (!(std::abs(twice - 2 * analytic) <= 1e-12 * std::max(1.0, std::abs(analytic))))
                result.failure = join_text("second backward: expected ", 2 * analytic, ", got ", twice, " at ", where);
        }
        const Index many = options.directions > 0 ? std::min<Index>(options.directions, v.size()) : v.size();
        for (Index k = 0; k < many && result.passed(); ++k) {
            const Tensor<double> direction = options.directions > 0 ? detail::random_direction(v.shape(), i, k)
                                                                    : detail::unit_direction(v.shape(), k);
            double largest = 1, analytic = 0;
            for (Index e = 0; e < v.size(); ++e) {
                const double d = direction.data()[e];
                if (d == 0) continue;
                largest = std::max(largest, std::abs(original[static_cast<std::size_t>(e)]));
                analytic += d * once[i][static_cast<std::size_t>(e)];
            }
            const double step = std::cbrt(2.220446049250313e-16) * largest;
            const auto moved = [&](double by) {
                Tensor<double> x = inputs[i].to(Device::cpu).clone();
                for (Index e = 0; e < x.size(); ++e) x.mutable_data()[e] += by * direction.data()[e];
                return x;
            };
            const NoGrad no_grad;
            double scale = 1, ignored = 1;
            v.mutable_value().copy_from(moved(step));
            const double above = contract(f(vars).value(), scale);
            v.mutable_value().copy_from(moved(-step));
            const double below = contract(f(vars).value(), ignored);
            v.mutable_value().copy_from(inputs[i]);
            const double numeric = (above - below) / (2 * step);
            const double allowed = 1e-9 * scale + 1e-6 * std::max(std::abs(analytic), std::abs(numeric));
            const double error = std::abs(analytic - numeric);
            if (!(error <= allowed))
                result.failure =
                    join_text("expected ", numeric, ", got ", analytic, " at input ", i, " ", v.shape(),
                              options.directions > 0 ? " direction " : " element ", k, " (allowed ", allowed, ")");
            result.worst = std::max(result.worst, error / allowed);
        }
    }
    return result;
}

} // namespace espalier::inline ESPALIER_BACKEND
