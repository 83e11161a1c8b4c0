#include "support/check.hpp"

#include <espalier/pruning/plan.hpp>

using namespace espalier;

TEST_CASE("plan: its text is a table of groups, and what goes in all") {
    pruning::Plan plan;
    plan.criterion = "folded_norm";
    plan.joins = pruning::Joins::indexed;
    plan.groups = {{"conv", 16, {0, 2, 5}, {}, "", false}, {"stem.conv1", 4, {0, 1, 2, 3}, {}, "read twice", true}};
    plan.before = {.parameters = 200, .macs = 1000, .filters = 20};
    plan.after = {.parameters = 100, .macs = 250, .filters = 7};
    CHECK(to_text(plan) ==
          "group       width  keeps     cut  note\n"
          "----------  -----  -----  ------  ----------\n"
          "conv           16      3  81.3 %\n"
          "stem.conv1      4      4     0 %  read twice\n"
          "criterion folded_norm, joins indexed; removed: 65 % of the channels, 50 % of the parameters, "
          "75 % of the MACs (1000 to 250), 65 % of the filters\n");
}
