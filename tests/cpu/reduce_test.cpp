#include <espalier/cpu/reduce.hpp>

#include "support/check.hpp"

#include <functional>

using namespace espalier;
using namespace espalier::test;

namespace {

template <class T> Tensor<T> sum_middle(const Tensor<T>& x) {
    const Index P = x.size(0), Q = x.size(1), R = x.size(2);
    Tensor<T> y({P, R});
    Tensor<double> scratch({kernels::reduce_scratch(P, Q, R)});
    kernels::reduce_middle(Cpu{}, mutable_view<2>(y), mutable_flat(scratch), std::identity(), std::identity(),
                           view<3>(x));
    return y;
}

} // namespace

TEST_CASE_TEMPLATE("reduce_middle: sums over the middle axis, split in every way", T, float, double) {
    // One block and many, one column chunk and many, runs and columns, nothing to sum and nothing to write.
    for (const Shape& shape : {Shape{1, 1, 1}, Shape{3, 5, 7}, Shape{1, 100003, 1}, Shape{40, 1001, 1},
                               Shape{1, 20000, 3}, Shape{2, 300, 600}, Shape{3, 9, 1100}, Shape{20, 40, 8},
                               Shape{100000, 2, 1}, Shape{2, 0, 3}, Shape{2, 3, 0}, Shape{0, 3, 2}}) {
        CAPTURE(shape[1]);
        const auto x = random_tensor<T>(shape);
        auto expected = Tensor<double>::zeros({shape[0], shape[2]});
        for (Index p = 0; p < shape[0]; ++p)
            for (Index q = 0; q < shape[1]; ++q)
                for (Index r = 0; r < shape[2]; ++r)
                    expected.mutable_data()[p * shape[2] + r] += static_cast<double>(x.at(p, q, r));
        // Rounded once from double: half an epsilon of the sum; the sum in double is off by at most Q of its own.
        check_close(sum_middle(x), expected, std::is_same_v<T, float> ? 1 : static_cast<double>(shape[1]));
        check_repeatable([&] { return std::vector<Tensor<T>>{sum_middle(x)}; });
    }
}

TEST_CASE("reduce_middle: terms of two operands, a last step, and many additions that single floats would lose") {
    const Index n = 1 << 22;
    const auto a = Tensor<float>::full({1, n, 1}, 0.1f), b = Tensor<float>::full({1, n, 1}, 3);
    Tensor<float> y({1, 1});
    Tensor<double> scratch({kernels::reduce_scratch(1, n, 1)});
    kernels::reduce_middle(
        Cpu{}, mutable_view<2>(y), mutable_flat(scratch), [](float u, float v) { return u * v; },
        [](double sum) { return sum / static_cast<double>(n); }, view<3>(a), view<3>(b));
    CHECK(y.item() == 0.1f * 3); // a float sum of 4 million equal terms would be off in the third digit
}
