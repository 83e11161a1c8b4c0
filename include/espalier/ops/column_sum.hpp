#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/reduce.hpp>
#include <espalier/tensor/tensor.hpp>
#if ESPALIER_CUDA
#include <espalier/cuda/reduce.cuh>
#endif

#include <functional>

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

/// Sums of x [..., C] over all axes but the last: the gradient of a bias.
template <class T> Tensor<T> column_sums(const Tensor<T>& x) {
    const Index rows = x.shape().product(0, x.rank() - 1), columns = x.size(-1);
    Tensor<T> sums({columns}, x.device());
    Tensor<double> scratch({kernels::reduce_blocks(1, rows, columns).count * columns}, x.device());
    dispatch(x.device(), [&](auto on) {
        kernels::reduce_middle(on, View<T, 2>(sums.mutable_data(), {1, columns}), mutable_flat(scratch),
                               std::identity(), std::identity(), View<const T, 3>(x.data(), {1, rows, columns}));
    });
    return sums;
}

} // namespace detail

ESPALIER_COMPILED_FUNCTION(detail::column_sums);

} // namespace espalier::inline ESPALIER_BACKEND
