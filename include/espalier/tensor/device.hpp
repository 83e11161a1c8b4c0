#pragma once

#include <espalier/core/error.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Where a tensor lives.
enum class Device { cpu };

/// `cpu`
inline std::string to_text(Device) { return "cpu"; }

/// Executor of CPU kernels: the first argument of every kernel, so that a device is an overload.
struct Cpu {};

/// Calls `f` with the executor of a device: the library's one run-time branch over devices.
template <class F> decltype(auto) dispatch(Device, F&& f) { return f(Cpu{}); }

/// Which kernels of convolutions and products run.
///
/// `fast` takes whatever is fastest; in training that may round operands to 17 bits. `precise` may regroup sums, but
/// adds up the terms of the definition and no others. `fixed_order` adds the terms of each output one by one, taps
/// first to last, channels first to last, so that leaving out a term that is exactly zero changes no bit: pruning
/// certificates are checked on it.
enum class Path { fast, precise, fixed_order };

namespace detail {
inline Path& thread_path() {
    thread_local Path path = Path::fast;
    return path;
}
} // namespace detail

/// The path that ops called from this thread take.
inline Path current_path() { return detail::thread_path(); }

/// Selects a path for this thread until the end of the scope.
class PathScope {
public:
    /// Takes this path from here on.
    explicit PathScope(Path path) : previous_(current_path()) { detail::thread_path() = path; }
    ~PathScope() { detail::thread_path() = previous_; }
    PathScope(const PathScope&) = delete;
    PathScope& operator=(const PathScope&) = delete;

private:
    Path previous_;
};

} // namespace espalier::inline ESPALIER_BACKEND
