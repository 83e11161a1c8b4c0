#include "pruning/networks.hpp"

#include <espalier/io/buffer_plan.hpp>
#include <espalier/io/export_graph.hpp>
#include <espalier/models/resnet.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// Whether a step finds something else than what was written where one of its operands lives, or writes over one.
bool overlaps(const ExportGraph& graph, const BufferPlan& plan) {
    std::vector<std::size_t> written(static_cast<std::size_t>(plan.size), 0); // by element: the last value there
    const auto each_element = [&](std::size_t value, const auto& f) {
        const Index at = plan.offset[plan.root[value]];
        if (at == BufferPlan::elsewhere) return;
        for (Index i = 0; i < graph.values[value].shape.size(); ++i) f(written[static_cast<std::size_t>(at + i)]);
    };
    bool wrong = false;
    for (const ExportStep& step : graph.steps) {
        const auto check = [&](std::size_t input) {
            each_element(input, [&](std::size_t value) { wrong = wrong || value != plan.root[input]; });
        };
        for (const std::size_t input : step.inputs) check(input);
        each_element(step.output, [&](std::size_t& value) { value = plan.root[step.output]; });
        for (const std::size_t input : step.inputs) check(input); // intact, or shared on purpose
    }
    return wrong;
}

} // namespace

TEST_CASE("plan_buffers: nothing is overwritten that is still read") {
    const auto check = [](auto model, const Shape& image) {
        const ExportGraph graph = export_graph(model, image);
        const BufferPlan plan = plan_buffers(graph);
        CHECK_FALSE(overlaps(graph, plan));
        Index all = 0;
        for (const ExportStep& step : graph.steps) all += graph.result(step).shape.size();
        CHECK(plan.size < all);
        for (std::size_t i = 0; i < graph.steps.size(); ++i) // shared memory: nobody reads the operand later
            for (const std::size_t input : graph.steps[i].inputs)
                if (plan.root[input] == plan.root[graph.steps[i].output] && graph.steps[i].op != "reshape")
                    for (std::size_t later = i + 1; later < graph.steps.size(); ++later)
                        for (const std::size_t read : graph.steps[later].inputs) CHECK(read != input);
        CHECK(plan.offset[plan.root[graph.output]] == BufferPlan::elsewhere);
        CHECK(plan.offset[0] == BufferPlan::elsewhere);
    };
    check(Chain<float>(), {6, 6, 3});
    check(Residual<float>(), {6, 6, 3});
    check(Concats<float>(), {6, 6, 3});
    check(Excited<float>(), {6, 6, 3});
    check(Flattened<float>(), {4, 4, 3});
    check(models::ResNet<float>(20, {.channels = 1}), {8, 8, 1});
}

TEST_CASE("plan_buffers: batch norm and relu work in place, a reshape moves nothing") {
    Flattened<float> model;
    const ExportGraph graph = export_graph(model, {4, 4, 3}); // conv, batch norm, flatten, linear, relu, linear
    const BufferPlan plan = plan_buffers(graph);
    CHECK(plan.root[graph.steps[1].output] == graph.steps[0].output);
    CHECK(plan.root[graph.steps[2].output] == graph.steps[0].output);
    CHECK(plan.root[graph.steps[4].output] == graph.steps[3].output);
    CHECK(plan.size == 4 * 4 * 6 + 10);
}

TEST_CASE("plan_buffers: a join works in its stream, unless that is read again or is the branch as well") {
    Residual<float> model;
    const ExportGraph graph = export_graph(model, {4, 4, 3});
    const BufferPlan plan = plan_buffers(graph);
    for (const ExportStep& step : graph.steps)
        if (step.op == "join") CHECK(plan.root[step.output] == plan.root[step.inputs[0]]);
    CHECK(plan.size == 4 * 4 * (8 + 6 + 8)); // stream, what lies inside the block, branch

    ExportGraph doubled = graph; // y = x + x
    for (ExportStep& step : doubled.steps)
        if (step.op == "join") step.inputs[1] = step.inputs[0];
    doubled.drop_dead_steps();
    const BufferPlan apart = plan_buffers(doubled);
    for (const ExportStep& step : doubled.steps)
        if (step.op == "join") CHECK(apart.root[step.output] == step.output);
}
