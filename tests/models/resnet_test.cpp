#include "check_pruning.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/ops/cross_entropy.hpp>

using namespace espalier;
using namespace espalier::test;
using models::Output;
using models::ResNet;

TEST_CASE("ResNet: golden parameter counts and multiply-adds for 32x32 images") {
    struct Golden {
        Index depth, parameters, macs;
    };
    // 0.27 M / 40.55 M, 0.46, 0.66, 0.85 M / 125.49 M, 1.73 M / 252.89 M: the numbers usually quoted with option A
    for (const Golden& g : {Golden{20, 269722, 40551040}, Golden{32, 464154, 68862592}, Golden{44, 658586, 97174144},
                            Golden{56, 853018, 125485696}, Golden{110, 1727962, 252887680}}) {
        ResNet<float> model(g.depth, {});
        CHECK(model.parameter_count() == g.parameters);
        CHECK(model.name() == "resnet" + std::to_string(g.depth));
        if (g.depth == 20 || g.depth == 56)
            CHECK(multiply_adds(model.forward(Var<float>(random_tensor<float>({1, 32, 32, 3}))).logits) == g.macs);
        else // a quarter of the pixels, a quarter of the work, but for the linear layer
            CHECK(multiply_adds(model.forward(Var<float>(random_tensor<float>({1, 16, 16, 3}))).logits) ==
                  (g.macs - 640) / 4 + 640);
    }
}

TEST_CASE("ResNet: golden parameter counts and multiply-adds of the networks of four stages") {
    struct Golden {
        Index depth, parameters, macs, small_parameters, small_macs;
    };
    // For 1000 classes these are the parameters that torchvision states for the same networks. The multiply-adds for
    // 224x224 images, and what the small stem and 10 classes at 32x32 make of both, were counted by hooks on the layers
    // of the same networks written in PyTorch; 1.81, 3.66 and 4.09 G is what is usually quoted.
    const auto counted = [](ResNet<float>& model, Index side) {
        model.eval(); // one pixel of one image has no batch statistics
        return multiply_adds(model.forward(Var<float>(random_tensor<float>({1, side, side, 3}))).logits);
    };
    for (const Golden& g :
         {Golden{18, 11689512, 1814073344, 11173962, 555422720}, Golden{34, 21797672, 3663761408, 21282122, 1159402496},
          Golden{50, 25557032, 4089184256, 23520842, 1297829888}}) {
        ResNet<float> model(g.depth, {.classes = 1000, .stem = models::Stem::imagenet});
        const Index features = g.depth == 50 ? 2048 : 512;
        CHECK(model.name() == "resnet" + std::to_string(g.depth));
        CHECK(model.parameter_count() == g.parameters);
        // a seventh of the height and width, but for the linear layer
        CHECK(counted(model, 32) == (g.macs - 1000 * features) / 49 + 1000 * features);

        ResNet<float> small(g.depth, {});
        CHECK(small.parameter_count() == g.small_parameters);
        CHECK(counted(small, 8) == (g.small_macs - 10 * features) / 16 + 10 * features);
    }
}

TEST_CASE("ResNeXt-50: golden parameter count and multiply-adds, and half of them go by equal counts a group") {
    auto large = models::resnext50<float>({.classes = 1000, .stem = models::Stem::imagenet});
    large.eval();
    CHECK(large.name() == "resnext50");
    CHECK(large.parameter_count() == 25028904); // as torchvision's; multiply-adds were counted there as well
    // for 224x224 images; here 32x32: a 49th of the pixels, but for the linear layer
    CHECK(multiply_adds(large.forward(Var<float>(random_tensor<float>({1, 32, 32, 3}))).logits) ==
          (4230479872 - 2048000) / 49 + 2048000);

    auto model = models::resnext50<float>({.seed = 1});
    check_pruning(model, {4, 4, 3});
    Index narrower = 0;
    for (const auto& [name, var] : model.parameters())
        if (name.ends_with("conv2.weight")) {
            CHECK(var.size(0) % 32 == 0);
            CHECK(var.size(3) >= 1);
            narrower += var.size(3) < (name.starts_with("stage1") ? 4 : 8);
        }
    CHECK(narrower > 0);
}

