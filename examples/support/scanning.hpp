#pragma once

#include "settings.hpp"

#include <espalier/models/model.hpp>
#include <espalier/pruning/criteria.hpp>

#include <functional>
#include <string>
#include <vector>

namespace espalier::programs {

/// What a sensitivity scan goes by, and what its plot says.
struct Scan {
    pruning::Criterion<float> criterion;
    std::string title, score;
};

/// Scans a network, of which there is one replica a thread, and writes sensitivity.csv and sensitivity.svg of --out.
/// @throws what `pruning::scan_sensitivity` throws
void scan_to_folder(const std::vector<models::Model<float>*>& replicas, const Shape& image, const Settings& settings,
                    const Scan& scan, const std::function<double(models::Model<float>&)>& accuracy);

} // namespace espalier::programs
