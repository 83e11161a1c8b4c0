#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// Whether channels compete with those of all groups or each group loses the same share.
enum class Ranking { global, local };

/// How scores of different groups are made comparable before they are ranked together. s: the scores of a group.
enum class Normalization {
    none,     ///< as they are
    mean,     ///< s / mean(s)
    max,      ///< s / max(s): a threshold of 0.01 is then 1 % of the layer's largest
    sum,      ///< s / sum(s): channels of wide groups go first
    standard, ///< (s - min(s)) / (max(s) - min(s)): 0 for each group's least, 1 for its largest
    gaussian, ///< (s - mean(s)) / deviation(s), the deviation with n - 1: scores may be negative
};

/// Groups whose channels compete among themselves, and what holds for them alone.
///
/// Scopes without a ratio lose the same share each, as far as the plan's target asks; what is in no scope competes as
/// `PlanOptions::ranking` says.
struct Scope {
    std::string groups;                ///< a glob of their names, `stage1.*`; and what errors call the scope
    std::optional<double> ratio = {};  ///< share of its channels to cut, in [0, 1], whatever the target asks of others
    Ranking ranking = Ranking::global; ///< within the scope
    std::optional<Index> minimum_width = {};  ///< instead of the plan's
    std::optional<double> maximum_ratio = {}; ///< instead of the plan's
    std::function<bool(const std::string&)> holds =
        {}; ///< tells by its name whether a group belongs, instead of the glob
};

/// Whether a name matches a glob, in which `*` stands for any text, `?` for one character, and the rest for itself.
bool matches(std::string_view glob, std::string_view name);

/// Scores of one group, made comparable with those of others. A divisor of 0 counts as 1, so equal scores stay finite.
std::vector<double> normalized(std::vector<double> scores, Normalization normalization);

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <algorithm>
#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

ESPALIER_BODY bool matches(std::string_view glob, std::string_view name) {
    std::size_t g = 0, n = 0, star = std::string_view::npos, resume = 0; // of the last star, and where its text ends
    while (n < name.size()) {
        if (g < glob.size() && glob[g] == '*') {
            star = g++;
            resume = n;
        } else if (g < glob.size() && (glob[g] == '?' || glob[g] == name[n])) {
            ++g, ++n;
        } else if (star != std::string_view::npos) {
            g = star + 1;
            n = ++resume;
        } else {
            return false;
        }
    }
    return glob.find_first_not_of('*', g) == std::string_view::npos;
}

ESPALIER_BODY std::vector<double> normalized(std::vector<double> scores, Normalization normalization) {
    if (scores.empty() || normalization == Normalization::none) return scores;
    const double count = static_cast<double>(scores.size());
    const auto [least, largest] = std::minmax_element(scores.begin(), scores.end());
    double sum = 0, squares = 0;
    for (const double s : scores) sum += s;
    for (const double s : scores) squares += (s - sum / count) * (s - sum / count);
    double shift = 0, unit = 1;
    switch (normalization) {
    case Normalization::none: break;
    case Normalization::mean: unit = sum / count; break;
    case Normalization::max: unit = *largest; break;
    case Normalization::sum: unit = sum; break;
    case Normalization::standard: shift = *least, unit = *largest - *least; break;
    case Normalization::gaussian: shift = sum / count, unit = std::sqrt(squares / std::max(1.0, count - 1)); break;
    }
    if (!(unit > 0)) unit = 1;
    for (double& s : scores) s = (s - shift) / unit;
    return scores;
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND
#endif
