// Above 400 lines because it is one list: each way in which channels can be coupled, cut and compared with the masked
// network.
#include "networks.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/nn/several_inputs.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/train/sgd.hpp>

#include <limits>
#include <numeric>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;

namespace {

const Shape image{4, 4, 3};

template <class M> Tensor<typename M::Scalar> logits(M& model, Path path = Path::fixed_order, const Shape& of = image) {
    using T = typename M::Scalar;
    const NoGrad no_grad;
    const PathScope scope(path);
    model.eval();
    const auto y = network(model).forward(Var<T>(random_tensor<T>(batch_of(3, of), "images"))).value();
    model.train();
    return y;
}

/// Zeroes entry `entry` of the first axis of a variable of a model: the test's own mask.
template <class T> void zero(const Module<T>& model, const std::string& name, Index entry) {
    Var<T> v = model.find(name);
    const Index inner = v.size() / v.size(0);
    std::fill_n(v.mutable_value().mutable_data() + entry * inner, inner, T(0));
}
template <class T> void zero_conv_bn(const Module<T>& model, const std::string& prefix, Index entry) {
    zero(model, prefix + ".conv.weight", entry);
    for (const char* name : {".bn.gamma", ".bn.beta", ".bn.running_mean"}) zero(model, prefix + name, entry);
}

/// Plans with random scores to about half of the channels and applies it; fails unless the certificate holds.
template <class M>
pruning::Surgery<typename M::Scalar> halve(M& model, Joins joins = Joins::coupled, const Shape& of = image) {
    const auto plan = pruning::plan(model, of, {.criterion = RandomScore{}, .keep_channels = 0.5, .joins = joins});
    auto result = pruning::apply(plan, model);
    CHECK_MESSAGE(result.certificate.holds(), to_text(result.certificate));
    CHECK(result.certificate.counted_macs == plan.after.macs);
    CHECK(cost(model, of) == plan.after);
    return result;
}

} // namespace

TEST_CASE_TEMPLATE("surgery: every kind of coupling is cut exactly", T, float, double) {
    SUBCASE("chain") {
        Chain<T> m;
        shake(m);
        halve(m);
    }
    SUBCASE("identity shortcuts") {
        Residual<T> m;
        shake(m);
        halve(m);
    }
    SUBCASE("identity shortcuts, indexed") {
        Residual<T> m;
        shake(m);
        halve(m, Joins::indexed);
    }
    SUBCASE("concats") {
        Concats<T> m;
        shake(m);
        halve(m);
    }
    SUBCASE("depthwise") {
        Depthwise<T> m;
        shake(m);
        halve(m);
    }
    SUBCASE("group convolution") {
        Grouped<T> m;
        shake(m);
        halve(m);
    }
    SUBCASE("several inputs and outputs") {
        Several<T> m;
        shake(m);
        auto net = several_inputs(m, {{4, 4, 3}, {8, 8, 1}, {5}});
        halve(net, Joins::coupled, net.image());
        CHECK(m.a.conv.weight.size(3) == 3);
        CHECK(m.b.conv.weight.size(3) == 1);
        CHECK(m.numbers.weight.size(1) == 5);
        CHECK(m.classes.weight.size(0) == 4);
        CHECK(m.side.weight.size(0) == 2);
        CHECK(m.a.conv.weight.size(0) < 6);
        CHECK(m.numbers.weight.size(0) == m.b.conv.weight.size(0)); // their results are added
    }
    SUBCASE("splits") {
        Divided<T> m;
        shake(m);
        halve(m);
    }
    SUBCASE("flatten") {
        Flattened<T> m;
        shake(m);
        halve(m);
    }
    SUBCASE("squeeze and excitation") {
        Excited<T> m;
        shake(m);
        halve(m);
    }
    SUBCASE("a module used twice") {
        Shared<T> m;
        shake(m);
        halve(m);
    }
    SUBCASE("padded shortcuts") {
        models::ResNet<T> m(8, {.channels = 3});
        shake(m);
        halve(m, Joins::coupled, {8, 8, 3});
    }
    SUBCASE("padded shortcuts, indexed") {
        models::ResNet<T> m(8, {.channels = 3});
        shake(m);
        halve(m, Joins::indexed, {8, 8, 3});
    }
    SUBCASE("projection shortcuts") {
        models::ResNet<T> m(8, {.channels = 3, .shortcut = models::Shortcut::projection});
        shake(m);
        halve(m, Joins::coupled, {8, 8, 3});
    }
    SUBCASE("projection shortcuts, indexed") {
        models::ResNet<T> m(8, {.channels = 3, .shortcut = models::Shortcut::projection});
        shake(m);
        halve(m, Joins::indexed, {8, 8, 3});
    }
}

