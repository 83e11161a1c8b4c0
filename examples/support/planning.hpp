#pragma once

#include "settings.hpp"

#include <espalier/models/model.hpp>
#include <espalier/pruning/plan.hpp>

#include <functional>

namespace espalier::programs {

/// The plan that the flags ask for, for images [H,W,C]. `batch` gives training images [N,H,W,C] and is called only by
/// the criterion that looks at activations. @throws what `pruning::plan` throws
pruning::Plan make_plan(models::Model<float>& net, const Shape& image, const Settings& settings,
                        const std::function<Tensor<float>()>& batch);

} // namespace espalier::programs
