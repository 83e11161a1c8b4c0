#pragma once

#include <espalier/cpu/fixed_order.hpp>
#include <espalier/cpu/gather.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// The view with its axes swapped; no element moves.
template <class T> View<T, 2> transposed(View<T, 2> a) {
    return {a.data(), {a.size(1), a.size(0)}, {a.stride(1), a.stride(0)}};
}

namespace detail {
/// [M,C] as M images of one pixel.
template <class T> View<T, 4> as_images(View<T, 2> a) {
    return {a.data(), {a.size(0), 1, 1, a.size(1)}, {a.stride(0), a.size(1), a.size(1), a.stride(1)}};
}
} // namespace detail

namespace kernels {

/// Plan of `gemm`: a gathered product with a single tap.
template <class T> GatherPlan gemm_plan(Cpu, View<const T, 2> x, View<T, 2> y) {
    const std::vector<Phase> one{{0, 1, 1, 1, {{0, 0, 0}}}};
    return gather_plan(detail::as_images(x), detail::as_images(y), one, one, {1, 1});
}

/// y[m,k] = b[k] + sum over c of x[m,c] * w[c,k];  x [M,C], w [C,K], b [K] or empty, y [M,K], each with any strides but
/// y, whose rows are contiguous.
/// @param scratch  plan.scratch() elements
template <class T>
void gemm(Cpu on, const GatherPlan& plan, View<const T, 2> x, View<const T, 2> w, View<const T, 1> b,
          View<T, 1> scratch, View<T, 2> y) {
    parallel_for(panel_blocks<T>(w.size(1)), [&](Index block) { pack_panel(w, 0, w.size(0), block, scratch.data()); });
    gather(on, plan, detail::as_images(x), b, scratch, detail::as_images(y));
}

/// Elements of scratch that `gemm_fixed_order` takes for w [C,K].
template <class T> Index gemm_fixed_order_scratch(Cpu, View<const T, 2> w) {
    return w.size(0) * whole_vectors<T>(w.size(1));
}

/// As `gemm`, each output adding its terms one by one in the order of c, and the bias last.
template <class T>
void gemm_fixed_order(Cpu, View<const T, 2> x, View<const T, 2> w, View<const T, 1> b, View<T, 1> scratch,
                      View<T, 2> y) {
    fixed_order_rows(w, scratch.data());
    parallel_for(y.size(0), [&](Index m) {
        std::fill_n(y.at(m), y.size(1), T(0));
        add_terms(x.at(m), x.stride(1), x.size(1), scratch.data(), y.at(m), y.size(1));
        for (Index k = 0; k < b.size(); ++k) y(m, k) += b(k);
    });
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
