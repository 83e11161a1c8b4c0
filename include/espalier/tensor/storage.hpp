#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/tensor/device.hpp>

#include <cstddef>
#include <cstdint>

namespace espalier::inline ESPALIER_BACKEND {

/// Allocator of tensor memory: 64-byte aligned blocks, kept for reuse when released.
///
/// Training allocates the same sizes again each step; fresh pages from the system would cost more than many kernels,
/// and the GPU would have to come to rest for each. Safe to use from several threads. A GPU's blocks are reused in the
/// order of a stream: what a block's last user has queued is done before what its next one queues; what is given back
/// while two streams run side by side is kept until they meet (`Hold`). With ESPALIER_NO_CACHE in the environment every
/// block comes from the system and goes back, so that memory checkers see each tensor.
class MemoryPool {
public:
    /// The pool of a device, one a process. It outlives every tensor, static ones included, so it is never destroyed.
    static MemoryPool& instance(Device device = Device::cpu);

    /// A block of at least `bytes` bytes, uninitialised.
    /// @throws Error when the device has no memory left, which changes nothing; DeviceError if it is not there
    void* take(std::size_t bytes);
    /// Returns a block that `take(bytes)` gave.
    void give_back(void* block, std::size_t bytes) noexcept;
    /// Hands all unused blocks back to the system.
    void release_cached();

    /// Bytes that live tensors hold, after rounding.
    std::size_t bytes_in_use() const;
    /// Largest `bytes_in_use()` since the start or the last `reset_peak()`.
    std::size_t peak_bytes() const;
    /// Makes what is in use now the largest.
    void reset_peak();
    /// Bytes kept for reuse.
    std::size_t bytes_cached() const;

    class Reserve;
    class Hold;

    static constexpr std::size_t alignment = 64; ///< bytes: of a cache line, and of the widest vector

private:
    std::size_t rounded(std::size_t bytes) const;

    struct State; // below: its containers are for this file alone
    explicit MemoryPool(Device device);
    State& state_;
};

/// Memory of a GPU that recorded kernels know by address, kept for their replays until its end.
///
/// Blocks that are taken in a `Scope` come back here, not to the pool, however late; blocks that are given back in it
/// and were taken before are held, too. One reserve serves one recording.
class MemoryPool::Reserve {
public:
    /// Of a pool, which outlives it.
    explicit Reserve(MemoryPool& pool);
    ~Reserve();
    Reserve(const Reserve&) = delete;
    Reserve& operator=(const Reserve&) = delete;

    /// What this thread takes from the pool until the end of the scope becomes the reserve's.
    class Scope {
    public:
        /// The reserve outlives the scope.
        explicit Scope(Reserve& reserve);
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;
    };

private:
    friend class MemoryPool;
    struct Blocks;
    MemoryPool& pool_;
    Blocks& blocks_;
};

/// Until its end, and that of every other of its pool, a block that is given back goes to nobody; one that nobody had
/// before may be taken. For two streams, of which none may get what the other still uses.
class MemoryPool::Hold {
public:
    /// Of a pool, which outlives it.
    explicit Hold(MemoryPool& pool);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

private:
    MemoryPool& pool_;
};

/// Memory of one or more tensors of T that share it.
template <class T> class Storage {
public:
    /// Takes memory for `count` elements from the device's pool; it is not initialised.
    explicit Storage(Index count, Device device = Device::cpu)
        : bytes_(static_cast<std::size_t>(count) * sizeof(T)), device_(device),
          data_(static_cast<T*>(MemoryPool::instance(device).take(bytes_))) {}
    ~Storage() { MemoryPool::instance(device_).give_back(data_, bytes_); }
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;

    /// The first element; null for none.
    T* data() const { return data_; }
    /// What `Tensor::writes` says, and one more.
    /// @{
    std::uint64_t writes() const { return writes_; }
    void count_write() { ++writes_; }
    /// @}

private:
    std::size_t bytes_;
    Device device_;
    T* data_;
    std::uint64_t writes_ = 0;
};

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
/// Memory from the system, null if it has none. Large blocks ask for huge pages: looking up an ordinary one for every
/// 4 KiB costs loops that stream through a map up to half of their speed.
ESPALIER_BODY void* system_block(std::size_t bytes) {
#if defined(__linux__)
    if (constexpr std::size_t huge_page = std::size_t(1) << 21; bytes >= huge_page) {
        void* block = nullptr; // aligned_alloc would want whole huge pages
        if (posix_memalign(&block, huge_page, bytes) != 0) return nullptr;
        madvise(block, bytes, MADV_HUGEPAGE); // a wish: without it the block is as good, only slower
        return block;
    }
#endif
    void* block = nullptr;
    return posix_memalign(&block, MemoryPool::alignment, bytes) == 0 ? block : nullptr;
}
ESPALIER_BODY void* system_block([[maybe_unused]] Device device, std::size_t bytes) {
#if ESPALIER_CUDA
    if (device == Device::cuda) {
        current_stream(); // its errors, where there is no GPU, say more
        void* block = nullptr;
        const cudaError_t status = cudaMalloc(&block, bytes);
        if (status == cudaErrorMemoryAllocation) cudaGetLastError(); // else the next launch would report it
        if (status != cudaErrorMemoryAllocation) check_cuda("MemoryPool", status);
        return block;
    }
#endif
    return system_block(bytes);
}
ESPALIER_BODY void free_block([[maybe_unused]] Device device, void* block) noexcept {
#if ESPALIER_CUDA
    if (device == Device::cuda) return void(cudaFree(block)); // waits until the GPU is done with it
#endif
    std::free(block);
}
} // namespace detail

