#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/tensor/strided.hpp>

#include <functional>
#include <utility>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
template <class F, class Offsets, std::size_t... I, class... A>
__device__ auto apply_at(const F& f, const Offsets& at, std::index_sequence<I...>, const A*... x) {
    return f(x[at[I + 1]]...);
}
} // namespace detail

namespace kernels {

// One thread an element. f is a type with a name: nvcc launches no kernel of a lambda's type.
template <class F, class T, class... A>
__global__ void elementwise_kernel(F f, detail::Loops<1 + sizeof...(A)> loops, T* y, const A*... x) {
    const Index i = global_thread();
    if (i >= loops.size()) return;
    const auto at = loops.offsets(i);
    y[at[0]] = detail::apply_at(f, at, std::index_sequence_for<A...>(), x...);
}

/// y = f(a), or f(a, b), element by element, as on the CPU. f can be called by the GPU.
template <class F, class T, class... A> void elementwise(Cuda on, F f, Strided<T> y, Strided<const A>... x) {
    const detail::Loops<1 + sizeof...(A)> loops(y, x...);
    launch(on.stream, elements(y.size()), elementwise_kernel<F, T, A...>, f, loops, y.data(), x.data()...);
}
/// y = x
template <class T> void copy(Cuda on, Strided<const T> x, Strided<T> y) { elementwise(on, std::identity(), y, x); }

// One thread an element.
template <class T> __global__ void accumulate_kernel(View<const T, 1> x, View<T, 1> y) {
    if (const Index i = global_thread(); i < y.size()) y(i) += x(i);
}
template <class T> __global__ void sum_of_kernel(View<const T, 1> x, View<const T, 1> y, View<T, 1> z) {
    if (const Index i = global_thread(); i < z.size()) z(i) = x(i) + y(i);
}
/// y[i] += x[i]
template <class T> void accumulate(Cuda on, View<const T, 1> x, View<T, 1> y) {
    launch(on.stream, elements(y.size()), accumulate_kernel<T>, x, y);
}
/// z[i] = x[i] + y[i]
template <class T> void sum_of(Cuda on, View<const T, 1> x, View<const T, 1> y, View<T, 1> z) {
    launch(on.stream, elements(z.size()), sum_of_kernel<T>, x, y, z);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
