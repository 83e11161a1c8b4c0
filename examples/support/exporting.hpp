#pragma once

#include "saved_network.hpp"
#include "settings.hpp"

#include <string>

namespace espalier::programs {

/// Writes the network to the folder and in the format that the flags name, and says what and where.
/// @throws StateError if the format needs a library that this program was built without, IoError
std::string export_network(models::Model<float>& net, const DataDescription& data, const Settings& settings);

} // namespace espalier::programs
