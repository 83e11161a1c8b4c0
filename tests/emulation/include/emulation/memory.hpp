#pragma once

// Memory of the emulated GPU. It lies in a range of its own that the host may not touch: only while a kernel or a copy
// runs is it open, and after every sixteenth it is closed, so that a host loop over a GPU's tensor is a segmentation
// fault here, as it is there. Fresh blocks are all ones, NaN as a float. Blocks lie apart, and the address sanitizer
// knows what is between them.

#include <cstddef>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace emulation {

class Memory {
public:
    static Memory& instance() {
        static Memory* const memory = new Memory; // outlives static tensors
        return *memory;
    }

    /// Null if `limit` would be passed.
    void* take(std::size_t bytes) {
        if (bytes > reserved) return nullptr; // before sums could wrap around
        const std::lock_guard lock(mutex_);
        const std::size_t room = (bytes + gap + page - 1) / page * page;
        if (in_use_ + bytes > limit || end_ + room > reserved) return nullptr;
        std::size_t at = end_;
        if (const auto hole = holes_.find(room); hole != holes_.end() && !recycles_nothing) {
            at = hole->second;
            holes_.erase(hole);
        } else {
            end_ += room;
        }
        blocks_[base_ + at] = bytes;
        in_use_ += bytes;
        protect(at, room, PROT_READ | PROT_WRITE);
        ASAN_UNPOISON_MEMORY_REGION(base_ + at, bytes);
        std::memset(base_ + at, 0xFF, bytes);
        if (!open_) protect(at, room, PROT_NONE);
        return base_ + at;
    }
    /// False if this is no block.
    bool give_back(void* block) {
        const std::lock_guard lock(mutex_);
        const auto it = blocks_.find(static_cast<unsigned char*>(block));
        if (it == blocks_.end()) return false;
        ASAN_POISON_MEMORY_REGION(it->first, it->second);
        in_use_ -= it->second;
        holes_.emplace((it->second + gap + page - 1) / page * page, static_cast<std::size_t>(it->first - base_));
        blocks_.erase(it);
        return true;
    }
    bool contains(const void* address) const {
        const auto* const p = static_cast<const unsigned char*>(address);
        return p >= base_ && p < base_ + reserved;
    }

    /// Opens the memory until the end of the scope.
    class Access {
    public:
        Access() { instance().enter(); }
        ~Access() { instance().leave(); }
        Access(const Access&) = delete;
        Access& operator=(const Access&) = delete;
    };

    std::size_t limit = reserved; ///< bytes that may be in use, so that a test can run out

private:
    static constexpr std::size_t reserved = std::size_t(8) << 30, page = 4096, gap = 256;
    // Closing takes the system longer than a small kernel runs. Host code that touches the memory does it every time,
    // so it is found all the same.
    static constexpr unsigned closing = 16;
#if defined(__SANITIZE_ADDRESS__)
    static constexpr bool recycles_nothing = true; // so that what is used after it was freed is poisoned
#else
    static constexpr bool recycles_nothing = false;
#endif

    Memory() {
        void* const range = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED) throw std::bad_alloc();
        base_ = static_cast<unsigned char*>(range);
        ASAN_POISON_MEMORY_REGION(base_, reserved);
    }
    void enter() {
        const std::lock_guard lock(mutex_);
        if (users_++ > 0 || open_) return;
        protect(0, end_, PROT_READ | PROT_WRITE);
        open_ = true;
    }
    void leave() {
        const std::lock_guard lock(mutex_);
        if (--users_ > 0 || count_++ % closing != 0) return;
        protect(0, end_, PROT_NONE);
        open_ = false;
    }
    void protect(std::size_t begin, std::size_t bytes, int how) {
        if (bytes > 0) mprotect(base_ + begin, bytes, how);
    }

    std::mutex mutex_;
    unsigned char* base_ = nullptr;
    std::size_t end_ = 0, in_use_ = 0;
    int users_ = 0;
    bool open_ = false;
    unsigned count_ = 0; // of accesses that ended
    std::map<unsigned char*, std::size_t> blocks_;
    std::multimap<std::size_t, std::size_t> holes_; // room to offset
};

} // namespace emulation
