#pragma once

// A stand-in for the CUDA runtime that runs kernels on the CPU, for tests alone: found before the toolkit's header of
// the same name, so that the library's kernels compile unchanged, by an ordinary compiler. Slow, small and strict;
// docs/gpu.md says what it finds and what it can't.

#include <emulation/block.hpp>
#include <emulation/memory.hpp>
#include <emulation/stream.hpp>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
// All fibers of a block are on one thread of the system, so what is local to that thread is the block's.
#define __shared__ thread_local
#define __align__(bytes) alignas(bytes)

#define __syncthreads() ::emulation::Block::current().wait(::emulation::State::block_barrier, 0, __FILE__, __LINE__)
#define __syncwarp() ::emulation::Block::current().wait(::emulation::State::warp_barrier, ~0u, __FILE__, __LINE__)
#define __shfl_sync(mask, v, source) ::emulation::Block::current().exchange(mask, v, int(source), __FILE__, __LINE__)
#define __shfl_xor_sync(mask, v, bits)                                                                                 \
    ::emulation::Block::current().exchange(mask, v, int(::emulation::Block::current().lane() ^ unsigned(bits)),        \
                                           __FILE__, __LINE__)
#define __shfl_down_sync(mask, v, by)                                                                                  \
    ::emulation::Block::current().exchange(mask, v, int(::emulation::Block::current().lane() + unsigned(by)),          \
                                           __FILE__, __LINE__)
/// What all 32 lanes offer, at most 32 bytes each: for instructions of a whole warp.
#define cudaEmulatedWarp(...) ::emulation::Block::current().all(__VA_ARGS__, __FILE__, __LINE__)
/// Asynchronous copies of 16 bytes to shared memory, from null: zeros.
#define cudaEmulatedBeginCopy(to, from) ::emulation::Block::current().begin_copy(to, from)
#define cudaEmulatedEndCopies() ::emulation::Block::current().end_copies()
#define cudaEmulatedWaitForCopies(open) ::emulation::Block::current().wait_for_copies(open)
#define __ballot_sync(mask, predicate) ::emulation::Block::current().ballot(mask, predicate, __FILE__, __LINE__)

template <class T> T atomicAdd(T* to, T value) { return std::atomic_ref<T>(*to).fetch_add(value); }
template <class T> T atomicMax(T* to, T value) {
    std::atomic_ref<T> target(*to);
    T seen = target.load();
    while (seen < value && !target.compare_exchange_weak(seen, value)) {}
    return seen;
}
inline std::uint64_t __umul64hi(std::uint64_t a, std::uint64_t b) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
}

inline unsigned char* cudaEmulatedDynamicShared() { return ::emulation::Block::current().shared(); }

using cudaStream_t = emulation::Stream*;
constexpr unsigned cudaStreamNonBlocking = 1;

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureUnjoined = 904,
    cudaErrorStreamCaptureIsolation = 905,
    cudaErrorCapturedEvent = 907
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyDefault };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

inline const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation: return "cudaErrorStreamCaptureIsolation";
    case cudaErrorCapturedEvent: return "cudaErrorCapturedEvent";
    }
    return "?";
}
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = 13000;
    return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
struct cudaDeviceProp {
    char name[256];
};
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    *properties = {"an emulated GPU"};
    return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    emulation::Scheduler& scheduler = emulation::Scheduler::instance();
    const std::lock_guard lock(scheduler.mutex);
    *stream = scheduler.make_stream();
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    emulation::Scheduler& scheduler = emulation::Scheduler::instance();
    const std::lock_guard lock(scheduler.mutex);
    if (emulation::Graph* const graph = stream->to->graph) {
        graph->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    scheduler.finish(*stream->to);
    return cudaSuccess;
}

using cudaEvent_t = emulation::Event*;
constexpr unsigned cudaEventDisableTiming = 2;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new emulation::Event;
    return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const std::lock_guard lock(emulation::Scheduler::instance().mutex);
    *event = {stream->to, stream->to->end()};
    return cudaSuccess;
}
/// Waits for what the event says now, whatever is recorded in it later. A stream that waits for one that is captured is
/// captured from there on.
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned = 0) {
    const std::lock_guard lock(emulation::Scheduler::instance().mutex);
    if (!event->queue) return cudaSuccess;
    if (event->queue->was_captured) return cudaErrorCapturedEvent;
    if (emulation::Graph* const graph = stream->to->graph, * const of_event = event->queue->graph; graph != of_event) {
        if (graph) {
            graph->invalid = true;
            return cudaErrorStreamCaptureIsolation;
        }
        stream->to = of_event->add_branch();
    }
    stream->to->steps.push_back({{}, *event});
    return cudaSuccess;
}

enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
using cudaGraph_t = std::shared_ptr<emulation::Graph>*;
using cudaGraphExec_t = const std::shared_ptr<emulation::Graph>*;
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    const std::lock_guard lock(emulation::Scheduler::instance().mutex);
    if (stream->to->graph) return cudaErrorStreamCaptureUnsupported;
    stream->to = (new emulation::Graph)->add_branch();
    return cudaSuccess;
}
/// Null with an error if the capture became invalid, or if a stream that was forked off was not joined.
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    emulation::Scheduler& scheduler = emulation::Scheduler::instance();
    const std::lock_guard lock(scheduler.mutex);
    *graph = nullptr;
    std::shared_ptr<emulation::Graph> captured(stream->to->graph);
    if (!captured) return cudaErrorInvalidValue;
    scheduler.close(*captured);
    if (captured->invalid) return cudaErrorStreamCaptureInvalidated;
    if (!captured->is_joined()) return cudaErrorStreamCaptureUnjoined;
    *graph = new std::shared_ptr<emulation::Graph>(std::move(captured));
    return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long = 0) {
    *made = new std::shared_ptr<emulation::Graph>(*graph);
    return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    delete graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    emulation::Scheduler& scheduler = emulation::Scheduler::instance();
    const std::lock_guard lock(scheduler.mutex);
    if (stream->to->graph) return cudaErrorStreamCaptureUnsupported;
    scheduler.launch(**graph, *stream);
    return cudaSuccess;
}

namespace emulation {
inline cudaError_t queue(cudaStream_t stream, std::function<void()> work) {
    const std::lock_guard lock(Scheduler::instance().mutex);
    stream->to->steps.push_back({std::move(work), {}});
    return cudaSuccess;
}
} // namespace emulation

inline cudaError_t cudaMalloc(void** block, std::size_t bytes) {
    *block = emulation::Memory::instance().take(bytes);
    return *block ? cudaSuccess : cudaErrorMemoryAllocation;
}
/// Waits until all streams are done.
inline cudaError_t cudaFree(void* block) {
    emulation::Scheduler& scheduler = emulation::Scheduler::instance();
    const std::lock_guard lock(scheduler.mutex);
    scheduler.finish_all();
    return !block || emulation::Memory::instance().give_back(block) ? cudaSuccess : cudaErrorInvalidValue;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
    std::vector<unsigned char> staged; // what memory of the host holds now: the host may go on with it
    if (!emulation::Memory::instance().contains(from)) {
        const auto* const first = static_cast<const unsigned char*>(from);
        staged.assign(first, first + bytes);
    }
    return emulation::queue(stream, [=, staged = std::move(staged)] {
        const emulation::Memory::Access access;
        std::memcpy(to, staged.empty() ? from : staged.data(), bytes);
    });
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
    return emulation::queue(stream, [=] {
        const emulation::Memory::Access access;
        std::memset(to, value, bytes);
    });
}

struct cudaLaunchAttribute {};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
    cudaLaunchAttribute* attrs = nullptr;
    unsigned numAttrs = 0;
};

namespace emulation {
inline std::size_t shared_limit = 48 * 1024; // of the next launch

/// Every block of a grid, each with all its threads.
inline void run_grid(dim3 grid, dim3 threads, std::size_t shared_bytes, const std::function<void()>& body) {
    const auto run = [&](unsigned b) {
        ::gridDim = grid;
        ::blockDim = threads;
        ::blockIdx = {b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
        Block::current().run(body, shared_bytes);
    };
    const Memory::Access access;
#if EMULATION_TSAN
    // A thread of the system a block, so that what two blocks do is unordered: as many at a time as the sanitizer can
    // keep apart.
    const std::size_t at_once = std::max<std::size_t>(1, 4000 / (std::size_t(threads.x) * threads.y * threads.z));
    std::exception_ptr failure;
    std::mutex mutex;
    std::vector<std::thread> blocks;
    for (unsigned b = 0; b < grid.x * grid.y * grid.z; ++b) {
        if (blocks.size() == at_once) {
            for (auto& block : blocks) block.join();
            blocks.clear();
        }
        blocks.emplace_back([&, b] {
            try {
                run(b);
            } catch (...) {
                const std::lock_guard lock(mutex);
                failure = std::current_exception();
            }
        });
    }
    for (auto& block : blocks) block.join();
    if (failure) std::rethrow_exception(failure);
#else
    for (const unsigned b : sequence(grid.x * grid.y * grid.z)) run(b);
#endif
}
}
template <class... P> cudaError_t cudaFuncSetAttribute(void (*)(P...), cudaFuncAttribute, int bytes) {
    if (bytes > 227 * 1024) return cudaErrorInvalidValue; // what a block of an H100 may have
    emulation::shared_limit = static_cast<std::size_t>(bytes);
    return cudaSuccess;
}

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
    const dim3 grid = config->gridDim, threads = config->blockDim;
    const std::size_t count = std::size_t(threads.x) * threads.y * threads.z;
    const std::size_t limit = std::exchange(emulation::shared_limit, 48 * 1024);
    if (count == 0 || count > emulation::Block::most_threads || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.y > 65535 || grid.z > 65535 || config->dynamicSmemBytes > limit)
        return cudaErrorInvalidConfiguration;
    const auto body = [kernel, values = std::tuple<P...>(std::forward<A>(arguments)...)] {
        std::apply(kernel, values);
    };
    return emulation::queue(
        config->stream, [=, shared = config->dynamicSmemBytes] { emulation::run_grid(grid, threads, shared, body); });
}
