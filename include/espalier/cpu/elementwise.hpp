#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/accumulate.hpp>
#include <espalier/tensor/strided.hpp>

#include <utility>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

// Rows of stride 1 vectorise; an operand that a row repeats is read once.
template <class F, class T, class... X> void dense_row(const F& f, Index n, T* __restrict y, const X* __restrict... x) {
    for (Index i = 0; i < n; ++i) y[i] = f(x[i]...);
}
template <class F, class T, class A> void row(const F& f, Index n, T* y, Index y_step, const A* a, Index a_step) {
    if (y_step == 1 && a_step == 1) return dense_row(f, n, y, a);
    for (Index i = 0; i < n; ++i) y[i * y_step] = f(a[i * a_step]);
}
template <class F, class T, class A, class B>
void row(const F& f, Index n, T* y, Index y_step, const A* a, Index a_step, const B* b, Index b_step) {
    if (y_step == 1 && a_step == 1 && b_step == 1) return dense_row(f, n, y, a, b);
    if (b_step == 0) return row([&f, v = *b](A u) { return f(u, v); }, n, y, y_step, a, a_step);
    if (a_step == 0) return row([&f, u = *a](B v) { return f(u, v); }, n, y, y_step, b, b_step);
    for (Index i = 0; i < n; ++i) y[i * y_step] = f(a[i * a_step], b[i * b_step]);
}

} // namespace detail

/// What ops compute with: functions of an executor and views, which allocate nothing, return nothing and check nothing.
namespace kernels {

/// y = f(a), element by element; the views have the same extents and y overlaps no operand.
template <class F, class T, class A> void elementwise(Cpu, F f, Strided<T> y, Strided<const A> a) {
    if (y.size() == 0) return;
    const detail::Loops<2> loops(y, a);
    parallel_ranges(loops.size(), elementwise_grain, [&](Index begin, Index end) {
        loops.rows(begin, end, [&](const auto& at, Index n) {
            const auto last = loops.rank - 1;
            detail::row(f, n, y.data() + at[0], loops.strides[0][last], a.data() + at[1], loops.strides[1][last]);
        });
    });
}
/// y = f(a, b)
template <class F, class T, class A, class B>
void elementwise(Cpu, F f, Strided<T> y, Strided<const A> a, Strided<const B> b) {
    if (y.size() == 0) return;
    const detail::Loops<3> loops(y, a, b);
    parallel_ranges(loops.size(), elementwise_grain, [&](Index begin, Index end) {
        loops.rows(begin, end, [&](const auto& at, Index n) {
            const auto last = loops.rank - 1;
            detail::row(f, n, y.data() + at[0], loops.strides[0][last], a.data() + at[1], loops.strides[1][last],
                        b.data() + at[2], loops.strides[2][last]);
        });
    });
}
/// y = x
template <class T> void copy(Cpu on, Strided<const T> x, Strided<T> y) {
    elementwise(
        on, [](T v) { return v; }, y, x);
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::copy);

} // namespace espalier::inline ESPALIER_BACKEND
