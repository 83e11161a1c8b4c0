#pragma once

#include <espalier/core/shape.hpp>

#include <cstdint>
#include <cstring>
#include <type_traits>

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
    /// As `store`, but past the caches where the target can and `to` is aligned to a vector: memory that is written
    /// whole and not read again soon need not be read first, and displaces nothing. `end_of_streams` comes after it.
    static void stream(T* to, Vector v) {
        if (reinterpret_cast<std::uintptr_t>(to) % sizeof v != 0) return store(to, v);
#if defined(__clang__)
        __builtin_nontemporal_store(v, reinterpret_cast<Vector*>(to));
#elif defined(__SSE2__)
        typedef long long Words __attribute__((vector_size(ESPALIER_VECTOR_BYTES)));
        Words* const words = reinterpret_cast<Words*>(to);
#if defined(__AVX512F__)
        __builtin_ia32_movntdq512(words, reinterpret_cast<Words>(v));
#elif defined(__AVX__)
        __builtin_ia32_movntdq256(words, reinterpret_cast<Words>(v));
#else
        __builtin_ia32_movntdq(words, reinterpret_cast<Words>(v));
#endif
#else
        store(to, v);
#endif
    }
    /// Reads the first `count` elements and no other memory, 0 <= count <= lanes; the other lanes are zero.
    static Vector load_first(const T* from, Index count) {
#if defined(__AVX512F__)
        return load_mask(from, count);
#elif defined(__AVX__)
        if constexpr (sizeof(T) == 4)
            return __builtin_ia32_maskloadps256(reinterpret_cast<const Vector*>(from), first(count));
        else
            return __builtin_ia32_maskloadpd256(reinterpret_cast<const Vector*>(from), first(count));
#else
        Vector v{};
        for (Index i = 0; i < count; ++i) v[i] = from[i];
        return v;
#endif
    }
    /// Writes the first `count` lanes and no other memory, 0 <= count <= lanes.
    static void store_first(T* to, Vector v, Index count) {
#if defined(__AVX512F__)
        store_mask(to, v, count);
#else
        for (Index i = 0; i < count; ++i) to[i] = v[i];
#endif
    }

private:
#if defined(__AVX512F__)
    // For each scalar type one: nvcc checks the types of builtins before it knows T.
    typedef float Floats __attribute__((vector_size(64)));
    typedef double Doubles __attribute__((vector_size(64)));
    static Floats load_mask(const float* from, Index count) {
        return __builtin_ia32_loadups512_mask(from, Floats{}, static_cast<unsigned short>((1u << count) - 1));
    }
    static Doubles load_mask(const double* from, Index count) {
        return __builtin_ia32_loadupd512_mask(from, Doubles{}, static_cast<unsigned char>((1u << count) - 1));
    }
    static void store_mask(float* to, Floats v, Index count) {
        __builtin_ia32_storeups512_mask(to, v, static_cast<unsigned short>((1u << count) - 1));
    }
    static void store_mask(double* to, Doubles v, Index count) {
        __builtin_ia32_storeupd512_mask(to, v, static_cast<unsigned char>((1u << count) - 1));
    }
#elif defined(__AVX__)
    using Integer = std::conditional_t<sizeof(T) == 4, int, long long>;
    typedef Integer Lanes __attribute__((vector_size(ESPALIER_VECTOR_BYTES)));

    // All bits of the first `count` lanes. Loads of masked lanes cost what plain ones do; stores of them cost AMD's
    // processors more than a loop.
    static Lanes first(Index count) {
        Lanes number;
        if constexpr (sizeof(T) == 4)
            number = Lanes{0, 1, 2, 3, 4, 5, 6, 7};
        else
            number = Lanes{0, 1, 2, 3};
        return number < static_cast<Integer>(count);
    }
#endif
};

/// Elements of the vectors that cover `count` of them.
template <class T> Index whole_vectors(Index count) {
    return (count + Simd<T>::lanes - 1) / Simd<T>::lanes * Simd<T>::lanes;
}

/// Makes what this thread has streamed visible before what it writes next, as ordinary stores are.
inline void end_of_streams() {
#if defined(__SSE2__)
    __builtin_ia32_sfence();
#endif
}

} // namespace espalier::inline ESPALIER_BACKEND