TEST_CASE("surgery 1: concat of a tensor with itself, of concats, then batch norm") {
    Concats<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, image, {.keep_channels = 0.99});
    for (auto& g : plan.groups)
        if (!g.blocked) g.kept = {0, 2, 3};
    CHECK(plan.group("a.conv").width == 5);
    CHECK(plan.group("b.conv").width == 4);
    pruning::apply(plan, model);
    CHECK(model.bn.gamma.shape() == Shape{9});
    CHECK(model.c.conv.weight.shape() == Shape{3, 3, 3, 9});
    for (const Index gone : {1, 4}) {
        zero_conv_bn<float>(masked, "a", gone);
        for (const Index copy : {0, 5})
            for (const char* name : {"bn.gamma", "bn.beta", "bn.running_mean"}) zero<float>(masked, name, gone + copy);
    }
    zero_conv_bn<float>(masked, "b", 1);
    for (const char* name : {"bn.gamma", "bn.beta", "bn.running_mean"}) zero<float>(masked, name, 11);
    for (const Index gone : {1, 4, 5}) zero_conv_bn<float>(masked, "c", gone);
    CHECK(same_bits(logits(model), logits(masked)));
}

TEST_CASE("surgery 2: a convolution with one filter keeps it and is not taken for depthwise") {
    OneFilter<float> model;
    shake(model);
    const auto plan = pruning::plan(model, image, {.keep_channels = 0.5});
    CHECK(plan.group("a.conv").width == 1);
    CHECK(plan.group("a.conv").kept.size() == 1);
    CHECK(plan.group("b.conv").width == 6);
    CHECK(pruning::apply(plan, model).certificate.holds());
}

TEST_CASE("surgery 3: depthwise channels go with their makers, and depthwise stays depthwise") {
    Depthwise<float> depthwise;
    const auto plan = pruning::plan(depthwise, image, {.keep_channels = 0.5});
    CHECK(plan.groups.size() == 3); // stem with depth, point, head
    pruning::apply(plan, depthwise);
    CHECK(depthwise.stem.conv.weight.size(0) == depthwise.depth.conv.weight.size(0));
    CHECK(depthwise.depth.conv.weight.size(3) == 1);
}

TEST_CASE("surgery 3: a group convolution loses the same channels and filters in each group") {
    Grouped<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, image, {.keep_channels = 0.99});
    CHECK(plan.group("stem.conv").width == 2);    // channels 0 and 2, 1 and 3
    CHECK(plan.group("grouped.conv").width == 3); // filters 0 and 3, 1 and 4, 2 and 5
    plan.group("stem.conv").kept = {0, 1};
    plan.group("grouped.conv").kept = {0, 2};
    plan.group("last.conv").kept = {0, 1, 2, 3, 4};
    pruning::apply(plan, model);
    CHECK(model.grouped.conv.weight.shape() == Shape{4, 3, 3, 2});
    CHECK(model.last.conv.weight.size(3) == 4);
    for (const Index gone : {1, 4}) zero_conv_bn<float>(masked, "grouped", gone);
    CHECK(same_bits(logits(model), logits(masked)));

    // The stem as well: one channel a group is left, and a group is then what a channel takes along.
    auto second = pruning::plan(model, image, {.keep_channels = 0.99});
    second.group("stem.conv").kept = {0};
    second.group("grouped.conv").kept = {0, 1};
    second.group("last.conv").kept = {0, 1, 2, 3, 4};
    pruning::apply(second, model);
    CHECK(model.grouped.conv.weight.shape() == Shape{4, 3, 3, 1});
    for (const Index gone : {1, 3}) zero_conv_bn<float>(masked, "stem", gone);
    CHECK(same_bits(logits(model), logits(masked)));
    auto third = pruning::plan(model, image, {.keep_channels = 0.99});
    CHECK(third.groups.size() == 3); // the stem's two channels, each with two filters of the group convolution
    third.group("stem.conv").kept = {1};
    third.group("last.conv").kept = {0, 1, 2, 3, 4};
    pruning::apply(third, model);
    CHECK(model.grouped.conv.weight.shape() == Shape{2, 3, 3, 1});
    zero_conv_bn<float>(masked, "stem", 0);
    for (const Index gone : {0, 1, 2}) zero_conv_bn<float>(masked, "grouped", gone);
    CHECK(same_bits(logits(model), logits(masked)));
}

