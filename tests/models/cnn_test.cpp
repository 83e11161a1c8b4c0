#include "check_pruning.hpp"

#include <espalier/models/cnn.hpp>

using namespace espalier;
using namespace espalier::test;
using models::Cnn;

TEST_CASE("Cnn: golden parameter counts and multiply-adds") {
    struct Golden {
        Index size, channels, parameters, macs;
    };
    // counted for the same network in PyTorch
    for (const Golden& g : {Golden{28, 1, 33338, 3726208}, Golden{32, 3, 33626, 5161600}}) {
        Cnn<float> model({.channels = g.channels});
        CHECK(model.parameter_count() == g.parameters);
        CHECK(multiply_adds(model.forward(Var<float>(random_tensor<float>({1, g.size, g.size, g.channels}))).logits) ==
              g.macs);
    }
}

TEST_CASE_TEMPLATE("Cnn: what every model must do", T, float, double) {
    const auto make = [](std::uint64_t seed) {
        return Cnn<T>({.classes = 5, .channels = 2, .seed = seed, .widths = {4, 4, 6}});
    };
    check_model(make(1), make(1), make(2), {3, 9, 10, 2});
    check_model_repeatable([&] { return make(1); }, {3, 9, 10, 2});
}

TEST_CASE("Cnn: a convolution wider than the one before it halves the map; equal maps are a stage of the flow") {
    Cnn<float> model({});
    const auto out = model.forward(Var<float>(random_tensor<float>({2, 12, 12, 3})));
    REQUIRE(out.flow.stages.size() == 3);
    CHECK(out.flow.branches.empty());
    const Shape shapes[] = {{2, 12, 12, 16}, {2, 6, 6, 32}, {2, 3, 3, 64}};
    const std::size_t counts[] = {1, 2, 1};
    for (std::size_t s = 0; s < 3; ++s) {
        CHECK(out.flow.stages[s].maps.size() == counts[s]);
        CHECK(out.flow.stages[s].maps.back().shape() == shapes[s]);
        CHECK_FALSE(out.flow.stages[s].entry.defined());
    }
    Cnn<float> narrowing({.widths = {8, 4, 4}});
    CHECK(narrowing.forward(Var<float>(random_tensor<float>({2, 8, 8, 3}))).flow.stages[1].maps[1].shape() ==
          Shape{2, 8, 8, 4});
}

TEST_CASE_TEMPLATE("Cnn: half of the multiply-adds go", T, float, double) {
    Cnn<T> model({.seed = 1});
    const auto plan = check_pruning(model, {12, 12, 3});
    CHECK(plan.groups.size() == 5); // four convolutions and the classes
    CHECK(model.forward(Var<T>(random_tensor<T>({2, 12, 12, 3}))).logits.shape() == Shape{2, 10});
}

TEST_CASE("Cnn: no widths and widths that can not be are errors") {
    CHECK_THROWS_WITH_AS(Cnn<float>({.widths = {}}),
                         doctest::Contains("Cnn: expected the width of at least one convolution, got none"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(Cnn<float>({.widths = {8, 0}}), doctest::Contains("Conv2d: expected positive"), ShapeError);
}
