#include "check_pruning.hpp"

#include <espalier/models/wide_resnet.hpp>
#include <espalier/ops/arithmetic.hpp>

using namespace espalier;
using namespace espalier::test;
using models::WideBlock;
using models::WideResNet;

TEST_CASE("WideResNet: golden parameter counts and multiply-adds for 32x32 images") {
    struct Golden {
        Index depth, width, parameters, macs;
    };
    // 2.75 M and 36.5 M, as in table 1 of the paper; exact numbers were counted for the same networks in PyTorch
    for (const Golden& g : {Golden{16, 4, 2748890, 392612352}, Golden{28, 10, 36479194, 5243328768}}) {
        WideResNet<float> model(g.depth, g.width, {});
        CHECK(model.name() == join_text("wrn-", g.depth, "-", g.width));
        CHECK(model.parameter_count() == g.parameters);
        // a sixteenth of the pixels, a sixteenth of the work, but for the linear layer
        CHECK(multiply_adds(model.forward(Var<float>(random_tensor<float>({1, 8, 8, 3}))).logits) ==
              (g.macs - 640 * g.width) / 16 + 640 * g.width);
    }
}

TEST_CASE_TEMPLATE("WideResNet: what every model must do", T, float, double) {
    const auto make = [](std::uint64_t seed) {
        return WideResNet<T>(10, 1, {.classes = 5, .channels = 2, .seed = seed, .dropout = 0.3});
    };
    check_model(make(1), make(1), make(2), {3, 9, 10, 2});
    check_model_repeatable([&] { return make(1); }, {5, 12, 12, 2});
}

TEST_CASE("WideResNet: names are stable, since checkpoints hold them") {
    const WideResNet<float> model(10, 1, {.dropout = 0.5});
    std::string names;
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list) names += name + " ";
    CHECK(names.starts_with("conv.weight stage1.0.bn1.gamma stage1.0.bn1.beta stage1.0.conv1.weight stage1.0.bn2.gamma "
                            "stage1.0.bn2.beta stage1.0.conv2.weight stage1.0.join.constant stage2.0.bn1.gamma "));
    for (const char* name :
         {"stage2.0.projection.weight ", "bn.running_var ", "linear.bias ", "stage3.0.dropout.calls "})
        CHECK_MESSAGE(names.find(name) != std::string::npos, name);
    CHECK(names.find("stage1.0.projection") == std::string::npos); // 16 channels go in and come out
}

TEST_CASE("WideResNet: consecutive maps of the flow differ by exactly a branch, and nothing is rectified") {
    WideResNet<float> model(16, 2, {.taps = models::Taps::branches});
    const auto out = model.forward(Var<float>(random_tensor<float>({2, 8, 8, 3})));
    REQUIRE(out.flow.stages.size() == 3);
    bool negative = false;
    for (std::size_t s = 0; s < 3; ++s) {
        const auto& [maps, entry] = out.flow.stages[s];
        REQUIRE(maps.size() == 2);
        REQUIRE(entry.defined()); // widths change at each first block: 16 to 32, 64, 128
        const std::vector<Var<float>> stream{entry, maps[0], maps[1]};
        for (std::size_t b = 0; b < 2; ++b) {
            CHECK(stream[b].shape() == Shape{2, 8 >> s, 8 >> s, 32 << s});
            CHECK(same_bits((stream[b] + out.flow.branches[s][b]).value(), stream[b + 1].value()));
            for (const float v : stream[b].value()) negative = negative || v < 0;
        }
    }
    CHECK(negative);
}

TEST_CASE("WideBlock: the 1x1 shortcut reads what batch norm and relu made of the input, as the branch does") {
    WideBlock<float> block(3, 5, 2), identity(3, 3, 1);
    for (const WideBlock<float>* b : {&block, &identity}) {
        initialize(*b, Init::he(), 2);
        b->find("bn1.beta").set_value(Tensor<float>::full({3}, -100)); // relu lets nothing through
    }
    const Var<float> x(random_tensor<float>({2, 5, 5, 3}));
    const auto y = block.forward(x), z = identity.forward(x);
    CHECK(y.y.shape() == Shape{2, 3, 3, 5});
    CHECK(same_bits(y.stream.value(), Tensor<float>::zeros({2, 3, 3, 5})));
    CHECK(z.stream.node() == x.node());
    CHECK(same_bits(z.y.value(), x.value()));
}

TEST_CASE("WideBlock: gradients of a stride-2 block with respect to its input") {
    // relu has kinks: the seed is one for which no pre-activation is within ten steps of zero
    WideBlock<double> block(2, 4, 2);
    initialize(block, Init::he(), 11);
    check_gradient([&](auto& v) { return block.forward(v[0]).y; }, {random_tensor<double>({2, 4, 4, 2})});
}

TEST_CASE("WideResNet: half of the multiply-adds go, in both ways of joining") {
    using pruning::Joins;
    for (const Joins joins : {Joins::coupled, Joins::indexed}) {
        WideResNet<float> model(16, 2, {.seed = 1});
        const auto plan = check_pruning(model, {8, 8, 3}, joins);
        CHECK(plan.group("stage1.1.conv1").cut() > 0);
        if (joins == Joins::indexed) {
            CHECK(plan.group("stage1.1.conv2").cut() > 0);
            CHECK(plan.group("stage2.0.projection").note == "residual stream of indexed joins");
        } else { // stem, three streams, an inner width a block, and the classes
            CHECK(plan.groups.size() == 1 + 3 + 6 + 1);
        }
        CHECK(model.forward(Var<float>(random_tensor<float>({2, 8, 8, 3}))).logits.shape() == Shape{2, 10});
    }
}

TEST_CASE("WideResNet: depths other than 6n + 4 and no width are errors") {
    CHECK_THROWS_WITH_AS(WideResNet<float>(20, 4, {}),
                         doctest::Contains("WideResNet: expected a depth of 6n + 4 and a positive width, got 20 and 4"),
                         ShapeError);
    CHECK_THROWS_AS(WideResNet<float>(16, 0, {}), ShapeError);
    CHECK_THROWS_WITH_AS(WideResNet<float>(10, 1, {.dropout = 1}), doctest::Contains("rate in [0, 1), got 1"),
                         ShapeError);
}