TEST_CASE("surgery 4: an identity shortcut across three blocks is one group") {
    Residual<float> model;
    const auto graph = pruning::channel_graph(model, image);
    std::vector<std::string> names;
    for (const auto& g : graph.groups()) names.push_back(g.name + " " + to_text(g.width()));
    CHECK(names == std::vector<std::string>{"stem.conv 8", "one.a.conv 6", "two.a.conv 6", "three.a.conv 6", "head 4"});
}

TEST_CASE("surgery 5: a padded shortcut couples exactly the channels it places") {
    models::ResNet<float> model(8, {.channels = 3});
    const auto graph = pruning::channel_graph(model, {8, 8, 3});
    std::vector<std::string> names;
    for (const auto& g : graph.groups()) names.push_back(g.name + " " + to_text(g.width()));
    // The 16 channels of stage 1 lie in the middle of stage 2's 32, and those in the middle of stage 3's 64.
    CHECK(names == std::vector<std::string>{"conv 16", "stage1.0.conv1 16", "stage2.0.conv1 32", "stage2.0.conv2 16",
                                            "stage3.0.conv1 64", "stage3.0.conv2 32", "linear 10"});
    models::ResNet<float> projected(8, {.channels = 3, .shortcut = models::Shortcut::projection});
    CHECK(pruning::channel_graph(projected, {8, 8, 3}).groups().size() == 7);
}

TEST_CASE("surgery 6: a flattened channel takes all its columns along") {
    Flattened<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, image, {.keep_channels = 0.99});
    for (auto& g : plan.groups)
        if (!g.blocked) g.kept = {1, 2, 4};
    pruning::apply(plan, model);
    CHECK(model.hidden.weight.shape() == Shape{3, 48});
    for (const Index gone : {0, 3, 5}) zero_conv_bn<float>(masked, "a", gone);
    for (const Index gone : {0, 3, 5, 6, 7, 8, 9}) {
        zero<float>(masked, "hidden.weight", gone);
        zero<float>(masked, "hidden.bias", gone);
    }
    CHECK(same_bits(logits(model), logits(masked)));
}

TEST_CASE("surgery 7: a broadcast multiply couples its channels, an extent of 1 couples nothing") {
    Excited<float> model;
    const auto graph = pruning::channel_graph(model, image);
    std::vector<std::string> names;
    for (const auto& g : graph.groups()) names.push_back(g.name + " " + to_text(g.width()));
    CHECK(names == std::vector<std::string>{"a.conv 6", "squeeze 3", "gate 1", "b.conv 5", "head 4"});
}

TEST_CASE("surgery: a split follows the channels of its ranges; sliced by numbers they stay") {
    Divided<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, image, {.keep_channels = 0.99});
    REQUIRE(plan.group("stem.conv").width == 4);   // eaten by a
    REQUIRE(plan.group("stem.conv#2").width == 4); // map and gate: one product
    plan.group("stem.conv").kept = {0, 3};
    plan.group("stem.conv#2").kept = {1, 2, 3};
    for (const char* const name : {"a.conv", "b.conv"}) {
        auto& kept = plan.group(name).kept;
        kept.resize(static_cast<std::size_t>(plan.group(name).width));
        std::iota(kept.begin(), kept.end(), Index(0));
    }
    const auto result = pruning::apply(plan, model);
    CHECK_MESSAGE(result.certificate.holds(), to_text(result.certificate));
    std::vector<std::vector<Index>> kept;
    for (const auto& [name, join] : model.joins()) kept.push_back(join->kept);
    CHECK(kept == std::vector<std::vector<Index>>{{0, 1}, {2, 3, 4, 5, 6, 7}, {0, 1, 2}, {3, 4, 5}});
    CHECK(model.stem.conv.weight.size(0) == 8);
    for (const Index gone : {1, 2, 4, 8}) zero_conv_bn<float>(masked, "stem", gone);
    CHECK(same_bits(logits(model), logits(masked)));

    struct Sliced : Module<float> {
        ConvBn<float> a = child("a", ConvBn<float>(3, 6)), b = child("b", ConvBn<float>(3, 5));
        Linear<float> head = child("head", Linear<float>({.in = 5, .out = 4}));
        Var<float> forward(const Var<float>& x) {
            return head.forward(global_avg_pool(b.forward(slice(a.forward(x), -1, 0, 3))));
        }
    } sliced;
    const auto most = pruning::plan(sliced, image, {.keep_channels = 0.9});
    CHECK(most.group("a.conv").note == "slice of channels by fixed numbers (es::ChannelSplit follows a cut)");
    CHECK(most.group("b.conv").cut() > 0);
}

