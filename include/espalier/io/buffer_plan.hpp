#pragma once

#include <espalier/io/export_step.hpp>

#include <numeric>
#include <set>

// Not part of espalier.hpp: few programs export.

namespace espalier::inline ESPALIER_BACKEND {

/// Where the values of an export graph live while it runs, one image at a time.
struct BufferPlan {
    static constexpr Index elsewhere = -1; ///< no place in the workspace
    std::vector<std::size_t> root;         ///< by value: the one whose memory it shares, itself if none
    std::vector<Index> offset; ///< by root, in elements of one workspace; `elsewhere`: image, result, constants
    Index size = 0;            ///< elements of the workspace
};

/// Lays values out in one workspace so that two share memory only if no step needs both.
///
/// A reshape shares its operand's memory, and so does a step that works element by element when nobody reads its first
/// operand later: a join adds the branch to the stream where it lies. Values are placed largest first, each at the
/// lowest place that is free while it lives.
inline BufferPlan plan_buffers(const ExportGraph& graph) {
    static const std::set<std::string> elementwise{"relu",       "relu6", "sigmoid", "tanh",  "exp",
                                                   "log",        "abs",   "sqrt",    "scale", "softmax",
                                                   "batch_norm", "join",  "add",     "sub",   "mul"};
    const std::size_t count = graph.values.size();
    struct Life {
        std::size_t first, last; // steps
    };
    BufferPlan plan{std::vector<std::size_t>(count), std::vector<Index>(count, BufferPlan::elsewhere)};
    std::iota(plan.root.begin(), plan.root.end(), std::size_t(0));
    std::vector<std::size_t> last_read(count, 0);
    for (std::size_t i = 0; i < graph.steps.size(); ++i)
        for (const std::size_t input : graph.steps[i].inputs) last_read[input] = i;

    std::vector<Life> lives(count, {0, 0});
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < graph.steps.size(); ++i) {
        const ExportStep& step = graph.steps[i];
        const std::size_t y = step.output, x = plan.root[step.inputs[0]];
        bool in_place = elementwise.contains(step.op) && lives[x].last <= i && x != 0 && y != graph.output &&
                        !graph.values[x].constant.defined() &&
                        graph.values[x].shape.size() == graph.values[y].shape.size();
        for (std::size_t other = 1; other < step.inputs.size(); ++other)
            in_place = in_place && plan.root[step.inputs[other]] != x;
        if (step.op == "reshape" || in_place) {
            plan.root[y] = x;
            lives[x].last = std::max(lives[x].last, last_read[y]);
        } else {
            lives[y] = {i, last_read[y]};
            order.push_back(y);
        }
    }
    std::erase_if(order, [&](std::size_t value) { return value == plan.root[graph.output]; });
    const auto extent = [&](std::size_t value) { return graph.values[value].shape.size(); };
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return extent(a) > extent(b); });
    std::vector<std::size_t> placed; // by rising offset
    for (const std::size_t value : order) {
        Index at = 0;
        for (const std::size_t other : placed) {
            const bool together = lives[value].first <= lives[other].last && lives[other].first <= lives[value].last;
            if (together && plan.offset[other] < at + extent(value) && at < plan.offset[other] + extent(other))
                at = plan.offset[other] + extent(other);
        }
        plan.offset[value] = at;
        plan.size = std::max(plan.size, at + extent(value));
        const auto behind = std::find_if(placed.begin(), placed.end(), [&](auto p) { return plan.offset[p] > at; });
        placed.insert(behind, value);
    }
    return plan;
}

} // namespace espalier::inline ESPALIER_BACKEND
