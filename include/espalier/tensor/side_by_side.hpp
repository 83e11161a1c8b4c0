#pragma once

#include <espalier/tensor/storage.hpp>

namespace espalier::inline ESPALIER_BACKEND {

#if ESPALIER_CUDA
namespace detail {

/// What is queued in the side stream while this is open runs beside what is queued in the main one, after all that
/// either had before. What is queued in the main stream after the end waits for both.
class Fork {
public:
    Fork() { check_cuda("side_by_side", queue_fork()); }
    ~Fork() {
        if (!joined_) static_cast<void>(queue_join()); // if that fails, so will the next call
    }
    Fork(const Fork&) = delete;
    Fork& operator=(const Fork&) = delete;

    void join() {
        joined_ = true;
        check_cuda("side_by_side", queue_join());
    }

private:
    // Before the fork to after the join: a block that the pool has at the fork was given back by who came before both.
    const MemoryPool::Hold memory_{MemoryPool::instance(Device::cuda)};
    bool joined_ = false;
};

} // namespace detail
#endif

/// Calls `f`, then `g`. On a GPU what they queue runs side by side, each in its order: after what was queued before,
/// and before what will be. Neither may write what the other reads or writes.
///
/// For kernels that fill part of a large GPU. Memory that is given back meanwhile is nobody's until both are queued.
/// @throws whatever they throw, and DeviceError as `dispatch`
template <class F, class G> void side_by_side([[maybe_unused]] Device device, F&& f, G&& g) {
#if ESPALIER_CUDA
    if (device == Device::cuda) {
        detail::Fork fork;
        f();
        {
            const ScopedValue<cudaStream_t> scope(detail::thread_stream(), detail::thread_streams()->side);
            g();
        }
        return fork.join();
    }
#endif
    f();
    g();
}

} // namespace espalier::inline ESPALIER_BACKEND
