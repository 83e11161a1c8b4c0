#pragma once

#include <espalier/core/stream.hpp>

#include <cstdlib>
#include <type_traits>
#include <utility>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// The shape of a launch.
struct Grid {
    dim3 blocks, threads;         ///< blocks of the grid, threads of a block
    std::size_t shared_bytes = 0; ///< dynamic shared memory of a block
};

/// One thread an element of `count`, in blocks of `threads`.
inline Grid elements(Index count, unsigned threads = 256) {
    return {static_cast<unsigned>((count + threads - 1) / threads), threads};
}

/// Number of this thread in a one-dimensional grid.
__device__ inline Index global_thread() { return Index(blockIdx.x) * blockDim.x + threadIdx.x; }

/// The dynamic shared memory of this block, as Ts; aligned to 16 bytes.
template <class T> __device__ T* dynamic_shared() {
#ifdef __CUDACC__
    extern __shared__ __align__(16) unsigned char espalier_dynamic_shared[];
    return reinterpret_cast<T*>(espalier_dynamic_shared);
#else
    return reinterpret_cast<T*>(cudaEmulatedDynamicShared());
#endif
}

/// Queues a kernel; a grid without blocks queues nothing. Arguments are converted to the kernel's parameters.
///
/// What goes wrong while it runs shows in the next `synchronise`; with ESPALIER_SYNC_LAUNCHES in the environment every
/// launch waits, and the failing one throws. @throws DeviceError if the launch is refused
template <class... Parameters, class... Arguments>
void launch(cudaStream_t stream, const Grid& grid, void (*kernel)(Parameters...), Arguments&&... arguments) {
    if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
    // 48 KiB is what a block may have without asking, static shared memory included: 16 KiB at most.
    if (grid.shared_bytes > 32 * 1024)
        detail::check_cuda("launch", cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                          static_cast<int>(grid.shared_bytes)));
    cudaLaunchConfig_t config{};
    config.gridDim = grid.blocks;
    config.blockDim = grid.threads;
    config.dynamicSmemBytes = grid.shared_bytes;
    config.stream = stream;
    detail::check_cuda("launch",
                       cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...));
    static const bool waits = std::getenv("ESPALIER_SYNC_LAUNCHES") != nullptr;
    if (waits && !is_recording()) detail::check_cuda("launch", cudaStreamSynchronize(stream));
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