TEST_CASE("surgery: what the code of forward makes can't be cut; a buffer can") {
    struct Scaled : Module<float> {
        explicit Scaled(bool is_buffer) {
            if (is_buffer) mask = add_buffer("mask", mask.value());
        }
        Var<float> mask{Tensor<float>::from({1, 1, 1, 6}, {1, 2, 3, 4, 5, 6})};
        ConvBn<float> a = child("a", ConvBn<float>(3, 6)), b = child("b", ConvBn<float>(6, 5));
        Linear<float> head = child("head", Linear<float>({.in = 5, .out = 4}));
        Var<float> forward(const Var<float>& x) {
            return head.forward(global_avg_pool(b.forward(a.forward(x) * mask)));
        }
    } code(false), buffer(true);
    shake(code);
    const auto plan = pruning::plan(code, image, {.keep_channels = 0.9});
    CHECK(plan.group("a.conv").note == "constant operand of mul");
    CHECK(plan.group("b.conv").cut() > 0);
    halve(buffer);
    CHECK(buffer.mask.size() < 6);
}

TEST_CASE("surgery 9: a ratio of 0, a ratio of 1 and an empty plan are errors that say why") {
    Chain<float> model;
    CHECK_THROWS_WITH_AS(pruning::plan(model, image, {.keep_macs = 1.0}), doctest::Contains("nothing to cut"),
                         StateError);
    CHECK_THROWS_WITH_AS(pruning::plan(model, image, {.keep_macs = 0.0}), doctest::Contains("at best"), StateError);
    const Tensor<float> before = logits(model);
    pruning::Plan nothing;
    nothing.image = image;
    CHECK_THROWS_WITH_AS(pruning::apply(nothing, model), doctest::Contains("keeps all"), StateError);
    CHECK(same_bits(before, logits(model)));
}

TEST_CASE("surgery 10: two cuts in a row equal the one combined cut") {
    for (const Joins joins : {Joins::coupled, Joins::indexed}) {
        Residual<float> twice, once;
        shake(twice);
        shake(once);
        const auto cut = [&](auto& model, const std::string& name, const std::vector<Index>& kept) {
            auto plan =
                pruning::plan(model, image, {.criterion = RandomScore{}, .keep_channels = 0.99, .joins = joins});
            for (auto& g : plan.groups) {
                g.kept.clear();
                for (Index c = 0; c < g.width; ++c) g.kept.push_back(c);
            }
            plan.group(name).kept = kept;
            return pruning::apply(plan, model);
        };
        const std::string group = joins == Joins::coupled ? "stem.conv" : "two.b.conv";
        CHECK(cut(twice, group, {0, 1, 3, 4, 6, 7}).certificate.holds());
        CHECK(cut(twice, group, {0, 2, 3, 5}).certificate.holds());
        CHECK(cut(once, group, {0, 3, 4, 7}).certificate.holds());
        CHECK(same_bits(logits(twice), logits(once)));
        const auto a = twice.parameters(), b = once.parameters();
        for (std::size_t i = 0; i < a.size(); ++i) CHECK(same_bits(a[i].var.value(), b[i].var.value()));
        for (std::size_t i = 0; i < twice.joins().size(); ++i)
            CHECK(twice.joins()[i].join->kept == once.joins()[i].join->kept);
    }
}

TEST_CASE("surgery 10: an indexed cut, then a cut of the stream") {
    Residual<float> model;
    shake(model);
    halve(model, Joins::indexed);
    halve(model, Joins::coupled);
    halve(model, Joins::indexed);
}

