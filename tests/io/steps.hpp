#pragma once

#include <espalier/io/export_step.hpp>

namespace espalier::test {

/// The ops of a graph, in order.
inline std::vector<std::string> ops(const ExportGraph& graph) {
    std::vector<std::string> all;
    for (const ExportStep& step : graph.steps) all.push_back(step.op);
    return all;
}

} // namespace espalier::test
