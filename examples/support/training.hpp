#pragma once

#include "settings.hpp"

#include <espalier/models/model.hpp>
#include <espalier/train/optimizer.hpp>
#include <espalier/train/schedule.hpp>

#include <functional>
#include <memory>

namespace espalier::programs {

/// The learning rate of each of so many steps, `lr` being the highest.
Schedule schedule_of(const Settings& settings, double lr, Index steps);

/// The optimizer that the flags ask for.
std::unique_ptr<Optimizer<float>> optimizer_of(const Settings& settings, const models::Model<float>& net, double lr);

/// What is added to the cross-entropy of a step, as a trainer takes it; undefined for nothing.
using Regularizer = std::function<Var<float>(const models::Output<float>&, Index step)>;

/// What the flags add, for images [H,W,C]. Settings and network must outlive it.
Regularizer regularizer_of(const Settings& settings, models::Model<float>& net, const Shape& image);

} // namespace espalier::programs
