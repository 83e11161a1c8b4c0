#include "fuzz.hpp"

#include <espalier/io/plan_file.hpp>

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string path = fuzz::write("plan.json", data, data + size);
    const auto plan = fuzz::read([&] { return load_plan(path); });
    if (!plan) return 0;
    const std::string copy = (fuzz::folder() / "copy.json").string();
    save_plan(*plan, copy);
    const pruning::Plan again = load_plan(copy);
    fuzz::require(again.criterion == plan->criterion && again.joins == plan->joins && again.image == plan->image &&
                  again.before == plan->before && again.after == plan->after &&
                  again.groups.size() == plan->groups.size());
    for (std::size_t i = 0; i < again.groups.size(); ++i) {
        const pruning::PlannedGroup &a = plan->groups[i], &b = again.groups[i];
        fuzz::require(a.name == b.name && a.width == b.width && a.kept == b.kept && a.scores == b.scores &&
                      a.note == b.note && a.blocked == b.blocked);
    }
    return 0;
}
