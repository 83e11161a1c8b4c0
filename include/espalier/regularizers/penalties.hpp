#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/ops/arithmetic.hpp>

#include <cmath>
#include <string_view>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
template <class T> Var<T> sum_of_norms(const std::vector<Var<T>>& variables, Norm kind, Device device) {
    Var<T> total(Tensor<T>::scalar(T(0), device));
    for (const Var<T>& variable : variables) total = total + norm(variable, kind);
    return total;
}
template <class T> Device device_of(const std::vector<Var<T>>& variables) {
    return variables.empty() ? Device::cpu : variables.front().device();
}
} // namespace detail

/// The parameters of a model that have at least two axes: weights of convolutions and linear layers, in order.
template <class T> std::vector<Var<T>> weights_of(const Module<T>& model) {
    std::vector<Var<T>> weights;
    for (const auto& [name, var] : model.parameters())
        if (var.rank() >= 2) weights.push_back(var);
    return weights;
}
/// The scales of a model's batch norms: its parameters named `gamma`, in order.
template <class T> std::vector<Var<T>> batch_norm_scales_of(const Module<T>& model) {
    std::vector<Var<T>> scales;
    for (const auto& [name, var] : model.parameters())
        if (const std::string_view last = std::string_view(name).substr(name.rfind('.') + 1); last == "gamma")
            scales.push_back(var);
    return scales;
}

/// y = sum over variables and elements of |v|, a scalar; 0 for no variables. The gradient at 0 is 0.
template <class T> Var<T> l1_penalty(const std::vector<Var<T>>& variables) {
    return detail::sum_of_norms(variables, Norm::l1, detail::device_of(variables));
}
/// y = sum over variables and elements of v^2. Weight decay d of an optimizer is d / 2 times this.
template <class T> Var<T> squared_l2_penalty(const std::vector<Var<T>>& variables) {
    return detail::sum_of_norms(variables, Norm::squared_l2, detail::device_of(variables));
}

/// y = sum over batch norms and channels of |gamma|.
/// Source: network slimming, Liu et al. 2017 (arXiv 1708.06519), equation 1.
template <class T> Var<T> batch_norm_scale_penalty(const Module<T>& model) {
    return detail::sum_of_norms(batch_norm_scales_of(model), Norm::l1, model.device());
}

/// How much a group counts in a group lasso.
enum class GroupWeight {
    one,
    root_of_size, ///< the square root of its number of elements, so that large filters are not favoured
};
/// y = sum over convolutions and their filters k of weight_k * |w_k|_2, where w_k [R,S,C]; drives whole filters to 0.
///
/// The gradient of a filter that is exactly 0 is 0. Source: Yuan & Lin 2006; for filters Wen et al. 2016
/// (arXiv 1608.03665), equation 3.
template <class T> Var<T> group_lasso(const Module<T>& model, GroupWeight weight = GroupWeight::root_of_size) {
    Var<T> total(Tensor<T>::scalar(T(0), model.device()));
    for (const Var<T>& filters : weights_of(model)) {
        if (filters.rank() != 4) continue;
        const auto size = static_cast<double>(filters.shape().product(1, 4));
        const Var<T> norms = sum(norm(filters, {1, 2, 3}, Norm::l2));
        total = total + (weight == GroupWeight::one ? norms : std::sqrt(size) * norms);
    }
    return total;
}

ESPALIER_COMPILED_FUNCTION(detail::sum_of_norms);
ESPALIER_COMPILED_FUNCTION(group_lasso);

} // namespace espalier::inline ESPALIER_BACKEND
