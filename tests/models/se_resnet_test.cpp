#include "check_pruning.hpp"

#include <espalier/models/se_resnet.hpp>

using namespace espalier;
using namespace espalier::test;
using models::SeResNet;

TEST_CASE("SeResNet: golden parameter counts and multiply-adds for 32x32 images") {
    struct Golden {
        Index depth, parameters, macs;
    };
    // Counted for the same networks in PyTorch.
    for (const Golden& g : {Golden{20, 272095, 40553056}, Golden{56, 860137, 125491744}}) {
        SeResNet<float> model(g.depth, {});
        CHECK(model.name() == join_text("se-resnet", g.depth));
        CHECK(model.parameter_count() == g.parameters);
        // A sixteenth of the pixels, a sixteenth of the work, but for linear layers: the last, and two in each block.
        const Index linear = 640 + (g.depth - 2) / 6 * 2 * (16 * 1 + 32 * 2 + 64 * 4);
        CHECK(multiply_adds(model.forward(Var<float>(random_tensor<float>({1, 8, 8, 3}))).logits) ==
              (g.macs - linear) / 16 + linear);
    }
}

TEST_CASE_TEMPLATE("SeResNet: what every model must do", T, float, double) {
    const auto make = [](std::uint64_t seed) {
        return SeResNet<T>(8, {.classes = 5, .channels = 2, .seed = seed, .shortcut = models::Shortcut::projection});
    };
    check_model(make(1), make(1), make(2), {3, 9, 10, 2});
    check_model_repeatable([&] { return make(1); }, {5, 12, 12, 2});
}

TEST_CASE("SeResNet: names are stable, since checkpoints hold them") {
    const SeResNet<float> model(8, {});
    std::string names;
    for (const auto& [name, var] : model.parameters()) names += name + " ";
    CHECK(names.starts_with("conv.weight bn.gamma bn.beta stage1.0.conv1.weight stage1.0.bn1.gamma stage1.0.bn1.beta "
                            "stage1.0.conv2.weight stage1.0.bn2.gamma stage1.0.bn2.beta stage1.0.se.squeeze.weight "
                            "stage1.0.se.squeeze.bias stage1.0.se.excite.weight stage1.0.se.excite.bias "
                            "stage1.0.join.constant "));
}

TEST_CASE("SeResNet: half of the multiply-adds go, in both ways of joining") {
    using pruning::Joins;
    for (const auto shortcut : {models::Shortcut::padded, models::Shortcut::projection})
        for (const Joins joins : {Joins::coupled, Joins::indexed}) {
            SeResNet<float> model(14, {.seed = 1, .shortcut = shortcut});
            const auto plan = check_pruning(model, {8, 8, 3}, joins);
            CHECK(plan.group("stage1.1.conv1").cut() > 0);
            CHECK(plan.group("stage3.1.se.squeeze").width == 4);
            if (joins == Joins::indexed) CHECK(plan.group("stage1.1.conv2").cut() > 0);
            CHECK(model.forward(Var<float>(random_tensor<float>({2, 8, 8, 3}))).logits.shape() == Shape{2, 10});
        }
}

TEST_CASE("SeResNet: depths other than 6n + 2 are errors") {
    CHECK_THROWS_WITH_AS(SeResNet<float>(21, {}), doctest::Contains("SeResNet: expected a depth of 6n + 2, got 21"),
                         ShapeError);
}
