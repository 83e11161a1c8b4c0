#pragma once

#include <espalier/models/model.hpp>

#include <memory>
#include <string>

namespace espalier::programs {

/// The network of that name. Compiled apart: layers and their kernels are half of what an experiment compiles.
std::shared_ptr<models::Model<float>> make_network(const std::string& name, const models::Options& options);

/// The names that it knows, as a list to read.
std::string network_names();

} // namespace espalier::programs
