#pragma once

#include <espalier/core/shape.hpp>

#include <cstring>

namespace espalier::inline ESPALIER_BACKEND {

/// One hardware vector of T, over the compilers' vector extension: 64, 32 or 16 bytes by what the target has.
///
/// Arithmetic is lane by lane and written with the ordinary operators; `a * b + c` contracts to a fused multiply-add.
template <class T> struct Simd {
    static constexpr Index lanes = ESPALIER_VECTOR_BYTES / static_cast<Index>(sizeof(T)); ///< elements a vector
    /// `lanes` elements of T in one register.
    typedef T Vector __attribute__((vector_size(ESPALIER_VECTOR_BYTES)));

    /// All lanes zero.
    static Vector zero() { return Vector{}; }
    /// All lanes the same.
    static Vector broadcast(T value) { return value - Vector{}; } // 0 would lose the sign of -0 if added
    /// Reads `lanes` elements; `from` needs no alignment.
    static Vector load(const T* from) {
        Vector v;
        std::memcpy(&v, from, sizeof v);
        return v;
    }
    /// Writes `lanes` elements; `to` needs no alignment.
    static void store(T* to, Vector v) { std::memcpy(to, &v, sizeof v); }
    /// Reads the first `count` elements, 0 <= count <= lanes; the other lanes are zero.
    static Vector load_first(const T* from, Index count) {
        Vector v{};
        for (Index i = 0; i < count; ++i) v[i] = from[i];
        return v;
    }
    /// Writes the first `count` lanes and no other memory, 0 <= count <= lanes.
    static void store_first(T* to, Vector v, Index count) {
        for (Index i = 0; i < count; ++i) to[i] = v[i];
    }
};

} // namespace espalier::inline ESPALIER_BACKEND