TEST_CASE("ResNet: the stem of ImageNet pools by 3x3 windows whose padding never wins") {
    ResNet<float> model(18, {.stem = models::Stem::imagenet});
    model.eval();
    CHECK(model.find("conv.weight").shape() == Shape{64, 7, 7, 3});
    model.find("conv.weight").set_value(Tensor<float>::zeros({64, 7, 7, 3})); // batch norm's shift is all that remains
    model.find("bn.beta").set_value(Tensor<float>::full({64}, 0.25f));
    const auto out = model.forward(Var<float>(random_tensor<float>({1, 34, 37, 3})));
    const Tensor<float> first = out.flow.stages[0].maps[0].value(); // 34x37, then 17x19, then
    CHECK(same_bits(first, Tensor<float>::full({1, 9, 10, 64}, 0.25f)));
}

TEST_CASE("ResNet: projection shortcuts add a 1x1 convolution and batch norm at each transition") {
    auto padded = models::resnet20<float>(),
         projected = models::resnet20<float>({.shortcut = models::Shortcut::projection});
    CHECK(projected.parameter_count() - padded.parameter_count() == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64);
    CHECK(projected.find("stage2.0.projection.weight").shape() == Shape{32, 1, 1, 16});
    CHECK(padded.joins().size() == 9 + 2);
    CHECK(projected.joins().size() == 9);
}

TEST_CASE_TEMPLATE("ResNet: what every model must do", T, float, double) {
    const auto make = [](std::uint64_t seed, models::Shortcut shortcut) {
        return ResNet<T>(8, {.classes = 5, .channels = 2, .seed = seed, .shortcut = shortcut});
    };
    for (const auto shortcut : {models::Shortcut::padded, models::Shortcut::projection})
        check_model(make(1, shortcut), make(1, shortcut), make(2, shortcut), {3, 9, 10, 2});
    check_model_repeatable([&] { return make(1, models::Shortcut::padded); }, {5, 12, 12, 2});
}

TEST_CASE("ResNet: names are stable, since checkpoints hold them") {
    const ResNet<float> model(8, {});
    std::string names;
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list) names += name + " ";
    for (const auto& [name, join] : model.joins()) names += name + " ";
    for (const char* name : {"conv.weight ", "bn.gamma ", "bn.running_var ", "stage1.0.conv1.weight ",
                             "stage1.0.bn1.beta ", "stage3.0.bn2.running_mean ", "stage1.0.join.kept ",
                             "stage1.0.join.constant ", "stage2.0.shortcut.kept ", "linear.weight ", "linear.bias "})
        CHECK_MESSAGE(names.find(name) != std::string::npos, name);
    CHECK(names.substr(0, 12) == "conv.weight ");
}

TEST_CASE("ResNet: the flow holds the stream behind every join, what enters a stage, and the branches") {
    for (const auto shortcut : {models::Shortcut::padded, models::Shortcut::projection}) {
        ResNet<float> model(14, {.shortcut = shortcut, .taps = models::Taps::branches});
        const Output<float> out = model.forward(Var<float>(random_tensor<float>({2, 8, 8, 3})));
        REQUIRE(out.flow.stages.size() == 3);
        REQUIRE(out.flow.branches.size() == 3);
        for (std::size_t s = 0; s < 3; ++s) {
            const auto& stage = out.flow.stages[s];
            const auto& branches = out.flow.branches[s];
            const Index side = 8 >> s;
            const Shape shape{2, side, side, 16 << s};
            CHECK(stage.maps.size() == (s == 0 ? 3u : 2u));
            CHECK(stage.entry.defined() == (s > 0));
            REQUIRE(branches.size() == 2);
            std::vector<Var<float>> stream = stage.maps;
            if (s > 0) stream.insert(stream.begin(), stage.entry);
            for (const auto& map : stream) CHECK(map.shape() == shape);
            for (std::size_t b = 0; b < 2; ++b) // x_{l+1} = relu(x_l + F_l), exactly
                CHECK(same_bits(
                    join(stream[b], branches[b], std::make_shared<JoinState<float>>(), Activation::relu).value(),
                    stream[b + 1].value()));
        }
    }
}

