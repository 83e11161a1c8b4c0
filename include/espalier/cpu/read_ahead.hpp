#pragma once

#include <espalier/core/shape.hpp>

#include <algorithm>
#include <array>
#include <cstdint>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Memory that is read soon. A loop that copies it waits for memory and computes nothing; a loop before it that
/// computes asks for some of it now and then, and the copy finds it in a cache.
class ReadAhead {
public:
    /// Puts a stretch of `bytes` bytes from `from` on behind those that are left: there is room for two.
    void add(const void* from, Index bytes) {
        const auto begin = reinterpret_cast<std::uintptr_t>(from);
        stretches_[stretches_[0].bytes() ? 1 : 0] = {begin, begin + static_cast<std::uintptr_t>(bytes)};
    }
    /// Makes so many calls of `some` ask for all that is left.
    void share(Index calls) { lines_ = left() / (line * std::max<Index>(1, calls)) + 1; }
    /// Asks for a share of what is left.
    void some() {
        Stretch& s = stretches_[stretches_[0].bytes() ? 0 : 1];
        for (Index i = 0; i < lines_ && s.next < s.end; ++i, s.next += line) // the first-level cache is in use
            __builtin_prefetch(reinterpret_cast<const void*>(s.next), 0, 2);
    }
    /// Bytes that were not asked for yet.
    Index left() const { return stretches_[0].bytes() + stretches_[1].bytes(); }

private:
    static constexpr Index line = 64; // bytes that one request fetches
    struct Stretch {
        std::uintptr_t next = 0, end = 0;
        Index bytes() const { return next < end ? static_cast<Index>(end - next) : 0; }
    };
    std::array<Stretch, 2> stretches_;
    Index lines_ = 0;
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
