#include <espalier/cpu/gemm.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("gemm: operands of any strides, with and without bias, on both paths", T, float, double) {
    for (const Index m : {1, 5, 23})
        for (const Index k : {1, 9, 40})
            for (const bool turned_x : {false, true})
                for (const bool turned_w : {false, true})
                    for (const bool biased : {false, true}) {
                        const Index terms = 31;
                        const auto xt = random_tensor<T>(turned_x ? Shape{terms, m} : Shape{m, terms});
                        const auto wt = random_tensor<T>(turned_w ? Shape{k, terms} : Shape{terms, k}, "w");
                        const auto x = turned_x ? transposed(view<2>(xt)) : view<2>(xt);
                        const auto w = turned_w ? transposed(view<2>(wt)) : view<2>(wt);
                        const auto b = random_tensor<T>({biased ? k : 0}, "b");
                        Tensor<double> expected({m, k});
                        for (Index i = 0; i < m; ++i)
                            for (Index j = 0; j < k; ++j) {
                                double sum = biased ? static_cast<double>(b.at(j)) : 0;
                                for (Index c = 0; c < terms; ++c)
                                    sum += static_cast<double>(x(i, c)) * static_cast<double>(w(c, j));
                                expected.set(sum, i, j);
                            }
                        Tensor<T> y({m, k});
                        const auto plan = kernels::gemm_plan(Cpu{}, x, mutable_view<2>(y));
                        Tensor<T> scratch({plan.scratch()});
                        kernels::gemm(Cpu{}, plan, x, w, view<1>(b), mutable_flat(scratch), mutable_view<2>(y));
                        check_close(y, expected, 31); // one rounding a term
                        Tensor<T> rows({kernels::gemm_fixed_order_scratch(Cpu{}, w)});
                        kernels::gemm_fixed_order(Cpu{}, x, w, view<1>(b), mutable_flat(rows), mutable_view<2>(y));
                        check_close(y, expected, 31);
                    }
}
