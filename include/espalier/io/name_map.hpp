#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// How the elements of a foreign tensor lie, and how ours do.
enum class ForeignLayout {
    same,     ///< both alike
    filters,  ///< theirs [K,C,R,S], ours [K,R,S,C]
    flattened ///< theirs [K,C*H*W], ours [K,H*W*C]: a linear layer whose input is a flattened map of `pixels` = H*W
};

/// One line of a name map. A `*` in a name is any text that is not empty, dots included; the first `*` of `theirs` is
/// the text of the first of `ours`, and so on.
struct NameRule {
    std::string theirs; ///< empty: ours has no counterpart; it stays as it is and is not written
    std::string ours;   ///< empty: theirs is of no use here; it is passed over and not written
    ForeignLayout layout = ForeignLayout::same; ///< how theirs is brought to ours
    Index pixels = 1;                           ///< of a flattened map
    std::string subtract = {};                  ///< a foreign tensor: ours = theirs - it. Written back as zeros
};

/// The names and layouts of another framework, as data: which of its tensors is which of a module's.
///
/// Later rules go before earlier ones, so a map is adapted by adding to it:
///
///     es::NameMap map = es::torchvision::resnet();
///     map.pass_over("fc.*").keep("linear.*"); // a head of one's own
///     map.add({.theirs = "neck.*.kernel", .ours = "neck.*.weight", .layout = es::ForeignLayout::filters});
struct NameMap {
    std::vector<NameRule> rules; ///< later ones go before earlier ones

    /// Adds a rule, which goes before all others.
    NameMap& add(NameRule rule) {
        rules.push_back(std::move(rule));
        return *this;
    }
    /// Weight [K,C,R,S] and bias [K] of a convolution, under these names and a dot.
    NameMap& convolution(const std::string& theirs, const std::string& ours) {
        add({.theirs = theirs + ".weight", .ours = ours + ".weight", .layout = ForeignLayout::filters});
        return add({.theirs = theirs + ".bias", .ours = ours + ".bias"});
    }
    /// Weight [K,C] and bias [K] of a linear layer; `pixels` = H*W if its input is a flattened map of more than one.
    NameMap& linear(const std::string& theirs, const std::string& ours, Index pixels = 1) {
        add({.theirs = theirs + ".weight",
             .ours = ours + ".weight",
             .layout = pixels == 1 ? ForeignLayout::same : ForeignLayout::flattened,
             .pixels = pixels});
        return add({.theirs = theirs + ".bias", .ours = ours + ".bias"});
    }
    /// The four vectors [C] of a batch norm in PyTorch's names; its count of batches is passed over. If the convolution
    /// before it has a bias there and none here, `bias` is the name of that bias: batch norm of y + b with the running
    /// mean m is batch norm of y with m - b.
    NameMap& batch_norm(const std::string& theirs, const std::string& ours, const std::string& bias = {}) {
        add({.theirs = theirs + ".weight", .ours = ours + ".gamma"});
        add({.theirs = theirs + ".bias", .ours = ours + ".beta"});
        add({.theirs = theirs + ".running_mean", .ours = ours + ".running_mean", .subtract = bias});
        add({.theirs = theirs + ".running_var", .ours = ours + ".running_var"});
        return pass_over(theirs + ".num_batches_tracked");
    }
    /// Foreign tensors that a module has no use for.
    NameMap& pass_over(const std::string& theirs) { return add({.theirs = theirs, .ours = {}}); }
    /// Tensors of the module that a foreign file need not have.
    NameMap& keep(const std::string& ours) { return add({.theirs = {}, .ours = ours}); }
};

namespace detail {

/// The texts that the `*` of a pattern stand for in a name, each as short as possible; false if the name does not
/// match.
bool match_name(std::string_view pattern, std::string_view name, std::vector<std::string>& stars);
/// A pattern with its `*` replaced. @throws StateError if it has more than there are texts
std::string fill_name(const std::string& pattern, const std::vector<std::string>& stars);

/// The rule for a tensor of ours, its names filled in; all of them are empty if there is none.
NameRule rule_for(const NameMap& map, const std::string& ours);
bool is_passed_over(const NameMap& map, const std::string& theirs);

} // namespace detail

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

ESPALIER_BODY bool match_name(std::string_view pattern, std::string_view name, std::vector<std::string>& stars) {
    const std::size_t plain = pattern.find('*');
    if (plain == std::string_view::npos) return pattern == name;
    if (!name.starts_with(pattern.substr(0, plain))) return false;
    pattern.remove_prefix(plain + 1);
    name.remove_prefix(plain);
    for (std::size_t length = 1; length <= name.size(); ++length) {
        stars.emplace_back(name.substr(0, length));
        if (match_name(pattern, name.substr(length), stars)) return true;
        stars.pop_back();
    }
    return false;
}

ESPALIER_BODY std::string fill_name(const std::string& pattern, const std::vector<std::string>& stars) {
    std::string name;
    std::size_t used = 0;
    for (const char c : pattern) {
        expect<StateError>(c != '*' || used < stars.size(), "NameMap: expected at most ", stars.size(), " * in '",
                           pattern, "', as in the name of ours, got more");
        if (c == '*')
            name += stars[used++];
        else
            name += c;
    }
    return name;
}

ESPALIER_BODY NameRule rule_for(const NameMap& map, const std::string& ours) {
    for (auto rule = map.rules.rbegin(); rule != map.rules.rend(); ++rule) {
        std::vector<std::string> stars;
        if (rule->ours.empty() || !match_name(rule->ours, ours, stars)) continue;
        NameRule filled = *rule;
        filled.theirs = fill_name(rule->theirs, stars);
        filled.ours = ours;
        filled.subtract = fill_name(rule->subtract, stars);
        return filled;
    }
    return {};
}

ESPALIER_BODY bool is_passed_over(const NameMap& map, const std::string& theirs) {
    for (const NameRule& rule : map.rules) {
        std::vector<std::string> stars;
        if (rule.ours.empty() && match_name(rule.theirs, theirs, stars)) return true;
    }
    return false;
}

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
#endif
