#pragma once

#include "settings.hpp"

#include <espalier/data/normalize.hpp>
#include <espalier/models/model.hpp>

#include <string>

namespace espalier::programs {

/// Writes the network for images [H,W,C] to the folder and in the format that the flags name, and says what and where.
/// @throws StateError if the format needs a library that this program was built without, IoError
std::string export_network(models::Model<float>& net, const Shape& image, const ChannelStatistics& normalize,
                           const Settings& settings);

} // namespace espalier::programs