TEST_CASE_TEMPLATE("surgery 11: the next optimizer step is that of a network that had been small all along", T, float,
                   double) {
    for (const Joins joins : {Joins::coupled, Joins::indexed}) {
        Residual<T> full, small;
        shake(full);
        shake(small);
        const auto plan =
            pruning::plan(full, image, {.criterion = RandomScore{}, .keep_channels = 0.6, .joins = joins});
        const SgdOptions options{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 5e-4};
        Sgd<T> big_optimizer(full, options);
        const auto step = [](auto& model, auto& optimizer,
                             T scale) { // gradients that do not depend on the network's size
            for (auto& [name, var] : model.parameters()) {
                Tensor<T> g = var.value().clone();
                for (Index i = 0; i < g.size(); ++i) g.mutable_data()[i] *= scale;
                var.clear_grad();
                var.node()->add_grad(std::move(g));
            }
            optimizer.step();
        };
        step(full, big_optimizer, T(0.5));
        pruning::apply(plan, full, &big_optimizer);

        pruning::apply(plan, small);
        Sgd<T> small_optimizer(small, options);
        step(small, small_optimizer, T(0.5));
        step(full, big_optimizer, T(-0.25));
        step(small, small_optimizer, T(-0.25));
        const auto a = full.parameters(), b = small.parameters();
        REQUIRE(a.size() == b.size());
        for (std::size_t i = 0; i < a.size(); ++i)
            if (!a[i].name.ends_with("constant"))
                CHECK_MESSAGE(same_bits(a[i].var.value(), b[i].var.value()), a[i].name);
    }
}

TEST_CASE("surgery 13: input channels and classes are never cut") {
    Chain<float> model;
    shake(model);
    const auto plan = pruning::plan(model, image, {.keep_channels = 0.2});
    CHECK(plan.group("head").note == "output");
    CHECK(plan.group("head").blocked);
    pruning::apply(plan, model);
    CHECK(model.a.conv.weight.size(3) == 3);
    CHECK(model.head.weight.size(0) == 4);
}

TEST_CASE("surgery 14: masked and pruned agree bit for bit, and do not when batch norm's shift is left out") {
    Chain<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, image, {.keep_channels = 0.99});
    plan.group("a.conv").kept = {1, 4};
    plan.group("b").kept = {0, 1, 2, 3, 4, 5};
    const auto result = pruning::apply(plan, model);
    CHECK(result.certificate.reference_path_bit_equal);
    CHECK(result.certificate.fast_path_max_relative_error <= 1e-5);
    for (const Index gone : {0, 2, 3, 5, 6, 7}) zero<float>(masked, "a.conv.weight", gone);
    CHECK_FALSE(same_bits(logits(model), logits(masked))); // the filters alone are not enough
    for (const Index gone : {0, 2, 3, 5, 6, 7}) zero_conv_bn<float>(masked, "a", gone);
    CHECK(same_bits(logits(model), logits(masked)));
    CHECK(pruning::detail::relative_error(logits(model, Path::fast), logits(masked, Path::fast)) <= 1e-5);

    Certificate wrong = result.certificate;
    wrong.reference_path_bit_equal = false;
    CHECK_FALSE(wrong.holds());
    wrong = result.certificate;
    wrong.fast_path_max_relative_error = std::numeric_limits<double>::quiet_NaN();
    CHECK_FALSE(wrong.holds());
    wrong = result.certificate;
    wrong.counted_macs += 1;
    CHECK_FALSE(wrong.holds());
}

TEST_CASE("surgery 15: golden cost, and what a cut network counts is what the plan predicted") {
    models::ResNet<float> model(56, {});
    const Cost dense = cost(model, {32, 32, 3});
    CHECK(dense.macs == 125485696); // 125.49 M
    CHECK(dense.filters == 2032);
    for (const Joins joins : {Joins::coupled, Joins::indexed}) {
        const auto plan =
            pruning::plan(model, {32, 32, 3}, {.keep_macs = joins == Joins::coupled ? 0.7 : 0.8, .joins = joins});
        pruning::apply(plan, model);
        CHECK(cost(model, {32, 32, 3}) == plan.after);
    }
}

