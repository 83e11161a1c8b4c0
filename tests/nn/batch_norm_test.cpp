#include "support/check.hpp"

#include <espalier/nn/batch_norm.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("BatchNorm: learns from the batch in training, answers from the running statistics else", T, float,
                   double) {
    for (const Shape& shape : {Shape{4, 3, 3, 2}, Shape{6, 2}}) {
        BatchNorm<T> bn({.channels = 2, .momentum = 0.3, .epsilon = 1e-3});
        CHECK(bn.parameter_count() == 4);
        CHECK(bn.buffers().size() == 2);
        const Var<T> x(random_tensor<T>(shape));

        const Tensor<T> before = bn.running_mean.value().clone();
        auto mean = parameter(Tensor<T>::zeros({2})), var = parameter(Tensor<T>::ones({2}));
        const Tensor<T> expected =
            batch_norm(x, bn.gamma, bn.beta, mean, var, {.momentum = 0.3, .epsilon = 1e-3}).value();
        CHECK(same_bits(bn.forward(x).value(), expected));
        CHECK_FALSE(same_bits(bn.running_mean.value(), before));
        CHECK(same_bits(bn.running_mean.value(), mean.value()));
        CHECK(same_bits(bn.running_var.value(), var.value()));

        bn.eval();
        const Tensor<T> answer = bn.forward(x).value();
        CHECK_FALSE(same_bits(answer, expected));
        CHECK(same_bits(bn.forward(x).value(), answer));
        CHECK(same_bits(bn.running_mean.value(), mean.value()));
        const Tensor<T> rectified = bn.forward(x, Activation::relu).value();
        for (Index i = 0; i < answer.size(); ++i) CHECK(rectified.data()[i] == std::max(answer.data()[i], T(0)));
    }
}

TEST_CASE("BatchNorm: no channels is an error for a new one, and what surgery may leave behind") {
    CHECK_THROWS_WITH_AS(BatchNorm<float>({.channels = 0}), doctest::Contains("expected at least one channel, got 0"),
                         ShapeError);
    BatchNorm<float> bn({.channels = 3});
    for (Var<float>* v : {&bn.gamma, &bn.beta, &bn.running_mean, &bn.running_var})
        v->set_value(Tensor<float>::zeros({0}));
    CHECK(bn.forward(Var<float>(Tensor<float>::zeros({2, 4, 4, 0}))).shape() == Shape{2, 4, 4, 0});
}
