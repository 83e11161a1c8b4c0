#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/io/module_state.hpp>
#include <espalier/io/name_map.hpp>
#include <espalier/tensor/swap_axes.hpp>

#include <algorithm>
#include <functional>
#include <unordered_set>

namespace espalier::inline ESPALIER_BACKEND {

/// What became of one tensor in a comparison.
enum class Fit {
    fits,
    kept,        ///< ours needs no counterpart
    passed_over, ///< theirs is of no use
    missing,     ///< ours has a name there, and the file does not
    unmapped,    ///< no rule speaks of ours
    unexpected,  ///< ours of no tensor, and not passed over
    other_shape,
    other_type ///< not ours, or not to be converted into it
};

/// Whether it keeps a file from being loaded.
inline bool is_problem(Fit fit) { return fit != Fit::fits && fit != Fit::kept && fit != Fit::passed_over; }

/// One line of a report: a tensor of the file, one of the module, or both.
struct StateMatch {
    std::string theirs, ours;                   ///< names; empty where there is none
    std::string type;                           ///< of theirs, as safetensors calls it
    Shape their_shape, wanted_shape, our_shape; ///< wanted: what theirs should have been
    Fit fit = Fit::fits;                        ///< what became of it
};

/// Every name and shape of a foreign file beside those of a module: why it loads, or why it does not.
struct StateReport {
    std::string source;              ///< the file
    std::vector<StateMatch> matches; ///< one a tensor, theirs or ours

