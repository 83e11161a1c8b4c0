#include "check_pruning.hpp"

#include <espalier/models/vgg.hpp>

using namespace espalier;
using namespace espalier::test;
using models::Vgg;

TEST_CASE("Vgg: golden parameter counts and multiply-adds for 32x32 images") {
    struct Golden {
        Index depth, parameters, macs;
    };
    // VGG-16: 14.72 M / 313.2 M, VGG-19: 20.03 M / 398.1 M
    for (const Golden& g : {Golden{11, 9228362, 152769536}, Golden{13, 9413066, 228267008},
                            Golden{16, 14724042, 313201664}, Golden{19, 20035018, 398136320}}) {
        Vgg<float> model(g.depth, {});
        model.eval(); // one pixel of one image has no batch statistics
        CHECK(model.parameter_count() == g.parameters);
        CHECK(model.name() == "vgg" + std::to_string(g.depth));
        const bool full =
            g.depth == 16; // else a quarter of the pixels: a quarter of the work, but for the linear layer
        const Index side = full ? 32 : 16;
        CHECK(multiply_adds(model.forward(Var<float>(random_tensor<float>({1, side, side, 3}))).logits) ==
              (full ? g.macs : (g.macs - 5120) / 4 + 5120));
    }
}

TEST_CASE("Vgg: golden parameter counts and multiply-adds of the network for ImageNet") {
    struct Golden {
        Index depth, parameters, macs;
    };
    // Parameters are those that torchvision states for its networks with batch norm (132,868,840 for depth 11) without
    // the biases of their convolutions; multiply-adds, for 224x224 images, were counted by hooks on the layers of the
    // same networks written in PyTorch.
    for (const Golden& g : {Golden{11, 132866088, 7609090048}, Golden{13, 133050792, 11308466176},
                            Golden{16, 138361768, 15470264320}, Golden{19, 143672744, 19632062464}}) {
        const auto weights = [](Index units) { return 25088 * units + units * units + units * 1000; };
        const auto biases = [](Index units) { return 2 * units + 1000; };
        const Index thin = 8; // 4096 units are a hundred million weights: count them, do not make them
        Vgg<float> model(g.depth, {.classes = 1000, .hidden = {thin, thin}, .pooled = 7});
        model.eval();
        CHECK(model.parameter_count() - weights(thin) - biases(thin) == g.parameters - weights(4096) - biases(4096));
        // a seventh of the height and width, but for the linear layers
        CHECK(multiply_adds(model.forward(Var<float>(random_tensor<float>({1, 32, 32, 3}))).logits) - weights(thin) ==
              (g.macs - weights(4096)) / 49);
    }
}

TEST_CASE("Vgg: hidden layers") {
    // 9,491,018 parameters with one of 512 units, as counted for the same network in PyTorch
    CHECK(Vgg<float>(11, {.hidden = {512}}).parameter_count() == 9491018);

    const models::Options options{.classes = 3, .seed = 4, .hidden = {20, 10}, .pooled = 2, .dropout = 0.5};
    Vgg<float> model(11, options);
    CHECK(model.find("hidden1.weight").shape() == Shape{20, 2 * 2 * 512});
    CHECK(model.find("hidden2.weight").shape() == Shape{10, 20});
    CHECK(model.find("linear.weight").shape() == Shape{3, 10});
    CHECK(model.find("dropout2.calls").value().item() == 0);
    check_model(model, Vgg<float>(11, options), Vgg<float>(11, {.classes = 3, .hidden = {20, 10}, .pooled = 2}),
                {4, 8, 8, 3});
    CHECK(model.find("dropout2.calls").value().item() == 1); // once in training, not in inference

    // the head is what it says, written out
    model.eval();
    const Var<float> x(random_tensor<float>({2, 32, 32, 3}));
    const auto out = model.forward(x);
    Var<float> y = flatten(adaptive_avg_pool2d(max_pool2d(out.flow.stages.back().maps.back()), 2));
    for (const std::string layer : {"hidden1", "hidden2"})
        y = relu(linear(y, model.find(layer + ".weight"), model.find(layer + ".bias")));
    y = linear(y, model.find("linear.weight"), model.find("linear.bias"));
    CHECK(same_bits(y.value(), out.logits.value()));
}

