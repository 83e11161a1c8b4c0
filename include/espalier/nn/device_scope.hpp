#pragma once

#include <espalier/nn/module.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Moves a module to a device, and at the end of the scope back to where it was; both forget gradients. Nothing happens
/// if it is there already.
template <class T> class DeviceScope {
public:
    /// The module outlives the scope.
    DeviceScope(Module<T>& module, Device device) : module_(module), previous_(module.device()) { module.to(device); }
    ~DeviceScope() {
        try {
            module_.to(previous_); // into memory that it left to the pool, so there is room
        } catch (...) {
            // The GPU has failed, as whoever uses it next is told; here the first error may be on its way.
        }
    }
    DeviceScope(const DeviceScope&) = delete;
    DeviceScope& operator=(const DeviceScope&) = delete;

private:
    Module<T>& module_;
    Device previous_;
};

} // namespace espalier::inline ESPALIER_BACKEND