TEST_CASE("ResNet: branches are not kept unless they are asked for") {
    ResNet<float> model(14, {});
    CHECK(model.forward(Var<float>(random_tensor<float>({2, 8, 8, 3}))).flow.branches.empty());
}

TEST_CASE("ResNet: option A places channels in the middle and reads every second pixel") {
    ResNet<float> model(8, {});
    const Output<float> out = model.forward(Var<float>(random_tensor<float>({1, 5, 5, 3})));
    const Tensor<float> last = out.flow.stages[0].maps.back().value(), entry = out.flow.stages[1].entry.value();
    REQUIRE(entry.shape() == Shape{1, 3, 3, 32});
    for (Index p = 0; p < 3; ++p)
        for (Index q = 0; q < 3; ++q)
            for (Index c = 0; c < 32; ++c)
                CHECK(entry.at(0, p, q, c) == (c >= 8 && c < 24 ? last.at(0, 2 * p, 2 * q, c - 8) : 0.0f));
}

TEST_CASE("ResNet: branches narrowed to an indexed join, even to nothing, and a narrowed stream still run") {
    ResNet<float> model(8, {.classes = 4, .taps = models::Taps::branches});
    const Var<float> x(random_tensor<float>({2, 8, 8, 3}));
    const auto narrow = [&](const std::string& block, const std::vector<Index>& kept, Index width) {
        const Index J = static_cast<Index>(kept.size());
        const Shape w = model.find(block + ".conv2.weight").shape();
        model.find(block + ".conv2.weight").set_value(random_tensor<float>({J, 3, 3, w[3]}));
        for (const char* name : {".bn2.gamma", ".bn2.beta", ".bn2.running_mean", ".bn2.running_var"})
            model.find(block + name).set_value(Tensor<float>::ones({J}));
        for (const auto& [name, join] : model.joins())
            if (name == block + ".join.kept") {
                join->kept = kept;
                join->constant.set_value(Tensor<float>::full({width}, 0.5f));
            }
    };
    narrow("stage1.0", {}, 16);
    narrow("stage2.0", {3, 8, 31}, 32);
    const Output<float> out = model.forward(x);
    CHECK(out.logits.shape() == Shape{2, 4});
    CHECK(out.flow.stages[1].maps[0].size(-1) == 32);
    CHECK(out.flow.branches[0][0].size(-1) == 0);
    CHECK(out.flow.branches[1][0].size(-1) == 3);
    out.logits.backward(Tensor<float>::ones({2, 4}));
    CHECK(model.find("stage2.0.join.constant").grad().defined());
    CHECK(model.find("stage1.0.join.constant").grad().defined());
}

TEST_CASE("ResNet: bottlenecks widen the first stage as well, which therefore has an entry") {
    ResNet<float> model(50, {.seed = 1, .taps = models::Taps::branches});
    model.eval();
    const NoGrad no_grad;
    const Output<float> out = model.forward(Var<float>(random_tensor<float>({1, 8, 8, 3})));
    const std::size_t blocks[] = {3, 4, 6, 3};
    REQUIRE(out.flow.stages.size() == 4);
    for (std::size_t s = 0; s < 4; ++s) {
        const auto& [maps, entry] = out.flow.stages[s];
        const Shape shape{1, 8 >> s, 8 >> s, 256 << s};
        CHECK(maps.size() == blocks[s]);
        CHECK(out.flow.branches[s].size() == blocks[s]);
        REQUIRE(entry.defined());
        for (const auto& list : {maps, out.flow.branches[s], {entry}})
            for (const auto& map : list) CHECK(map.shape() == shape);
        CHECK(same_bits(
            join(entry, out.flow.branches[s][0], std::make_shared<JoinState<float>>(), Activation::relu).value(),
            maps[0].value()));
    }
}