    /// Whether `import_state` would load it.
    bool fits() const {
        return std::none_of(matches.begin(), matches.end(), [](const StateMatch& m) { return is_problem(m.fit); });
    }
};

/// In words: `missing in the file`.
std::string to_text(Fit fit);
/// A table with a line a tensor: name and shape there, name and shape here, and what became of it.
std::string to_text(const StateReport& report);

namespace detail {

/// Whether a rule's layout can describe a tensor of ours.
inline bool describes(const NameRule& rule, const Shape& ours) {
    if (rule.layout == ForeignLayout::filters) return ours.rank() == 4;
    if (rule.layout == ForeignLayout::flattened)
        return ours.rank() == 2 && rule.pixels >= 1 && ours[1] % rule.pixels == 0;
    return true;
}
/// Shape that the foreign tensor must have.
inline Shape foreign_shape(const NameRule& rule, const Shape& ours) {
    return rule.layout == ForeignLayout::filters ? Shape{ours[0], ours[3], ours[1], ours[2]} : ours;
}
/// Ours as [K,pixels,C]. Theirs are [K,C,pixels].
inline Shape by_pixel(const NameRule& rule, const Shape& ours) {
    return rule.layout == ForeignLayout::filters ? Shape{ours[0], ours[1] * ours[2], ours[3]}
                                                 : Shape{ours[0], rule.pixels, ours[1] / rule.pixels};
}
template <class T> Tensor<T> to_ours(const NameRule& rule, const Tensor<T>& theirs, const Shape& ours) {
    if (rule.layout == ForeignLayout::same) return theirs;
    const Shape s = by_pixel(rule, ours);
    return swap_axes(theirs.reshape({s[0], s[2], s[1]})).reshape(ours);
}
template <class T> Tensor<T> to_theirs(const NameRule& rule, const Tensor<T>& ours) {
    if (rule.layout == ForeignLayout::same) return ours;
    return swap_axes(ours.reshape(by_pixel(rule, ours.shape()))).reshape(foreign_shape(rule, ours.shape()));
}

/// Parameters and buffers by name, without the constants of joins.
/// @throws StateError if a join is indexed, which no other framework's names can say
template <class T> std::vector<NamedVar<T>> plain_state(const char* who, const Module<T>& module) {
    std::unordered_set<std::string> constants;
    for (const auto& [name, join] : module.joins()) {
        expect<StateError>(!join->indexed(), who, ": expected a network whose joins are dense, got '", name, "' with ",
                           join->kept.size(), " channels kept");
        constants.insert(constant_name(name));
    }
    std::vector<NamedVar<T>> vars;
    for (const auto& list : {module.parameters(), module.buffers()})
        for (const auto& named : list)
            if (!constants.contains(named.name)) vars.push_back(named);
    return vars;
}

inline bool loads_as(const std::string& type, const std::string& ours, Precision precision) {
    if (type == ours) return true;
    return precision == Precision::converted && (type == "F32" || type == "F64" || type == "F16" || type == "BF16");
}

} // namespace detail

/// What `import_state` of these arguments would do, tensor by tensor: the module's in its order, then what else there
/// is.
template <class T>
StateReport compare_state(const TensorFile& file, const Module<T>& module, const NameMap& map,
                          Precision precision = Precision::exact) {
    StateReport report{file.source(), {}};
    std::unordered_set<std::string> used;
    const auto match = [&](const std::string& theirs, const std::string& ours, const Shape& wanted,
                           const Shape& shape) {
        StateMatch m{theirs, ours, {}, {}, wanted, shape};
        used.insert(theirs);
        if (file.contains(theirs)) {
            m.type = file.type(theirs);
            m.their_shape = file.shape(theirs);
            if (m.their_shape != wanted) m.fit = Fit::other_shape;
            if (!detail::loads_as(m.type, detail::element_type_name<T>, precision)) m.fit = Fit::other_type;
        } else {
            m.fit = Fit::missing;
        }
        report.matches.push_back(m);
    };
    for (const auto& [name, var] : detail::plain_state("compare_state", module)) {
        const NameRule rule = detail::rule_for(map, name);
        if (rule.theirs.empty()) {
            const Fit fit = rule.ours.empty() ? Fit::unmapped : Fit::kept;
            report.matches.push_back({"", name, "", {}, {}, var.shape(), fit});
            continue;
        }
        expect<StateError>(detail::describes(rule, var.shape()), "compare_state: expected '", name, "' to be ",
                           rule.layout == ForeignLayout::filters ? "filters [K,R,S,C]"
                                                                 : join_text("[K,H*W*C] with ", rule.pixels, " pixels"),
                           " by its rule, got ", var.shape());
        match(rule.theirs, name, detail::foreign_shape(rule, var.shape()), var.shape());
        if (!rule.subtract.empty()) match(rule.subtract, name, var.shape(), var.shape());
    }
    for (const auto& [name, tensor] : file.entries())
        if (!used.contains(name))
            report.matches.push_back({name,
                                      "",
                                      file.type(name),
                                      file.shape(name),
                                      {},
                                      {},
                                      detail::is_passed_over(map, name) ? Fit::passed_over : Fit::unexpected});
    return report;
}

/// Gives a module the parameters and buffers of another framework's file: names and layouts by the map, PyTorch's
/// order of axes into ours. Shapes must be the module's; its joins must be dense.
///
/// All or nothing. `compare_state` says for each tensor what fits and what does not.
/// @throws StateError naming the first few that do not fit; the module is then unchanged
template <class T>
void import_state(const TensorFile& file, const Module<T>& module, const NameMap& map,
                  Precision precision = Precision::exact) {
    const StateReport report = compare_state(file, module, map, precision);
    std::vector<std::string> problems;
    for (const StateMatch& m : report.matches)
        if (is_problem(m.fit))
            problems.push_back(join_text("'", m.theirs.empty() ? m.ours : m.theirs, "' ", m.fit,
                                         m.fit == Fit::other_shape
                                             ? join_text(" ", m.their_shape, " for ", m.wanted_shape)
                                         : m.fit == Fit::other_type ? " " + m.type
                                                                    : ""));
    expect<StateError>(problems.empty(), "import_state: expected every tensor to fit, got ",
                       detail::first_few(problems), " in ", file.source(), "; compare_state tells all");

    TensorFile ours(file.source());
    save_state(ours, module); // handles of what stays as it is
    TensorFile translated(file.source());
    for (const auto& [name, tensor] : ours.entries()) {
        const NameRule rule = detail::rule_for(map, name);
        if (rule.theirs.empty() || !file.contains(rule.theirs)) { // kept, or of a dense join
            translated.add(name, tensor);
            continue;
        }
        Tensor<T> value = detail::to_ours(rule, file.get_converted<T>(rule.theirs), ours.shape(name));
        if (!rule.subtract.empty()) {
            const Tensor<T> whole = value, less = file.get_converted<T>(rule.subtract);
            value = empty_like(whole);
            std::transform(whole.begin(), whole.end(), less.begin(), value.mutable_data(), std::minus<T>());
        }
        translated.add(name, std::move(value));
    }
    load_state(translated, module);
}

/// A module's parameters and buffers in another framework's names and layouts: `import_state` the other way.
///
/// Tensors that the layout leaves alone share memory with the module: write the file before the next step changes them.
/// Widths may be those of a pruned network, but its joins must be dense.
/// @throws StateError if the map has no rule for a tensor, or one that does not describe it
template <class T> TensorFile export_state(const Module<T>& module, const NameMap& map) {
    TensorFile file("the exported state");
    for (const auto& [name, var] : detail::plain_state("export_state", module)) {
        const NameRule rule = detail::rule_for(map, name);
        expect<StateError>(!rule.ours.empty() && detail::describes(rule, var.shape()),
                           "export_state: expected a rule that describes '", name, "' ", var.shape(), ", got ",
                           rule.ours.empty() ? "none" : "another layout");
        if (rule.theirs.empty()) continue;
        file.add(rule.theirs, detail::to_theirs(rule, var.value().to(Device::cpu)));
        if (!rule.subtract.empty()) file.add(rule.subtract, zeros_like(var.value()));
    }
    return file;
}

ESPALIER_COMPILED_FUNCTION(compare_state);
ESPALIER_COMPILED_FUNCTION(import_state);
ESPALIER_COMPILED_FUNCTION(export_state);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/core/table.hpp>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY std::string to_text(Fit fit) {
    switch (fit) {
    case Fit::fits: return "fits";
    case Fit::kept: return "kept as it is";
    case Fit::passed_over: return "passed over";
    case Fit::missing: return "missing in the file";
    case Fit::unmapped: return "no rule for it";
    case Fit::unexpected: return "unexpected";
    case Fit::other_shape: return "another shape";
    default: return "another type";
    }
}

ESPALIER_BODY std::string to_text(const StateReport& report) {
    Table table({"theirs", "shape", "ours", "shape", "fit"});
    for (const StateMatch& m : report.matches) {
        std::string remark = to_text(m.fit);
        if (m.fit == Fit::other_shape) remark += join_text(", expected ", m.wanted_shape);
        if (m.fit == Fit::other_type) remark += ", " + m.type;
        table.row({m.theirs.empty() ? "-" : m.theirs, m.type.empty() ? "-" : to_text(m.their_shape),
                   m.ours.empty() ? "-" : m.ours, m.ours.empty() ? "-" : to_text(m.our_shape), remark});
    }
    return table.text();
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
