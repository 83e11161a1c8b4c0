#pragma once

#include <espalier/autograd/var.hpp>

namespace espalier::inline ESPALIER_BACKEND {
template <class T> struct JoinState {};
} // namespace espalier::inline ESPALIER_BACKEND
