#pragma once

#include <espalier/core/recording.hpp>

#if ESPALIER_CUDA
namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

inline std::string runtime_version() {
    int version = 0;
    cudaRuntimeGetVersion(&version);
    return join_text(version / 1000, ".", version % 1000 / 10);
}

// In one place, so that every failure of the runtime reads alike and names what a user can do.
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_cuda(const char* who, cudaError_t status) {
    if (status == cudaErrorNoDevice) fail<DeviceError>(who, ": expected a GPU, got none that CUDA can see");
    if (status == cudaErrorInsufficientDriver)
        fail<DeviceError>(who, ": expected a GPU with a driver for CUDA ", runtime_version(),
                          ", got none or an older one");
    fail<DeviceError>(who, ": expected CUDA to succeed, got ", cudaGetErrorName(status), ": ",
                      cudaGetErrorString(status));
}
inline void check_cuda(const char* who, cudaError_t status) {
    if (status != cudaSuccess) [[unlikely]]
        fail_cuda(who, status);
}

// One for the process, not the runtime's default one, which graphs can't be captured from.
inline cudaStream_t main_stream() {
    static const cudaStream_t stream = [] {
        int gpus = 0;
        check_cuda("cuda", cudaGetDeviceCount(&gpus));
        if (gpus == 0) fail_cuda("cuda", cudaErrorNoDevice);
        cudaStream_t made = nullptr;
        check_cuda("cuda", cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
        return made;
    }();
    return stream;
}

} // namespace detail

/// The stream that kernels and copies are queued in. @throws DeviceError if there is no GPU that works
inline cudaStream_t current_stream() { return detail::main_stream(); }

/// Waits until all that was queued is done. @throws DeviceError if any of it failed; StateError while a step is
/// recorded
inline void synchronise() {
    expect_not_recording("synchronise");
    detail::check_cuda("synchronise", cudaStreamSynchronize(current_stream()));
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
