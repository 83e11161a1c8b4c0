#pragma once

#include <espalier/core/config.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// What an operation that behaves differently in training is to do: learn from this batch, or answer.
enum class Mode { training, inference };

} // namespace espalier::inline ESPALIER_BACKEND
