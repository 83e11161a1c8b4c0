#pragma once

#include "check_model.hpp"

#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>

// What the tests of every model ask of surgery.

namespace espalier::test {

/// Cut to half of its multiply-adds for images [H,W,C], a model proves that it gives what the masked one gave, bit for
/// bit. `model` is used up: batch norm gets shifts, so that a cut channel leaves something behind if it is not silent.
template <class T>
pruning::Plan check_pruning(models::Model<T>& model, const Shape& image,
                            pruning::Joins joins = pruning::Joins::coupled) {
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list)
            if (name.ends_with(".beta") || name.ends_with("running_mean"))
                Var<T>(var).set_value(uniform<T>(var.shape(), Random(5, name), -0.2, 0.2));
    auto plan = pruning::plan(model, image, {.criterion = RandomScore{}, .keep_macs = 0.5, .joins = joins});
    const Certificate certificate = pruning::apply(plan, model).certificate;
    CHECK_MESSAGE(certificate.holds(), to_text(certificate));
    CHECK(2 * certificate.counted_macs <= plan.before.macs);
    return plan;
}

} // namespace espalier::test
