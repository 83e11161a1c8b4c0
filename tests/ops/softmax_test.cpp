#include <espalier/ops/softmax.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("softmax: values over the last axis", T, float, double) {
    for (const Shape& shape :
         {Shape{3, 5}, Shape{2, 3, 4}, Shape{7}, Shape{4, 1}, Shape{9, 70}, Shape{3, 0}, Shape{0, 3}}) {
        const auto x = random_tensor<T>(shape);
        Tensor<double> expected(shape);
        const Index K = shape.back();
        for (Index i = 0; i < x.size(); ++i) {
            double sum = 0;
            for (Index k = 0; k < K; ++k) sum += std::exp(static_cast<double>(x.data()[i / K * K + k]));
            expected.mutable_data()[i] = std::exp(static_cast<double>(x.data()[i])) / sum;
        }
        check_close(softmax(on_device(x)).value(), expected, 4); // a difference, exp, a quotient and a product below 1
        check_gradient([](auto& v) { return softmax(v[0]); }, {random_tensor<double>(shape)});
    }
}

TEST_CASE_TEMPLATE("softmax: large logits, and logits of minus infinity", T, float, double) {
    const T low = -std::numeric_limits<T>::infinity();
    const auto y = softmax(on_device(Tensor<T>::from({2, 3}, {10000, 10000, -10000, 0, low, low}))).value();
    CHECK(y.to_vector() == std::vector<T>{T(0.5), T(0.5), 0, 1, 0, 0});
}

TEST_CASE_TEMPLATE("softmax: same bits on 1 and 2 threads", T, float, double) {
    const Index rows = device_under_test() == Device::cpu ? 5000 : 500;
    check_repeatable([=] {
        return forward_and_gradients<T>([](auto& v) { return softmax(v[0]); }, {random_tensor<T>({rows, 10})});
    });
}

TEST_CASE("softmax: a scalar has no axis, and channels are blocked") {
    CHECK_THROWS_WITH_AS(softmax(on_device(Tensor<float>::scalar(1))), "softmax: expected x [...,K], got []",
                         ShapeError);
    CHECK(rule_text(softmax(parameter_on_device(Tensor<float>::ones({2, 3})))) ==
          "declared 0.-1=y.-1 block 0 (softmax over channels)");
}
