#pragma once

#include <espalier/core/config.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// What an operation applies to its result before storing it: nothing, or y = max(0, x).
enum class Activation { none, relu };

} // namespace espalier::inline ESPALIER_BACKEND
