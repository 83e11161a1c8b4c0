#pragma once

#include <espalier/core/scoped_value.hpp>
#include <espalier/core/stream.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Where a tensor lives. A build without CUDA has the name of the GPU, too, and an error for who uses it.
enum class Device { cpu, cuda };

/// `cpu`, `cuda`
inline std::string to_text(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

/// Executor of CPU kernels: the first argument of every kernel, so that a device is an overload.
struct Cpu {};

#if ESPALIER_CUDA
/// Executor of CUDA kernels: the stream that they are queued in.
struct Cuda {
    cudaStream_t stream; ///< of this thread
};
#endif

namespace detail {
[[noreturn]] inline void no_cuda() {
    fail<DeviceError>("Device::cuda: expected a build with CUDA, got one for the CPU (ESPALIER_WITH_CUDA)");
}
} // namespace detail

/// Calls `f` with the executor of a device: the library's one run-time branch over devices.
/// @throws DeviceError for the GPU, if this build has no CUDA or this machine none that works
template <class F> decltype(auto) dispatch(Device device, F&& f) {
    if (device == Device::cpu) return f(Cpu{});
#if ESPALIER_CUDA
    return f(Cuda{current_stream()});
#else
    detail::no_cuda();
#endif
}

/// Waits until all that was queued on a device is done; of the CPU nothing ever is.
/// @throws DeviceError for the GPU as `dispatch`, or if anything of it failed
inline void synchronise(Device device) {
    if (device == Device::cpu) return;
#if ESPALIER_CUDA
    synchronise();
#else
    detail::no_cuda();
#endif
}

/// Throws DeviceError, naming the op, unless the operands (of anything with a `device()`) are on one device.
template <class X, class... Operands> void expect_same_device(const char* op, const X& x, const Operands&... others) {
    expect<DeviceError>(((others.device() == x.device()) && ...), op, ": expected operands on one device, got one on ",
                        x.device(), " and one on ", x.device() == Device::cpu ? Device::cuda : Device::cpu);
}

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
class PathScope : ScopedValue<Path> {
public:
    /// Takes this path from here on.
    explicit PathScope(Path path) : ScopedValue(detail::thread_path(), path) {}
};

/// What the operands of convolutions and products of matrices of floats are rounded to on the fast path of a GPU, whose
/// tensor cores multiply shorter numbers much faster. Sums are floats. Depthwise convolutions, and products whose rows
/// are no multiples of four numbers, are not rounded. The CPU has no such choice, nor have doubles.
///
/// `fp32` rounds nothing. `tf32` keeps 10 bits of the mantissa, a relative error of up to 2^-11 an operand, and `bf16`
/// 7 bits, up to 2^-8.
enum class MatmulPrecision { fp32, tf32, bf16 };

namespace detail {
inline MatmulPrecision& thread_matmul_precision() {
    thread_local MatmulPrecision precision = MatmulPrecision::fp32;
    return precision;
}
} // namespace detail

/// The precision that ops called from this thread take.
inline MatmulPrecision current_matmul_precision() { return detail::thread_matmul_precision(); }

/// Selects a precision for this thread until the end of the scope.
class MatmulPrecisionScope : ScopedValue<MatmulPrecision> {
public:
    /// Takes this precision from here on.
    explicit MatmulPrecisionScope(MatmulPrecision precision)
        : ScopedValue(detail::thread_matmul_precision(), precision) {}
};

} // namespace espalier::inline ESPALIER_BACKEND
