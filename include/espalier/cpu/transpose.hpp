#pragma once

#include <espalier/core/simd.hpp>

#include <cstdint>
#include <type_traits>
#include <utility>

// A square of vectors, transposed in registers: how kernels write along one axis what they read along another, without
// going through memory number by number.

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

// Lane l of a and lane l ^ d of b change places, for all l with bit d.
template <class T, Index d, Index... l>
[[gnu::always_inline]] inline void exchange(typename Simd<T>::Vector& a, typename Simd<T>::Vector& b,
                                            std::integer_sequence<Index, l...>) {
    constexpr Index lanes = Simd<T>::lanes;
#if defined(__clang__)
    const auto low = __builtin_shufflevector(a, b, (l & d ? lanes + (l ^ d) : l)...);
    b = __builtin_shufflevector(a, b, (l & d ? lanes + l : l | d)...);
#else // the same to g++, and nvcc does not expand packs in the other
    using Lane = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
    typedef Lane Lanes [[gnu::vector_size(sizeof(Lane) * lanes)]];
    const auto low = __builtin_shuffle(a, b, Lanes{(l & d ? lanes + (l ^ d) : l)...});
    b = __builtin_shuffle(a, b, Lanes{(l & d ? lanes + l : l | d)...});
#endif
    a = low;
}

template <class T, Index d, Index... i>
[[gnu::always_inline]] inline void exchange_rows(typename Simd<T>::Vector (&rows)[Simd<T>::lanes],
                                                 std::integer_sequence<Index, i...> lanes) {
    ((i & d ? void() : exchange<T, d>(rows[i], rows[i | d], lanes)), ...);
    if constexpr (d > 1) exchange_rows<T, d / 2>(rows, lanes);
}

} // namespace detail

namespace kernels {

/// Lane j of rows[i] and lane i of rows[j] change places, for all i and j.
template <class T> [[gnu::always_inline]] inline void transpose(typename Simd<T>::Vector (&rows)[Simd<T>::lanes]) {
    detail::exchange_rows<T, Simd<T>::lanes / 2>(rows, std::make_integer_sequence<Index, Simd<T>::lanes>{});
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
