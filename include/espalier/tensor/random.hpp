#pragma once

#include <espalier/core/random.hpp>
#include <espalier/tensor/tensor.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Elements uniform in [low, high); element i is draw i of `random`.
template <class T> Tensor<T> uniform(const Shape& shape, const Random& random, double low = 0, double high = 1) {
    Tensor<T> t(shape);
    for (Index i = 0; i < t.size(); ++i)
        t.mutable_data()[i] = static_cast<T>(low + (high - low) * random.uniform(static_cast<std::uint64_t>(i)));
    return t;
}

/// Normal elements; element i is draw i of `random`.
template <class T> Tensor<T> normal(const Shape& shape, const Random& random, double mean = 0, double deviation = 1) {
    Tensor<T> t(shape);
    for (Index i = 0; i < t.size(); ++i)
        t.mutable_data()[i] = static_cast<T>(mean + deviation * random.normal(static_cast<std::uint64_t>(i)));
    return t;
}

} // namespace espalier::inline ESPALIER_BACKEND
