#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/cpu/gemm.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
/// y = x w + b on the current path; b [0] is no bias.
template <class T> void product(View<const T, 2> x, View<const T, 2> w, const Tensor<T>& b, Tensor<T>& y) {
    dispatch(y.device(), [&](auto on) {
        Tensor<T> scratch({kernels::gemm_scratch<T>(y.size(0), y.size(1), x.size(1))}, y.device());
        kernels::gemm(on, x, w, view<1>(b), mutable_flat(scratch), mutable_view<2>(y));
    });
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
    Tensor<T> y({a.size(0), b.size(1)}, a.device());
    detail::product(view<2>(a.value()), view<2>(b.value()), Tensor<T>({0}), y);
    return record<T>(
        "matmul", y, {a, b},
        ChannelRule::declared().block(0, "product of activations").block(1, "product of activations"),
        [av = b.needs_grad() ? a.value() : Tensor<T>(), bv = a.needs_grad() ? b.value() : Tensor<T>()](
            const Tensor<T>& dy, const Inputs<T>& input) {
            if (input[0].needs_grad()) {
                Tensor<T> da(input[0].shape, dy.device());
                detail::product(view<2>(dy), transposed(view<2>(bv)), Tensor<T>({0}), da);
                input[0].add_grad(std::move(da));
            }
            if (input[1].needs_grad()) {
                Tensor<T> db(input[1].shape, dy.device());
                detail::product(transposed(view<2>(av)), view<2>(dy), Tensor<T>({0}), db);
                input[1].add_grad(std::move(db));
            }
        });
}

} // namespace espalier::inline ESPALIER_BACKEND
