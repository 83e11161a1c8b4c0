#include "check_pruning.hpp"

#include <espalier/models/densenet.hpp>

using namespace espalier;
using namespace espalier::test;
using models::DenseNet;

TEST_CASE("DenseNet: golden parameter count and multiply-adds for 32x32 images") {
    DenseNet<float> model(100, 12, {});
    CHECK(model.name() == "densenet-bc-100-12");
    CHECK(model.parameter_count() == 769162); // 0.8 M in table 2 of the paper; counted for the same network in PyTorch
    // a sixteenth of the pixels, a sixteenth of the work, but for the linear layer of 342 inputs
    CHECK(multiply_adds(model.forward(Var<float>(random_tensor<float>({1, 8, 8, 3}))).logits) ==
          (287929692 - 3420) / 16 + 3420);
}

TEST_CASE_TEMPLATE("DenseNet: what every model must do", T, float, double) {
    const auto make = [](std::uint64_t seed) {
        return DenseNet<T>(16, 3, {.classes = 5, .channels = 2, .seed = seed});
    };
    check_model(make(1), make(1), make(2), {3, 9, 10, 2});
    check_model_repeatable([&] { return make(1); }, {5, 12, 12, 2});
}

TEST_CASE("DenseNet: names are stable, since checkpoints hold them") {
    const DenseNet<float> model(16, 4, {});
    std::string names;
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list) names += name + " ";
    CHECK(names.starts_with("conv.weight block1.squeeze0.bn.gamma block1.squeeze0.bn.beta block1.squeeze0.conv.weight "
                            "block1.grow0.bn.gamma block1.grow0.bn.beta block1.grow0.conv.weight "
                            "block1.squeeze1.bn.gamma "));
    for (const char* name :
         {"block3.grow1.conv.weight ", "transition2.conv.weight ", "bn.running_var ", "linear.bias "})
        CHECK_MESSAGE(names.find(name) != std::string::npos, name);
}

TEST_CASE("DenseNet: the flow has what each layer made, a stage a block") {
    DenseNet<float> model(16, 4, {});
    const auto out = model.forward(Var<float>(random_tensor<float>({2, 8, 8, 3})));
    REQUIRE(out.flow.stages.size() == 3);
    for (Index s = 0; s < 3; ++s) {
        const auto& maps = out.flow.stages[static_cast<std::size_t>(s)].maps;
        REQUIRE(maps.size() == 2);
        for (const auto& map : maps) CHECK(map.shape() == Shape{2, 8 >> s, 8 >> s, 4});
    }
}

TEST_CASE("DenseBlock: gradients with respect to its input") {
    // relu has kinks: the seed is one for which no pre-activation is within ten steps of zero
    models::DenseBlock<double> block(2, 2, 2);
    initialize(block, Init::he(), 3);
    check_gradient(
        [&](auto& v) {
            Flow<double> flow;
            return block.forward(v[0], flow);
        },
        {random_tensor<double>({2, 3, 3, 2})});
}

TEST_CASE("DenseNet: half of the multiply-adds go") {
    DenseNet<float> model(22, 8, {.seed = 1});
    const auto plan = check_pruning(model, {8, 8, 3});
    CHECK(plan.groups.size() == 1 + 3 * (3 + 3) + 2 + 1); // stem, layers, transitions, classes
    CHECK(plan.group("block1.grow0.conv").cut() > 0);     // read by every later layer of its block
    CHECK(model.forward(Var<float>(random_tensor<float>({2, 8, 8, 3}))).logits.shape() == Shape{2, 10});
}

TEST_CASE("DenseNet: depths other than 6n + 4 and no growth are errors") {
    CHECK_THROWS_WITH_AS(DenseNet<float>(40 + 1, 12, {}),
                         doctest::Contains("DenseNet: expected a depth of 6n + 4 and a positive growth, got 41 and 12"),
                         ShapeError);
    CHECK_THROWS_AS(DenseNet<float>(16, 0, {}), ShapeError);
}
