#pragma once

#include "settings.hpp"

#include <espalier/data/loader.hpp>
#include <espalier/models/model.hpp>
#include <espalier/pruning/planner.hpp>

#include <functional>

namespace espalier::programs {

/// What the flags ask of a plan. `batch` gives training images and labels and is called only by criteria that look at
/// data.
pruning::PlanOptions<float> plan_options(models::Model<float>& net, const Settings& settings,
                                         const std::function<Batch<float>()>& batch);

} // namespace espalier::programs
