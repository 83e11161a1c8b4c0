#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/io/tensor_file.hpp>
#include <espalier/nn/module.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
/// Name of the constant of the join whose channel list is `kept`: `stage1.0.join.constant`.
inline std::string constant_name(const std::string& kept) {
    return kept.substr(0, kept.size() - std::string_view("kept").size()) + "constant";
}
} // namespace detail

/// Adds a module's parameters, its buffers and the channel lists of its joins (I64) under `prefix + name`.
///
/// Parameters and buffers of the CPU share memory with the module: write the file before the next step changes them.
template <class T> void save_state(TensorFile& file, const Module<T>& module, const std::string& prefix = "") {
    for (const auto& list : {module.parameters(), module.buffers()})
        for (const auto& [name, var] : list) file.add(prefix + name, var.value());
    for (const auto& [name, join] : module.joins())
        file.add(prefix + name, Tensor<Index>::from({static_cast<Index>(join->kept.size())}, join->kept));
}

/// Gives a module the state that `save_state` collected, widths included: a pruned network loads into a full one.
///
/// The names under `prefix` must be exactly the module's, and ranks must agree. All is checked before the first value
/// is set, and values are copied out of the file.
/// @throws StateError naming what is missing, unexpected, of another type or rank; the module is then unchanged
template <class T>
void load_state(const TensorFile& file, const Module<T>& module, const std::string& prefix = "",
                Precision precision = Precision::exact) {
    std::vector<NamedVar<T>> vars = module.parameters();
    for (const auto& buffer : module.buffers()) vars.push_back(buffer);
    const std::vector<NamedJoin<T>> joins = module.joins();
    std::vector<std::string> names;
    for (const auto& [name, var] : vars) names.push_back(name);
    for (const auto& [name, join] : joins) names.push_back(name);
    file.expect_names("load_state", prefix, names);

    std::vector<Tensor<T>> values;
    for (const auto& [name, var] : vars) {
        values.push_back(precision == Precision::exact ? file.get<T>(prefix + name).clone()
                                                       : file.get_converted<T>(prefix + name));
        expect<StateError>(values.back().rank() == var.rank(), "load_state: expected '", prefix, name, "' of rank ",
                           var.rank(), ", got ", values.back().shape(), " in ", file.source());
    }
    std::vector<std::vector<Index>> kept;
    for (const auto& [name, join] : joins) {
        const Tensor<Index> list = file.get<Index>(prefix + name);
        const Index channels = file.shape(prefix + detail::constant_name(name)).size(); // 0: the width is not kept here
        Index previous = -1;
        bool rising = list.rank() == 1;
        for (const Index channel : list) rising = rising && channel > std::exchange(previous, channel);
        expect<StateError>(rising && (channels == 0 || previous < channels), "load_state: expected '", prefix, name,
                           "' to hold rising channels", channels == 0 ? "" : join_text(" below ", channels), ", got ",
                           list.to_vector(), " in ", file.source());
        kept.push_back(list.to_vector());
    }

    for (std::size_t i = 0; i < vars.size(); ++i) vars[i].var.set_value(values[i].to(vars[i].var.device()));
    for (std::size_t i = 0; i < joins.size(); ++i) joins[i].join->kept = std::move(kept[i]);
}

ESPALIER_COMPILED_FUNCTION(save_state);
ESPALIER_COMPILED_FUNCTION(load_state);

} // namespace espalier::inline ESPALIER_BACKEND
