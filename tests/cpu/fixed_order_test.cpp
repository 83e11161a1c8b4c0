#include <espalier/cpu/fixed_order.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("add_terms: the sums are exactly those of a loop from left to right", T, float, double) {
    const Index terms = 13;
    for (Index outputs = 1; outputs <= 20; ++outputs)
        for (const Index step : {1, 2}) {
            // Quarters of small integers: every product and sum is exact, whether or not it is fused.
            auto x = random_tensor<T>({terms * step}), w = random_tensor<T>({terms, outputs}, "w");
            for (Index i = 0; i < x.size(); ++i) x.mutable_data()[i] = std::round(8 * x.data()[i]) / 4;
            for (Index i = 0; i < w.size(); ++i) w.mutable_data()[i] = std::round(8 * w.data()[i]) / 4;
            Tensor<T> rows({terms * whole_vectors<T>(outputs)}), y = Tensor<T>::ones({outputs + 1});
            kernels::fixed_order_rows(view<2>(w), rows.mutable_data());
            kernels::add_terms(x.data(), step, terms, rows.data(), y.mutable_data(), outputs);
            for (Index k = 0; k < outputs; ++k) {
                T sum = 1;
                for (Index j = 0; j < terms; ++j) sum += x.at(j * step) * w.at(j, k);
                CHECK(y.at(k) == sum);
            }
            CHECK(y.at(outputs) == T(1));
        }
}
