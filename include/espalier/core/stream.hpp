#pragma once

#include <espalier/core/recording.hpp>
#include <espalier/core/scoped_value.hpp>

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

// All is queued in the main one, but for what runs beside it (tensor/side_by_side.hpp).
struct Streams {
    cudaStream_t main = nullptr, side = nullptr;
    cudaEvent_t forked = nullptr, joined = nullptr; // recorded in the main stream, and in the side stream

    Streams() {
        int gpus = 0;
        check_cuda("cuda", cudaGetDeviceCount(&gpus));
        if (gpus == 0) fail_cuda("cuda", cudaErrorNoDevice);
        for (cudaStream_t* const stream : {&main, &side})
            check_cuda("cuda", cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking));
        for (cudaEvent_t* const event : {&forked, &joined}) // what only says when is cheap to wait for
            check_cuda("cuda", cudaEventCreateWithFlags(event, cudaEventDisableTiming));
    }
};
// Those of the process. Graphs can't be captured from the runtime's default one.
inline const Streams& working_streams() {
    static const Streams streams;
    return streams;
}
// What a thread records is queued in streams of its own, or the work of other threads would be recorded with it.
inline const Streams& recording_streams() {
    static const Streams streams;
    return streams;
}
// Of this thread: the pair, and which of them is current.
inline const Streams*& thread_streams() {
    thread_local const Streams* streams = &working_streams();
    return streams;
}
inline cudaStream_t& thread_stream() {
    thread_local cudaStream_t stream = working_streams().main;
    return stream;
}

// The side stream goes on after all that the main one has by now, or the other way round. Waits that were queued before
// keep what the event said then, so one event serves every fork. In a step that is captured, these are edges of the
// graph.
inline cudaError_t queue_fork() {
    const Streams& streams = *thread_streams();
    const cudaError_t status = cudaEventRecord(streams.forked, streams.main);
    return status != cudaSuccess ? status : cudaStreamWaitEvent(streams.side, streams.forked, 0);
}
inline cudaError_t queue_join() {
    const Streams& streams = *thread_streams();
    const cudaError_t status = cudaEventRecord(streams.joined, streams.side);
    return status != cudaSuccess ? status : cudaStreamWaitEvent(streams.main, streams.joined, 0);
}

} // namespace detail

/// The stream that this thread queues kernels and copies in. @throws DeviceError if there is no GPU that works
inline cudaStream_t current_stream() { return detail::thread_stream(); }

/// Waits until all that was queued is done. @throws DeviceError if any of it failed; StateError while a step is
/// recorded
inline void synchronise() {
    expect_not_recording("synchronise");
    const detail::Streams& streams = detail::working_streams();
    for (const cudaStream_t stream : {streams.main, streams.side}) // which may not be joined yet
        detail::check_cuda("synchronise", cudaStreamSynchronize(stream));
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