TEST_CASE("ResNet: half of the multiply-adds of four stages and of bottlenecks go, in both ways of joining") {
    using pruning::Joins;
    ResNet<float> model(18, {.seed = 1});
    const pruning::Plan coupled = check_pruning(model, {8, 8, 3});
    // a stage's stream is one group, its makers the projection and the ends of all branches
    CHECK(coupled.group("stage2.0.conv1").width == 128);
    CHECK(coupled.group("conv").width == 64);
    CHECK(coupled.groups.size() == 4 + 8 + 1); // streams, one inner width a block, and the classes, which are blocked

    ResNet<float> bottlenecks(50, {.seed = 1});
    const pruning::Plan inner = check_pruning(bottlenecks, {8, 8, 3}, Joins::indexed);
    CHECK(inner.group("stage1.0.conv1").width == 64);
    CHECK(inner.group("stage1.0.conv2").width == 64);
    CHECK(inner.group("stage1.0.conv3").width == 256);
    CHECK(inner.group("stage1.0.conv3").cut() > 0);
    CHECK(inner.group("stage1.0.projection").blocked);
    CHECK_FALSE(inner.group("conv").blocked); // no identity goes past the first block: the stem can be cut
}

TEST_CASE("ResNet: overfits 64 synthetic images to zero error, the same curve for the same seed") {
    const Tensor<float> images = normal<float>({64, 8, 8, 3}, Random(3, "images"));
    Tensor<Index> labels({64});
    for (Index i = 0; i < 64; ++i)
        labels.mutable_data()[i] = Random(3, "labels").below(4, static_cast<std::uint64_t>(i));
    const auto errors = [&](const Tensor<float>& logits) {
        int wrong = 0;
        for (Index n = 0; n < 64; ++n) {
            const float* row = logits.data() + n * 4;
            wrong += std::max_element(row, row + 4) - row != labels.at(n);
        }
        return wrong;
    };
    const auto train = [&](int steps) {
        ResNet<float> model(8, {.classes = 4, .seed = 1});
        std::vector<float> curve;
        int wrong = 64;
        for (int step = 0; step < steps; ++step) {
            model.clear_grad();
            const Var<float> logits = model.forward(Var<float>(images)).logits;
            wrong = errors(logits.value());
            const Var<float> loss = cross_entropy(logits, labels);
            loss.backward();
            for (auto& [name, var] : model.parameters()) {
                if (!var.grad().defined()) continue;
                for (Index i = 0; i < var.size(); ++i)
                    var.mutable_value().mutable_data()[i] -= 0.1f * var.grad().data()[i];
            }
            curve.push_back(loss.item());
        }
        return std::pair(curve, wrong);
    };
    const auto [curve, wrong] = train(40);
    CHECK(wrong == 0);
    CHECK(curve.back() < 0.1f * curve.front());
    const auto again = train(5).first;
    CHECK(std::equal(again.begin(), again.end(), curve.begin()));
}

TEST_CASE("ResNet: depths that stand for nothing, no classes, and the wrong image are errors") {
    CHECK_THROWS_WITH_AS(ResNet<float>(21, {}),
                         doctest::Contains("ResNet: expected a depth of 18, 34, 50 or 6n + 2, got 21"), ShapeError);
    CHECK_THROWS_AS(ResNet<float>(2, {}), ShapeError);
    CHECK_THROWS_WITH_AS(ResNet<float>(8, {.classes = 0}), doctest::Contains("expected positive classes"), ShapeError);
    ResNet<float> model(8, {});
    CHECK_THROWS_AS(model.forward(Var<float>(Tensor<float>::zeros({1, 8, 8, 1}))), ShapeError);
}
