#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/cost.hpp>

#include <cmath>
#include <cstring>
#include <string>

namespace espalier::inline ESPALIER_BACKEND {

/// What a cut proved of itself: the pruned network against the full one with the same channels set to zero.
struct Certificate {
    Index images = 0;                                       ///< random images that both networks were shown
    bool reference_path_bit_equal = false;                  ///< same logits, bit for bit, on `Path::fixed_order`
    double reference_path_max_error = 0;                    ///< largest |difference| / largest |logit| on that path
    double fast_path_max_relative_error = 0;                ///< likewise on `Path::fast`
    Index predicted_macs = 0, counted_macs = 0;             ///< by the plan, and from the pruned network
    Index predicted_parameters = 0, counted_parameters = 0; ///< likewise
    std::string note; ///< what a reader should know, for instance an op that does not keep zero at zero

    /// The fast path regroups sums of fp32 terms; 1e-5 is some eighty roundings of the largest logit.
    static constexpr double fast_tolerance = 1e-5;
    /// Bit-equal on the fixed-order path, within tolerance on the fast one, counts as predicted.
    bool holds() const {
        return reference_path_bit_equal && fast_path_max_relative_error <= fast_tolerance &&
               predicted_macs == counted_macs && predicted_parameters == counted_parameters;
    }
};

/// One line, for people.
std::string to_text(const Certificate& c);

namespace pruning::detail {

template <class T> bool same_bits(const Tensor<T>& a, const Tensor<T>& b) {
    return a.shape() == b.shape() &&
           std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
}
/// Largest |a - b| over largest |a|; infinity when shapes differ or anything is not finite.
template <class T> double relative_error(const Tensor<T>& a, const Tensor<T>& b) {
    if (a.shape() != b.shape()) return HUGE_VAL;
    double worst = 0, largest = 0;
    for (Index i = 0; i < a.size(); ++i) {
        const double difference = std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
        if (!std::isfinite(difference)) return HUGE_VAL;
        worst = std::max(worst, difference);
        largest = std::max(largest, std::abs(static_cast<double>(a.data()[i])));
    }
    return worst == 0 ? 0 : worst / largest;
}

} // namespace pruning::detail
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY std::string to_text(const Certificate& c) {
    return join_text("certificate (", c.holds() ? "holds" : "FAILS", "): masked and pruned network on ", c.images,
                     " images: ", c.reference_path_bit_equal ? "bit-equal" : "NOT bit-equal",
                     " on the fixed-order path",
                     c.reference_path_bit_equal ? "" : join_text(" (", c.reference_path_max_error, " apart)"), ", ",
                     c.fast_path_max_relative_error, " apart on the fast path; MACs predicted ", c.predicted_macs,
                     ", counted ", c.counted_macs, "; parameters predicted ", c.predicted_parameters, ", counted ",
                     c.counted_parameters, c.note.empty() ? "" : "; note: ", c.note);
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
