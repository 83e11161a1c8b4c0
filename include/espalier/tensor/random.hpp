#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/core/random.hpp>
#include <espalier/tensor/tensor.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
/// A tensor whose element i is draw(i): in any order, so on all cores.
template <class T, class F> Tensor<T> drawn(const Shape& shape, const F& draw) {
    Tensor<T> t(shape);
    T* const to = t.mutable_data();
    parallel_ranges(t.size(), 4096, [&](Index begin, Index end) { // some 0.1 ms: more than waking a thread costs
        for (Index i = begin; i < end; ++i) to[i] = static_cast<T>(draw(static_cast<std::uint64_t>(i)));
    });
    return t;
}
} // namespace detail

/// Elements uniform in [low, high); element i is draw i of `random`.
template <class T> Tensor<T> uniform(const Shape& shape, const Random& random, double low = 0, double high = 1) {
    return detail::drawn<T>(shape, [&](std::uint64_t i) { return low + (high - low) * random.uniform(i); });
}

/// Normal elements; element i is draw i of `random`.
template <class T> Tensor<T> normal(const Shape& shape, const Random& random, double mean = 0, double deviation = 1) {
    return detail::drawn<T>(shape, [&](std::uint64_t i) { return mean + deviation * random.normal(i); });
}

} // namespace espalier::inline ESPALIER_BACKEND
