#pragma once

#include <espalier/cuda/tensor_product.cuh>
#include <espalier/tensor/view.hpp>

#include <cmath>
#include <cstdint>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// y = x w as a product: rows are those of x, terms the rows of w.
template <class T, bool XAlongTerms, bool WAlongTerms, int Width> struct MatrixProduct {
    StridedRows<T, XAlongTerms, Width> x;
    StridedRows<T, WAlongTerms, Width> w;
    unsigned rows, columns, terms;
    Output<T> output;

    __device__ auto part(unsigned) const {
        return ProductPart<T, StridedRows<T, XAlongTerms, Width>, StridedRows<T, WAlongTerms, Width>, RowOffset>{
            x, w, rows, columns, terms, {0, output.pitch}, output.bias};
    }
};

/// As on the CPU.
template <class T> ProductPlan gemm_plan(Cuda, View<const T, 2> x, View<T, 2> y) {
    return product_plan(y.size(0), y.size(1), x.size(1), 1, y.size());
}

/// As on the CPU.
template <class T>
void gemm(Cuda on, const ProductPlan& plan, View<const T, 2> x, View<const T, 2> w, View<const T, 1> b,
          View<T, 1> scratch, View<T, 2> y) {
    // Which axis memory runs along, and whether all its runs are aligned quads.
    const bool x_terms = x.stride(1) <= x.stride(0), w_terms = w.stride(0) < w.stride(1);
    const auto in_quads = [](const View<const T, 2>& a, int axis) {
        return a.stride(axis) == 1 && a.stride(1 - axis) % 4 == 0 && a.size(axis) % 4 == 0 &&
               reinterpret_cast<std::uintptr_t>(a.data()) % sizeof(Quad<T>) == 0;
    };
    const auto run = [&]<bool X, bool W, int Width>() {
        const MatrixProduct<T, X, W, Width> product{
            {x.data(), x.stride(0), x.stride(1)}, {w.data(), w.stride(1), w.stride(0)},
            static_cast<unsigned>(y.size(0)),     static_cast<unsigned>(y.size(1)),
            static_cast<unsigned>(w.size(0)),     {}};
        const T* const bias = b.size() ? b.data() : nullptr;
        const auto multiply_by = [&]<class Math>(Math) {
            multiply<Math>(on, plan, product, y.data(), y.size(1), y.stride(0), bias, false, scratch.data());
        };
        if constexpr (std::is_same_v<T, float> &&
                      Width == 4) { // the rest is small: gradients of a network's last layer
            if (plan.precision == MatmulPrecision::tf32) return multiply_by(TensorProduct<Tf32Words, 64, 64>());
            if (plan.precision == MatmulPrecision::bf16) return multiply_by(TensorProduct<Bf16Words, 64, 64>());
        }
        multiply_by(PlainProduct<T>());
    };
    const auto with_width = [&]<bool X, bool W>() {
        in_quads(x, X ? 1 : 0) && in_quads(w, W ? 0 : 1) ? run.template operator()<X, W, 4>()
                                                         : run.template operator()<X, W, 1>();
    };
    if (x_terms)
        w_terms ? with_width.template operator()<true, true>() : with_width.template operator()<true, false>();
    else
        w_terms ? with_width.template operator()<false, true>() : with_width.template operator()<false, false>();
}

/// As on the CPU: nothing.
template <class T> Index gemm_fixed_order_scratch(Cuda, View<const T, 2>) { return 0; }

// One thread an output; fma, not what a compiler makes of a product and a sum, so that terms are added alike
// everywhere.
template <class T>
__global__ void gemm_fixed_order_kernel(View<const T, 2> x, View<const T, 2> w, View<const T, 1> b, View<T, 2> y) {
    const Index i = global_thread();
    if (i >= y.size()) return;
    const Index m = i / y.size(1), k = i % y.size(1);
    T sum = 0;
    for (Index c = 0; c < x.size(1); ++c) sum = std::fma(x(m, c), w(c, k), sum);
    if (b.size()) sum += b(k);
    y(m, k) = sum;
}
/// As on the CPU.
template <class T>
void gemm_fixed_order(Cuda on, View<const T, 2> x, View<const T, 2> w, View<const T, 1> b, View<T, 1>, View<T, 2> y) {
    launch(on.stream, elements(y.size()), gemm_fixed_order_kernel<T>, x, w, b, y);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
