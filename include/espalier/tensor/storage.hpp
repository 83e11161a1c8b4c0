#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/tensor/device.hpp>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Allocator of tensor memory: 64-byte aligned blocks, kept for reuse when released.
///
/// Training allocates the same sizes again each step; fresh pages from the system would cost more than many kernels.
/// Safe to use from several threads.
class MemoryPool {
public:
    /// The pool of this process. It outlives every tensor, static ones included, so it is never destroyed.
    static MemoryPool& instance() {
        static MemoryPool* const pool = new MemoryPool;
        return *pool;
    }

    /// A block of at least `bytes` bytes, uninitialised. @throws Error when the system has no memory left
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

    static constexpr std::size_t alignment = 64; ///< bytes: of a cache line, and of the widest vector

private:
    static std::size_t rounded(std::size_t bytes);

    mutable std::mutex mutex_;
    std::map<std::size_t, std::vector<void*>> free_;
    std::size_t in_use_ = 0, peak_ = 0, cached_ = 0;
};

/// Memory of one or more tensors of T that share it.
template <class T> class Storage {
public:
    /// Takes memory for `count` elements from the pool; it is not initialised.
    explicit Storage(Index count)
        : bytes_(static_cast<std::size_t>(count) * sizeof(T)),
          data_(static_cast<T*>(MemoryPool::instance().take(bytes_))) {}
    ~Storage() { MemoryPool::instance().give_back(data_, bytes_); }
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;

    /// The first element; null for none.
    T* data() const { return data_; }

private:
    std::size_t bytes_;
    T* data_;
};

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <algorithm>
#include <cstdlib>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY void* MemoryPool::take(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    {
        const std::lock_guard lock(mutex_);
        in_use_ += size;
        peak_ = std::max(peak_, in_use_);
        if (auto it = free_.find(size); it != free_.end() && !it->second.empty()) {
            void* const block = it->second.back();
            it->second.pop_back();
            cached_ -= size;
            return block;
        }
    }
    if (void* const block = std::aligned_alloc(alignment, size)) return block;
    release_cached();
    if (void* const block = std::aligned_alloc(alignment, size)) return block;
    const std::lock_guard lock(mutex_);
    in_use_ -= size;
    throw Error(join_text("MemoryPool: expected room for ", size, " bytes, got none with ", in_use_, " bytes in use"));
}

ESPALIER_BODY void MemoryPool::give_back(void* block, std::size_t bytes) noexcept {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    in_use_ -= size;
    try {
        free_[size].push_back(block);
        cached_ += size;
    } catch (...) {
        std::free(block);
    }
}

ESPALIER_BODY void MemoryPool::release_cached() {
    const std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : free_)
        for (void* const block : blocks) std::free(block);
    free_.clear();
    cached_ = 0;
}

ESPALIER_BODY std::size_t MemoryPool::bytes_in_use() const {
    const std::lock_guard lock(mutex_);
    return in_use_;
}

ESPALIER_BODY std::size_t MemoryPool::peak_bytes() const {
    const std::lock_guard lock(mutex_);
    return peak_;
}

ESPALIER_BODY void MemoryPool::reset_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = in_use_;
}

ESPALIER_BODY std::size_t MemoryPool::bytes_cached() const {
    const std::lock_guard lock(mutex_);
    return cached_;
}

// Sizes are rounded to eighths of a power of two: at most an eighth is lost, and nearby sizes share blocks.
ESPALIER_BODY std::size_t MemoryPool::rounded(std::size_t bytes) {
    std::size_t step = alignment;
    while (step * 16 <= bytes) step *= 2;
    return std::max(alignment, (bytes + step - 1) / step * step);
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
