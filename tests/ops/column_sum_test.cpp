#include <espalier/ops/column_sum.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("column_sums: over all axes but the last, also none or empty ones", T, float, double) {
    for (const Shape& shape : {Shape{7}, Shape{3, 5}, Shape{2, 30, 40, 17}, Shape{0, 4}, Shape{4, 0}}) {
        const auto x = random_tensor<T>(shape);
        const Index columns = shape.back();
        auto expected = Tensor<double>::zeros({columns}), scale = Tensor<double>::zeros({columns});
        for (Index i = 0; i < x.size(); ++i) {
            const double term = static_cast<double>(x.data()[i]);
            expected.mutable_data()[i % columns] += term;
            scale.mutable_data()[i % columns] += std::abs(term);
        }
        // Added in double and rounded once; in double itself the order of the blocks shows, a few eps of all terms.
        check_close(detail::column_sums(x), expected, 4, scale);
    }
    check_repeatable([] { return std::vector{detail::column_sums(random_tensor<T>({900, 70}))}; });
}
