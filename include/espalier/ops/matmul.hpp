#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/gemm.hpp>
#if ESPALIER_CUDA
#include <espalier/cuda/gemm.cuh>
#endif

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
/// y = x w + b; b [0] is no bias.
template <class T> void product(Path path, View<const T, 2> x, View<const T, 2> w, const Tensor<T>& b, Tensor<T>& y) {
    dispatch(y.device(), [&](auto on) {
        if (path == Path::fixed_order) {
            Tensor<T> scratch({kernels::gemm_fixed_order_scratch(on, w)}, y.device());
            kernels::gemm_fixed_order(on, x, w, view<1>(b), mutable_flat(scratch), mutable_view<2>(y));
        } else {
            const auto plan = kernels::gemm_plan(on, x, mutable_view<2>(y));
            Tensor<T> scratch({plan.scratch()}, y.device());
            kernels::gemm(on, plan, x, w, view<1>(b), mutable_flat(scratch), mutable_view<2>(y));
        }
    });
}

/// x w [rows, columns] on the fast path.
template <class T> Tensor<T> fast_product(View<const T, 2> x, View<const T, 2> w, Device device) {
    Tensor<T> y({x.size(0), w.size(1)}, device);
    product(Path::fast, x, w, Tensor<T>({0}, device), y);
    return y;
}
} // namespace detail

/// Matrix product: y[m,k] = sum over c of a[m,c] * b[c,k].
///
/// a [M,C]; b [C,K].  Returns y [M,K]. Any extent may be 0.  da = dy transposed(b),  db = transposed(a) dy.
/// On `Path::fixed_order` each output adds its terms one by one in the order of c.
/// @throws ShapeError  if the operands do not fit each other
template <class T> Var<T> matmul(const Var<T>& a, const Var<T>& b) {
    expect(a.rank() == 2 && b.rank() == 2 && a.size(1) == b.size(0), "matmul: expected a [M,C] and b [C,K], got a ",
           a.shape(), " and b ", b.shape());
    expect_same_device("matmul", a, b);
    Tensor<T> y({a.size(0), b.size(1)}, a.device());
    detail::product(current_path(), view<2>(a.value()), view<2>(b.value()), Tensor<T>({0}, a.device()), y);
    return record<T>("matmul", y, {a, b},
                     ChannelRule::declared().block(0, "product of activations").block(1, "product of activations"),
                     [av = b.needs_grad() ? a.value() : Tensor<T>(),
                      bv = a.needs_grad() ? b.value() : Tensor<T>()](const Tensor<T>& dy, const Inputs<T>& input) {
                         const auto g = view<2>(dy);
                         if (input[0].needs_grad())
                             input[0].add_grad(detail::fast_product(g, transposed(view<2>(bv)), dy.device()));
                         if (input[1].needs_grad())
                             input[1].add_grad(detail::fast_product(transposed(view<2>(av)), g, dy.device()));
                     });
}

ESPALIER_COMPILED_FUNCTION(detail::product);
ESPALIER_COMPILED_FUNCTION(matmul);

} // namespace espalier::inline ESPALIER_BACKEND
