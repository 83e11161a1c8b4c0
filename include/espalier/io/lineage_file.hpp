#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/io/tensor_file.hpp>
#include <espalier/pruning/lineage.hpp>

#include <string>

namespace espalier::inline ESPALIER_BACKEND {

/// Adds a lineage to what a checkpoint keeps in `extra`: for axis 0 of `conv.weight` the tensors
/// `<prefix>kept.conv.weight.0` (I64, entries of the first network) and `<prefix>extent.conv.weight.0` (I64, one
/// number).
void save_lineage(TensorFile& file, const pruning::Lineage& lineage, const std::string& prefix = "lineage.");

/// Takes back what `save_lineage` added; empty if there is nothing, as for a network that was never cut.
/// @throws StateError if an entry is not one that it adds; the text names it
pruning::Lineage load_lineage(const TensorFile& file, const std::string& prefix = "lineage.");

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <charconv>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY void save_lineage(TensorFile& file, const pruning::Lineage& lineage, const std::string& prefix) {
    for (const auto& [key, axis] : lineage.axes()) {
        const std::string name = join_text(key.first, ".", key.second);
        file.add(prefix + "kept." + name, Tensor<Index>::from({static_cast<Index>(axis.kept.size())}, axis.kept));
        file.add(prefix + "extent." + name, Tensor<Index>::scalar(axis.extent));
    }
}

ESPALIER_BODY pruning::Lineage load_lineage(const TensorFile& file, const std::string& prefix) {
    pruning::Lineage lineage;
    const std::string kept = prefix + "kept.";
    for (const auto& entry : file.entries()) {
        if (!entry.name.starts_with(kept)) continue;
        const std::string name = entry.name.substr(kept.size());
        const std::size_t dot = name.rfind('.');
        int axis = -1;
        if (dot != std::string::npos) {
            const auto [end, error] = std::from_chars(name.data() + dot + 1, name.data() + name.size(), axis);
            if (error != std::errc() || end != name.data() + name.size()) axis = -1;
        }
        expect<StateError>(axis >= 0, "load_lineage: expected a variable and its axis, got '", entry.name, "' in ",
                           file.source());
        const Tensor<Index> list = file.get<Index>(entry.name), extent = file.get<Index>(prefix + "extent." + name);
        expect<StateError>(list.rank() == 1 && extent.size() == 1, "load_lineage: expected '", entry.name,
                           "' with a list and an extent, got ", list.shape(), " and ", extent.shape(), " in ",
                           file.source());
        lineage.set({name.substr(0, dot), axis}, {extent.item(), list.to_vector()});
    }
    return lineage;
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
