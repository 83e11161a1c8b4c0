#pragma once

#include <espalier/core/config.hpp>

#include <utility>

namespace espalier::inline ESPALIER_BACKEND {

/// Gives a variable another value until the end of the scope: what settings of a thread are made of.
template <class T> class ScopedValue {
public:
    /// `variable` outlives the scope.
    ScopedValue(T& variable, T value) : variable_(variable), previous_(std::exchange(variable, std::move(value))) {}
    ~ScopedValue() { variable_ = std::move(previous_); }
    ScopedValue(const ScopedValue&) = delete;
    ScopedValue& operator=(const ScopedValue&) = delete;

private:
    T& variable_;
    T previous_;
};

} // namespace espalier::inline ESPALIER_BACKEND
