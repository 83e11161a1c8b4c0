#include "check_pruning.hpp"

#include <espalier/models/mobilenet_v2.hpp>

using namespace espalier;
using namespace espalier::test;
using models::InvertedResidual;
using models::MobileNetV2;
using models::Stem;

TEST_CASE("MobileNetV2: golden parameter counts and multiply-adds") {
    MobileNetV2<float> imagenet({.classes = 1000, .stem = Stem::imagenet}), small({});
    imagenet.eval(); // one pixel of one image has no batch statistics
    small.eval();
    CHECK(imagenet.name() == "mobilenetv2");
    CHECK(imagenet.parameter_count() == 3504872); // as torchvision's; multiply-adds were counted there as well
    CHECK(small.parameter_count() == 2236682);
    // For 224x224 and 32x32 images; here 32x32 and 8x8: a 49th and a 16th of the pixels, but for the linear layer.
    CHECK(multiply_adds(imagenet.forward(Var<float>(random_tensor<float>({1, 32, 32, 3}))).logits) ==
          (300774272 - 1280000) / 49 + 1280000);
    CHECK(multiply_adds(small.forward(Var<float>(random_tensor<float>({1, 8, 8, 3}))).logits) ==
          (87976448 - 12800) / 16 + 12800);
}

TEST_CASE_TEMPLATE("MobileNetV2: what every model must do", T, float, double) {
    const auto make = [](std::uint64_t seed) {
        return MobileNetV2<T>({.classes = 5, .channels = 2, .seed = seed, .dropout = 0.2});
    };
    check_model(make(1), make(1), make(2), {3, 9, 10, 2});
    check_model_repeatable([&] { return make(1); }, {2, 8, 8, 2});
}

TEST_CASE("MobileNetV2: names are stable, since checkpoints hold them") {
    const MobileNetV2<float> model({});
    std::string names;
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list) names += name + " ";
    CHECK(names.starts_with("conv.weight bn.gamma bn.beta block1.depthwise.weight block1.depthwise_bn.gamma "
                            "block1.depthwise_bn.beta block1.project.weight block1.project_bn.gamma "
                            "block1.project_bn.beta block2.expand.weight "));
    for (const char* name : {"block3.join.constant ", "block17.project.weight ", "head.weight ", "linear.bias "})
        CHECK_MESSAGE(names.find(name) != std::string::npos, name);
    CHECK(names.find("block2.join") == std::string::npos); // 16 channels go in, 24 come out
}

TEST_CASE("MobileNetV2: the flow has the blocks' outputs, a stage a shape") {
    MobileNetV2<float> model({});
    model.eval();
    const auto out = model.forward(Var<float>(random_tensor<float>({1, 16, 16, 3})));
    const std::vector<std::size_t> blocks{1, 2, 3, 4, 3, 3, 1};
    REQUIRE(out.flow.stages.size() == 7);
    for (std::size_t s = 0; s < 7; ++s) CHECK(out.flow.stages[s].maps.size() == blocks[s]);
    CHECK(out.flow.stages.back().maps[0].shape() == Shape{1, 2, 2, 320}); // an 8th of the height and width
}

TEST_CASE("InvertedResidual: gradients with respect to its input") {
    // relu6 has kinks: the seeds are ones for which no pre-activation is within ten steps of one
    InvertedResidual<double> joined(2, 2, 1, 3), narrow(2, 3, 2, 1);
    initialize(joined, Init::he(), 3);
    initialize(narrow, Init::he(), 3);
    for (const auto* block : {&joined, &narrow})
        check_gradient([&](auto& v) { return block->forward(v[0]); }, {random_tensor<double>({2, 3, 3, 2})});
}

TEST_CASE("MobileNetV2: half of the multiply-adds go, in both ways of joining, and depthwise stays depthwise") {
    using pruning::Joins;
    for (const Joins joins : {Joins::coupled, Joins::indexed}) {
        MobileNetV2<float> model({.seed = 1});
        const auto plan = check_pruning(model, {8, 8, 3}, joins);
        CHECK(plan.group("block3.expand").cut() > 0);
        for (Index b = 1; b <= 17; ++b) {
            const Var<float> weight = model.find(join_text("block", b, ".depthwise.weight"));
            CHECK((weight.size(0) == 0 || weight.size(3) == 1));
        }
        CHECK(model.forward(Var<float>(random_tensor<float>({2, 8, 8, 3}))).logits.shape() == Shape{2, 10});
    }
}
