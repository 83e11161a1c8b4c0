#include "io/steps.hpp"
#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE(
    "export_step: uses count every operand and the result; steps that nobody reads go, and what they alone read") {
    ExportGraph graph; // image -> 1 -> 2 = 1 + 1, the result; 1 -> 3 -> 4, dead
    graph.values.resize(5);
    graph.steps = {{"relu", "", {0}, 1}, {"exp", "", {1}, 3}, {"add", "", {1, 1}, 2}, {"log", "", {3}, 4}};
    graph.output = 2;
    CHECK(graph.uses(0) == 1);
    CHECK(graph.uses(1) == 3);
    CHECK(graph.uses(2) == 1);
    CHECK(graph.uses(4) == 0);
    graph.drop_dead_steps();
    CHECK(ops(graph) == std::vector<std::string>{"relu", "add"});
    CHECK(graph.uses(1) == 2);
}

TEST_CASE("export_step: a name that is taken gets the next free number") {
    detail::UniqueNames unique;
    CHECK(unique("conv") == "conv");
    CHECK(unique("conv_2") == "conv_2");
    CHECK(unique("conv") == "conv_3");
}
