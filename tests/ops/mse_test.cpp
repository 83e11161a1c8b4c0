#include <espalier/ops/mse.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("mse: values", T, float, double) {
    for (const Shape& shape : {Shape{3, 5}, Shape{}, Shape{2, 3, 4, 5}}) {
        const auto a = random_tensor<T>(shape, "a"), b = random_tensor<T>(shape, "b");
        double sum = 0;
        for (Index i = 0; i < a.size(); ++i) {
            const double d = static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]);
            sum += d * d;
        }
        const double count = static_cast<double>(a.size());
        // Rounded once from double in float; a rounding a term, of terms below 4, in double.
        check_close(mse(on_device(a), on_device(b)).value(), Tensor<double>::scalar(sum / count), 4);
    }
}

TEST_CASE("mse: gradients, with both operands, one, and the same twice") {
    const auto a = random_tensor<double>({3, 4}, "a"), b = random_tensor<double>({3, 4}, "b");
    check_gradient([](auto& v) { return mse(v[0], v[1]); }, {a, b});
    check_gradient([&](auto& v) { return mse(v[0], on_device(b)); }, {a});
    check_gradient([&](auto& v) { return mse(on_device(b), v[0]); }, {a});
    check_gradient([](auto& v) { return mse(v[0], v[0]); }, {a});
}

TEST_CASE_TEMPLATE("mse: same bits on 1 and 2 threads", T, float, double) {
    check_repeatable([] {
        return forward_and_gradients<T>([](auto& v) { return mse(v[0], v[1]); },
                                        {random_tensor<T>({300, 301}, "a"), random_tensor<T>({300, 301}, "b")});
    });
}

TEST_CASE("mse: nothing is broadcast, nothing is averaged over nothing") {
    const auto a = on_device(Tensor<float>::ones({2, 3})), b = on_device(Tensor<float>::ones({3})),
               none = on_device(Tensor<float>(Shape{0}));
    CHECK_THROWS_WITH_AS(mse(a, b), "mse: expected two operands of one shape with elements, got [2,3] and [3]",
                         ShapeError);
    CHECK_THROWS_WITH_AS(mse(none, none), doctest::Contains("got [0] and [0]"), ShapeError);
    CHECK(rule_text(mse(parameter_on_device(a.value()), a)) ==
          "declared block 0 (mean over channels) block 1 (mean over channels)");
}
