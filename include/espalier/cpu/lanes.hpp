#pragma once

#include <espalier/core/simd.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// The interface of `Simd` over one element, so that what is left at the end of a row runs the same code.
template <class T> struct Lane {
    /// As of `Simd`, for one element.
    /// @{
    static constexpr Index lanes = 1;
    using Vector = T;

    static T zero() { return T(0); }
    static T broadcast(T value) { return value; }
    static T load(const T* from) { return *from; }
    static void store(T* to, T value) { *to = value; }
    static void stream(T* to, T value) { *to = value; }
    /// @}
};

/// Calls `body(S{}, i)` for i in [0, count) in steps of `S::lanes`: S is `Simd<T>` while a vector fits, then `Lane<T>`.
///
/// Let `body` capture pointers by value: what it captured by reference is read again after every store.
template <class T, class Body> [[gnu::always_inline]] inline void for_lanes(Index count, const Body& body) {
    Index i = 0;
    for (; i + Simd<T>::lanes <= count; i += Simd<T>::lanes) body(Simd<T>{}, i);
    for (; i < count; ++i) body(Lane<T>{}, i);
}

/// All lanes of a vector of T: `load` and `store` as of `Simd`.
template <class T> struct AllLanes : Simd<T> {};
/// The first `count` lanes of a vector of T: the others load as zero and are not stored.
template <class T> struct FirstLanes {
    Index count; ///< below `Simd<T>::lanes`

    /// As of `Simd`, for these lanes.
    /// @{
    auto load(const T* from) const { return Simd<T>::load_first(from, count); }
    void store(T* to, typename Simd<T>::Vector v) const { Simd<T>::store_first(to, v, count); }
    /// @}
};

/// Calls `body(lanes, i)` for i in [0, count) in steps of a vector: `AllLanes` while a vector fits, then `FirstLanes`.
template <class T, class Body> [[gnu::always_inline]] inline void for_vectors(Index count, const Body& body) {
    Index i = 0;
    for (; i + Simd<T>::lanes <= count; i += Simd<T>::lanes) body(AllLanes<T>{}, i);
    if (i < count) body(FirstLanes<T>{count - i}, i);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
