#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/config.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Seconds on a clock that never jumps, from an arbitrary start: differences are durations, whatever happens to the
/// time of day.
double steady_seconds();

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <chrono>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY double steady_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
