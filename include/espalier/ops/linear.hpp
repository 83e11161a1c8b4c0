#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/ops/column_sum.hpp>
#include <espalier/ops/matmul.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Fully connected layer: y[n,k] = b[k] + sum over c of x[n,c] * w[k,c].
///
/// x [N,C]; w [K,C]; b [K] or undefined.  Returns y [N,K]. Any extent may be 0.
/// dx = dy w,  dw = transposed dy times x,  db[k] = sum over n of dy[n,k].
/// On `Path::fixed_order` each output adds its terms one by one in the order of c, and the bias last.
/// @throws ShapeError  if the operands do not fit each other
template <class T> Var<T> linear(const Var<T>& x, const Var<T>& w, const Var<T>& b = {}) {
    expect(x.rank() == 2 && w.rank() == 2 && x.size(1) == w.size(1), "linear: expected x [N,C] and w [K,C], got x ",
           x.shape(), " and w ", w.shape());
    const bool biased = b.defined();
    expect(!biased || b.shape() == Shape{w.size(0)}, "linear: expected a bias [", w.size(0), "], got ",
           biased ? b.shape() : Shape{});
    if (biased)
        expect_same_device("linear", x, w, b);
    else
        expect_same_device("linear", x, w);
    Tensor<T> y({x.size(0), w.size(0)}, x.device());
    detail::product(current_path(), view<2>(x.value()), transposed(view<2>(w.value())),
                    biased ? b.value() : Tensor<T>({0}, x.device()), y);
    std::vector<Var<T>> operands{x, w};
    ChannelRule rule = ChannelRule::declared().make(1, 0).eat(1, 1, 0).multiply(1, x.size(0));
    if (biased) {
        operands.push_back(b);
        rule = std::move(rule).ride(2, 0, ChannelRole::shifts);
    }
    return record<T>("linear", y, operands, std::move(rule),
                     [xv = w.needs_grad() ? x.value() : Tensor<T>(), wv = x.needs_grad() ? w.value() : Tensor<T>(),
                      biased](const Tensor<T>& dy, const Inputs<T>& input) {
                         const auto g = view<2>(dy);
                         if (input[0].needs_grad())
                             input[0].add_grad(detail::fast_product(g, view<2>(wv), dy.device()));
                         if (input[1].needs_grad())
                             input[1].add_grad(detail::fast_product(transposed(g), view<2>(xv), dy.device()));
                         if (biased && input[2].needs_grad()) input[2].add_grad(detail::column_sums(dy));
                     });
}

ESPALIER_COMPILED_FUNCTION(linear);

} // namespace espalier::inline ESPALIER_BACKEND