TEST_CASE_TEMPLATE("surgery 16: the indexed join", T, float, double) {
    Residual<T> model, masked;
    shake(model);
    shake(masked);
    auto plan =
        pruning::plan(model, image, {.criterion = RandomScore{}, .keep_channels = 0.99, .joins = Joins::indexed});
    CHECK(plan.group("stem.conv").note == "residual stream of indexed joins");
    for (auto& g : plan.groups) {
        g.kept.clear();
        for (Index c = 0; c < g.width; ++c) g.kept.push_back(c);
    }
    plan.group("one.b.conv").kept = {1, 2, 6};
    plan.group("two.b.conv").kept = {};
    const auto surgery = pruning::apply(plan, model);
    CHECK(surgery.certificate.holds());

    // Forward: the removed filters are zero, their shift stays.
    const auto remove = [&](const std::string& prefix, Index entry) {
        zero<T>(masked, prefix + ".conv.weight", entry);
        zero<T>(masked, prefix + ".bn.gamma", entry);
        zero<T>(masked, prefix + ".bn.running_mean", entry);
    };
    for (const Index gone : {0, 3, 4, 5, 7}) remove("one.b", gone);
    for (Index gone = 0; gone < 8; ++gone) remove("two.b", gone);
    CHECK(same_bits(logits(model), logits(masked)));
    CHECK(model.one.join.state()->kept == std::vector<Index>{1, 2, 6});
    for (const Index gone : {0, 3, 4, 5, 7}) zero<T>(masked, "one.b.bn.beta", gone);
    CHECK_FALSE(same_bits(logits(model), logits(masked))); // dropping the shift is not exact

    // The branch with nothing left is gone whole, its inner convolution included.
    CHECK(model.two.b.conv.weight.shape() == Shape{0, 3, 3, 0});
    CHECK(model.two.a.conv.weight.shape() == Shape{0, 3, 3, 8});
    CHECK(model.stem.conv.weight.size(0) == 8);
    CHECK(model.three.b.conv.weight.size(0) == 8);
    CHECK(cost(model, image).macs == 4 * 4 * 9 * (3 * 8 + (8 * 6 + 6 * 3) + 2 * 8 * 6) + 8 * 4);

    // Backward: it trains.
    const auto y = model.forward(Var<T>(random_tensor<T>({2, 4, 4, 3})));
    y.backward(random_tensor<T>(y.shape(), "dy"));
    CHECK(model.one.b.conv.weight.grad().shape() == Shape{3, 3, 3, 6});
    double moved = 0;
    for (const T g : model.two.join.state()->constant.grad()) moved += std::abs(static_cast<double>(g));
    CHECK(moved > 0);
}

TEST_CASE("surgery: a plan that does not fit changes nothing and says what is wrong") {
    Chain<float> model;
    shake(model);
    const Tensor<float> before = logits(model);
    const auto good = pruning::plan(model, image, {.keep_channels = 0.5});
    const auto fails = [&](const auto& edit, const char* text) {
        auto plan = good;
        edit(plan);
        CHECK_THROWS_WITH_AS(pruning::apply(plan, model), doctest::Contains(text), StateError);
        CHECK(same_bits(before, logits(model)));
    };
    fails([](auto& p) { p.group("a.conv").name = "nobody"; }, "got 'nobody'");
    fails([](auto& p) { p.group("a.conv").width = 9; }, "expected width 8 for group 'a.conv', got 9");
    fails([](auto& p) { p.group("a.conv").kept = {0, 8}; }, "below 8");
    fails([](auto& p) { p.group("a.conv").kept = {-1, 2}; }, "got -1");
    fails([](auto& p) { p.group("a.conv").kept = {3, 3}; }, "ascending");
    fails([](auto& p) { p.group("a.conv").kept = {}; }, "at least one channel in group 'a.conv'");
    fails([](auto& p) { p.group("head").kept = {0, 1}; }, "expected group 'head' whole (output)");
    fails([](auto& p) { p.groups.push_back(p.groups.front()); }, "twice");
    fails(
        [](auto& p) {
            p.joins = Joins::indexed;
            p.group("a.conv").name = "stem";
        },
        "stem");

    CHECK(pruning::apply(good, model).certificate.holds());
    CHECK_THROWS_AS(pruning::apply(good, model), StateError); // not the same network any more
}
