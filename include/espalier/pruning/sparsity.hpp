#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/module.hpp>

#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// How much of one weight is exactly zero, entry by entry and slice by slice.
struct WeightSparsity {
    std::string name;      ///< of the parameter
    Shape shape;           ///< [K,R,S,C] or [K,C]
    Index zeros = 0;       ///< entries that are zero
    Index zero_makers = 0; ///< slices [R,S,C] of the first axis that are zero: filters that make nothing
    Index zero_eaters = 0; ///< slices [K,R,S] of the last axis that are zero: inputs that nobody reads
};

/// Sparsity of all weights of a model, those of two axes or more, in order.
template <class T> std::vector<WeightSparsity> sparsity(const Module<T>& model) {
    std::vector<WeightSparsity> all;
    for (const auto& [name, var] : model.parameters()) {
        if (var.rank() < 2) continue;
        WeightSparsity& s = all.emplace_back(WeightSparsity{name, var.shape()});
        const Index K = var.size(0), C = var.size(-1), inner = var.shape().product(1, var.rank());
        std::vector<bool> makes(static_cast<std::size_t>(K), false), eats(static_cast<std::size_t>(C), false);
        const Tensor<T> weight = var.value().to(Device::cpu);
        for (Index i = 0; i < var.size(); ++i) {
            if (weight.data()[i] == T(0)) {
                ++s.zeros;
                continue;
            }
            makes[static_cast<std::size_t>(i / inner)] = true;
            eats[static_cast<std::size_t>(i % C)] = true;
        }
        for (const bool used : makes) s.zero_makers += !used;
        for (const bool used : eats) s.zero_eaters += !used;
    }
    return all;
}

/// A table with a row a weight and one for all: entries, zeros, filters and inputs that are zero as a whole, shares.
std::string to_text(const std::vector<WeightSparsity>& weights);
/// The same numbers without the row for all, as CSV: `weight,entries,zeros,makers,zero_makers,eaters,zero_eaters`.
std::string to_csv(const std::vector<WeightSparsity>& weights);

ESPALIER_COMPILED_FUNCTION(sparsity);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/core/table.hpp>

#include <algorithm>
#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY std::string to_text(const std::vector<WeightSparsity>& weights) {
    const auto percent = [](Index part, Index whole) {
        return join_text(
            std::round(1000 * static_cast<double>(part) / static_cast<double>(std::max<Index>(1, whole))) / 10, " %");
    };
    Table table({"weight", "shape", "entries", "zero", "", "filters", "zero", "", "inputs", "zero", ""});
    const auto row = [&](const std::string& name, const std::string& shape, Index entries, Index zeros, Index makers,
                         Index zero_makers, Index eaters, Index zero_eaters) {
        table.row({name, shape, to_text(entries), to_text(zeros), percent(zeros, entries), to_text(makers),
                   to_text(zero_makers), percent(zero_makers, makers), to_text(eaters), to_text(zero_eaters),
                   percent(zero_eaters, eaters)});
    };
    Index entries = 0, zeros = 0, makers = 0, zero_makers = 0, eaters = 0, zero_eaters = 0;
    for (const WeightSparsity& s : weights) {
        row(s.name, join_text(s.shape), s.shape.size(), s.zeros, s.shape[0], s.zero_makers, s.shape.back(),
            s.zero_eaters);
        entries += s.shape.size();
        zeros += s.zeros;
        makers += s.shape[0];
        zero_makers += s.zero_makers;
        eaters += s.shape.back();
        zero_eaters += s.zero_eaters;
    }
    row("all", "-", entries, zeros, makers, zero_makers, eaters, zero_eaters);
    return table.text();
}

ESPALIER_BODY std::string to_csv(const std::vector<WeightSparsity>& weights) {
    std::string text = "weight,entries,zeros,makers,zero_makers,eaters,zero_eaters\n";
    for (const WeightSparsity& s : weights)
        text += join_text(s.name, ",", s.shape.size(), ",", s.zeros, ",", s.shape[0], ",", s.zero_makers, ",",
                          s.shape.back(), ",", s.zero_eaters, "\n");
    return text;
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