struct MemoryPool::Reserve::Blocks {
    std::map<std::size_t, std::vector<void*>> free; // by size; what nobody uses now
};

struct MemoryPool::State {
    explicit State(Device where) : device(where) {}

    const Device device;
    const bool caches = std::getenv("ESPALIER_NO_CACHE") == nullptr;
    std::mutex mutex;
    std::map<std::size_t, std::vector<void*>> free;
    std::size_t in_use = 0, peak = 0, cached = 0;
    std::unordered_map<void*, Reserve::Blocks*> reserved; // blocks of a reserve, in use or not: all count as in use
    std::vector<std::pair<void*, std::size_t>> held;      // with their sizes; these count as in use, too
    Index holds = 0;

    static Reserve*& current() { // of this thread
        thread_local Reserve* reserve = nullptr;
        return reserve;
    }
    Reserve::Blocks* recording(const MemoryPool& pool) const {
        return current() && &current()->pool_ == &pool ? &current()->blocks_ : nullptr;
    }
    void* take(std::map<std::size_t, std::vector<void*>>& from, std::size_t size) {
        const auto it = from.find(size);
        if (it == from.end() || it->second.empty()) return nullptr;
        void* const block = it->second.back();
        it->second.pop_back();
        return block;
    }
    void keep(void* block, std::size_t size) noexcept { // what nobody uses any more
        in_use -= size;
        if (!caches) return detail::free_block(device, block);
        try {
            free[size].push_back(block);
            cached += size;
        } catch (...) {
            detail::free_block(device, block);
        }
    }
    void give_back(void* block, std::size_t size) noexcept {
        try {
            if (holds > 0) return void(held.emplace_back(block, size));
            const auto it = reserved.find(block);
            if (it == reserved.end()) return keep(block, size);
            it->second->free[size].push_back(block);
        } catch (...) {} // no memory for the list: lost to the end of the process, but never handed to another
    }
};

ESPALIER_BODY MemoryPool::MemoryPool(Device device) : state_(*new State(device)) {}

ESPALIER_BODY MemoryPool& MemoryPool::instance(Device device) {
    if (device == Device::cpu) {
        static MemoryPool* const pool = new MemoryPool(Device::cpu);
        return *pool;
    }
#if ESPALIER_CUDA
    static MemoryPool* const pool = new MemoryPool(Device::cuda);
    return *pool;
#else
    detail::no_cuda();
#endif
}

