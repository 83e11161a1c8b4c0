#pragma once

#include <espalier/tensor/tensor.hpp>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wdouble-promotion"
#include <Eigen/Core>
#pragma GCC diagnostic pop

// Not part of espalier.hpp: Eigen costs 1.6 seconds to include, and only those who want it should pay.

namespace espalier::inline ESPALIER_BACKEND {

/// Row-major, as tensors are.
template <class T> using EigenMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A tensor [..., C] as an Eigen matrix [M, C] over the same memory; a vector [C] is one row, a scalar 1 x 1.
template <class T> Eigen::Map<EigenMatrix<T>> map(Tensor<T>& x) {
    const Index columns = x.rank() == 0 ? 1 : x.size(-1);
    return {x.mutable_data(), columns == 0 ? 0 : x.size() / columns, columns};
}
/// As above, to read.
template <class T> Eigen::Map<const EigenMatrix<T>> map(const Tensor<T>& x) {
    const Index columns = x.rank() == 0 ? 1 : x.size(-1);
    return {x.data(), columns == 0 ? 0 : x.size() / columns, columns};
}

} // namespace espalier::inline ESPALIER_BACKEND
