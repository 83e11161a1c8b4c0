#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/view.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// One thread an element.
template <class T> __global__ void fill_kernel(T value, View<T, 1> y) {
    if (const Index i = global_thread(); i < y.size()) y(i) = value;
}
template <class T> __global__ void increase_kernel(T by, View<T, 1> y) {
    if (const Index i = global_thread(); i < y.size()) y(i) += by;
}
template <class T, class U> __global__ void cast_kernel(View<const T, 1> x, View<U, 1> y) {
    if (const Index i = global_thread(); i < y.size()) y(i) = static_cast<U>(x(i));
}

/// As on the CPU.
/// @{
template <class T> void fill(Cuda on, T value, View<T, 1> y) {
    launch(on.stream, elements(y.size()), fill_kernel<T>, value, y);
}
template <class T> void increase(Cuda on, T by, View<T, 1> y) {
    launch(on.stream, elements(y.size()), increase_kernel<T>, by, y);
}
template <class T, class U> void cast(Cuda on, View<const T, 1> x, View<U, 1> y) {
    launch(on.stream, elements(y.size()), cast_kernel<T, U>, x, y);
}
/// @}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