TEST_CASE("Vgg: half of the multiply-adds go, hidden units and the columns behind the flattened maps with them") {
    Vgg<float> model(11, {.classes = 3, .seed = 1, .hidden = {64}, .pooled = 2});
    const auto plan = check_pruning(model, {8, 8, 3});
    CHECK(plan.group("hidden1").cut() > 0);
    const auto last = plan.group("stage5.conv2");
    CHECK(last.cut() > 0);
    CHECK(model.find("hidden1.weight").shape() ==
          Shape{static_cast<Index>(plan.group("hidden1").kept.size()), 4 * static_cast<Index>(last.kept.size())});
}

TEST_CASE("Vgg: what every model must do") {
    const auto make = [](std::uint64_t seed) { return Vgg<float>(11, {.classes = 3, .channels = 2, .seed = seed}); };
    check_model(make(1), make(1), make(2), {2, 10, 9, 2});
    check_model_repeatable([&] { return make(1); }, {3, 8, 8, 2});
}

TEST_CASE("Vgg: maps under two pixels are not pooled") {
    Vgg<float> model(11, {});
    model.eval();
    const NoGrad no_grad;
    const auto sides = [&](Index side) {
        std::vector<Index> all;
        for (const auto& stage : model.forward(Var<float>(random_tensor<float>({1, side, side, 3}))).flow.stages)
            all.push_back(stage.maps.back().size(1));
        return all;
    };
    CHECK(sides(32) == std::vector<Index>{32, 16, 8, 4, 2});
    CHECK(sides(28) == std::vector<Index>{28, 14, 7, 3, 1});
    CHECK(sides(1) == std::vector<Index>{1, 1, 1, 1, 1});
}

TEST_CASE("Vgg: the flow pairs equal widths inside a stage, and across the pooling between the 512-wide stages") {
    Vgg<float> model(16, {});
    const auto out = model.forward(Var<float>(random_tensor<float>({2, 16, 16, 3})));
    REQUIRE(out.flow.stages.size() == 5);
    CHECK(out.flow.branches.empty());
    const std::size_t counts[] = {2, 2, 3, 3, 3};
    for (std::size_t s = 0; s < 5; ++s) {
        const auto& [maps, entry] = out.flow.stages[s];
        CHECK(maps.size() == counts[s]);
        for (const auto& map : maps) {
            CHECK(map.shape() == maps[0].shape());
            CHECK(*std::min_element(map.value().begin(), map.value().end()) >= 0);
        }
        CHECK(entry.defined() == (s == 4));
    }
    CHECK(same_bits(out.flow.stages[4].entry.value(), max_pool2d(out.flow.stages[3].maps.back()).value()));
}

TEST_CASE("Vgg: in a pruned network a stage is split where the width changes") {
    Vgg<float> model(11, {});
    const auto narrow = [&](const std::string& conv, const std::string& bn, const std::string& next, Index width) {
        const Shape w = model.find(conv).shape(), n = model.find(next).shape();
        model.find(conv).set_value(random_tensor<float>({width, 3, 3, w[3]}));
        for (const char* name : {".gamma", ".beta", ".running_mean", ".running_var"})
            model.find(bn + name).set_value(Tensor<float>::ones({width}));
        model.find(next).set_value(random_tensor<float>({n[0], 3, 3, width}));
    };
    narrow("stage3.conv1.weight", "stage3.bn1", "stage3.conv2.weight", 37);
    narrow("stage4.conv2.weight", "stage4.bn2", "stage5.conv1.weight", 100);
    const auto out = model.forward(Var<float>(random_tensor<float>({2, 16, 16, 3})));
    std::vector<Index> widths;
    for (const auto& stage : out.flow.stages) {
        widths.push_back(stage.maps[0].size(-1));
        CHECK_FALSE(stage.entry.defined());
        for (const auto& map : stage.maps) CHECK(map.shape() == stage.maps[0].shape());
    }
    CHECK(widths == std::vector<Index>{64, 128, 37, 256, 512, 100, 512});
}

TEST_CASE("Vgg: other depths and heads that can not be are errors") {
    CHECK_THROWS_WITH_AS(Vgg<float>(12, {}), doctest::Contains("Vgg: expected a depth of 11, 13, 16 or 19, got 12"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(Vgg<float>(11, {.pooled = 0}),
                         doctest::Contains("Vgg: expected maps pooled to at least 1 pixel, got 0"), ShapeError);
    CHECK_THROWS_WITH_AS(Vgg<float>(11, {.hidden = {0}}), doctest::Contains("Linear: expected positive"), ShapeError);
    CHECK_THROWS_WITH_AS(Vgg<float>(11, {.hidden = {8}, .dropout = 1}), doctest::Contains("rate in [0, 1), got 1"),
                         ShapeError);
}
