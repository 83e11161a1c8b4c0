#pragma once

#include <espalier/core/launch.cuh>

// Copies to shared memory that go on while the thread does, past its registers. Source: PTX ISA, "cp.async". Without
// nvcc a copy is done when it is waited for, as late as may be, for tests.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

#ifdef __CUDACC__

/// Begins to copy 16 bytes, aligned both, from global to shared memory; or to write zeros there, and read nothing.
__device__ inline void copy_async(void* to, const void* from, bool zeros) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from), "r"(zeros ? 0 : 16)
                 : "memory");
}
/// Makes a group of the copies that this thread has begun since the last one, which may be none.
__device__ inline void end_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }
/// Waits for all of this thread's groups but the last `Open`. Others see the copies after a barrier.
template <int Open> __device__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" : : "n"(Open) : "memory");
}

#else

inline void copy_async(void* to, const void* from, bool zeros) { cudaEmulatedBeginCopy(to, zeros ? nullptr : from); }
inline void end_copies() { cudaEmulatedEndCopies(); }
template <int Open> void wait_for_copies() { cudaEmulatedWaitForCopies(Open); }

#endif

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