ESPALIER_BODY void* MemoryPool::take(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    Reserve::Blocks* const recording = state_.recording(*this);
    const auto mine = [&](void* block) { // of the reserve from here on
        if (recording) state_.reserved.emplace(block, recording);
        return block;
    };
    {
        const std::lock_guard lock(state_.mutex);
        // Without a cache every tensor is a block of its own in a recording, too.
        if (recording && state_.caches)
            if (void* const block = state_.take(recording->free, size)) return block;
        state_.in_use += size;
        state_.peak = std::max(state_.peak, state_.in_use);
        if (void* const block = state_.take(state_.free, size)) {
            state_.cached -= size;
            return mine(block);
        }
    }
    try {
        void* block = detail::system_block(state_.device, size);
        if (!block) {
            release_cached();
            block = detail::system_block(state_.device, size);
        }
        const std::lock_guard lock(state_.mutex);
        if (block) return mine(block);
    } catch (...) {
        const std::lock_guard lock(state_.mutex);
        state_.in_use -= size;
        throw;
    }
    const std::lock_guard lock(state_.mutex);
    state_.in_use -= size;
    detail::fail<Error>("MemoryPool: expected room for ", size, " bytes on ", state_.device, ", got none with ",
                        state_.in_use, " bytes in use");
}

ESPALIER_BODY void MemoryPool::give_back(void* block, std::size_t bytes) noexcept {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(state_.mutex);
    try { // a block from before a recording may be known to kernels that were recorded
        if (Reserve::Blocks* const recording = state_.recording(*this)) state_.reserved.emplace(block, recording);
    } catch (...) {
        return; // lost, as in State
    }
    state_.give_back(block, size);
}

ESPALIER_BODY MemoryPool::Reserve::Reserve(MemoryPool& pool) : pool_(pool), blocks_(*new Blocks) {}
ESPALIER_BODY MemoryPool::Reserve::~Reserve() {
    State& state = pool_.state_;
    const std::lock_guard lock(state.mutex);
    for (auto it = state.reserved.begin();
         it != state.reserved.end();) // those in use go to the pool when they are given back
        it = it->second == &blocks_ ? state.reserved.erase(it) : std::next(it);
    for (const auto& [size, blocks] : blocks_.free)
        for (void* const block : blocks) state.give_back(block, size);
    delete &blocks_;
}
ESPALIER_BODY MemoryPool::Reserve::Scope::Scope(Reserve& reserve) { State::current() = &reserve; }
ESPALIER_BODY MemoryPool::Reserve::Scope::~Scope() { State::current() = nullptr; }

ESPALIER_BODY MemoryPool::Hold::Hold(MemoryPool& pool) : pool_(pool) {
    const std::lock_guard lock(pool_.state_.mutex);
    ++pool_.state_.holds;
}
ESPALIER_BODY MemoryPool::Hold::~Hold() {
    State& state = pool_.state_;
    const std::lock_guard lock(state.mutex);
    if (--state.holds > 0) return;
    for (const auto& [block, size] : state.held) state.give_back(block, size);
    state.held.clear();
}

ESPALIER_BODY void MemoryPool::release_cached() {
    const std::lock_guard lock(state_.mutex);
    for (auto& [size, blocks] : state_.free)
        for (void* const block : blocks) detail::free_block(state_.device, block);
    state_.free.clear();
    state_.cached = 0;
}

ESPALIER_BODY std::size_t MemoryPool::bytes_in_use() const {
    const std::lock_guard lock(state_.mutex);
    return state_.in_use;
}

ESPALIER_BODY std::size_t MemoryPool::peak_bytes() const {
    const std::lock_guard lock(state_.mutex);
    return state_.peak;
}

ESPALIER_BODY void MemoryPool::reset_peak() {
    const std::lock_guard lock(state_.mutex);
    state_.peak = state_.in_use;
}

ESPALIER_BODY std::size_t MemoryPool::bytes_cached() const {
    const std::lock_guard lock(state_.mutex);
    return state_.cached;
}

// Sizes are rounded to eighths of a power of two: at most an eighth is lost, and nearby sizes share blocks.
ESPALIER_BODY std::size_t MemoryPool::rounded(std::size_t bytes) const {
    if (!state_.caches) return std::max<std::size_t>(1, bytes);
    std::size_t step = alignment;
    while (step * 16 <= bytes) step *= 2;
    return std::max(alignment, (bytes + step - 1) / step * step);
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
