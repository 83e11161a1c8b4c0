#include "check_model.hpp"

#include <espalier/models/lenet.hpp>

using namespace espalier;
using namespace espalier::test;
using models::LeNet;
using models::Nonlinearity;

TEST_CASE("LeNet: 61706 parameters and 416520 multiply-adds for one channel, in both sizes") {
    for (const Index size : {28, 32}) {
        LeNet<float> model({.channels = 1, .size = size});
        CHECK(model.parameter_count() == 61706);
        const auto out = model.forward(Var<float>(random_tensor<float>({1, size, size, 1})));
        CHECK(multiply_adds(out.logits) == 28 * 28 * 150 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10);
        CHECK(out.flow.stages.empty());
        CHECK(out.flow.branches.empty());
    }
}

TEST_CASE_TEMPLATE("LeNet: what every model must do", T, float, double) {
    for (const auto nonlinearity : {Nonlinearity::tanh, Nonlinearity::relu}) {
        const auto make = [&](std::uint64_t seed) {
            return LeNet<T>({.classes = 7, .channels = 2, .seed = seed, .size = 28, .nonlinearity = nonlinearity});
        };
        check_model(make(1), make(1), make(2), {8, 28, 28, 2});
        check_model_repeatable([&] { return make(1); }, {3, 28, 28, 2});
    }
}

TEST_CASE("LeNet: other sizes are an error") {
    CHECK_THROWS_WITH_AS(LeNet<float>({.size = 64}), doctest::Contains("LeNet: expected a size of 28 or 32, got 64"),
                         ShapeError);
}
