#include <espalier/pruning/surgery.hpp>

#include "logits.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/nn/several_inputs.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/train/sgd.hpp>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;

namespace {

/// Plans with random scores to about half of the channels and applies it; fails unless the certificate holds.
template <class M>
pruning::Surgery<typename M::Scalar> halve(M& model, Joins joins = Joins::coupled, const Shape& of = small_image) {
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

TEST_CASE("surgery 2: a convolution with one filter keeps it and is not taken for depthwise") {
    OneFilter<float> model;
    shake(model);
    const auto plan = pruning::plan(model, small_image, {.keep_channels = 0.5});
    CHECK(plan.group("a.conv").width == 1);
    CHECK(plan.group("a.conv").kept.size() == 1);
    CHECK(plan.group("b.conv").width == 6);
    CHECK(pruning::apply(plan, model).certificate.holds());
}

TEST_CASE("surgery 3: depthwise channels go with their makers, and depthwise stays depthwise") {
    Depthwise<float> depthwise;
    const auto plan = pruning::plan(depthwise, small_image, {.keep_channels = 0.5});
    CHECK(plan.groups.size() == 3); // stem with depth, point, head
    pruning::apply(plan, depthwise);
    CHECK(depthwise.stem.conv.weight.size(0) == depthwise.depth.conv.weight.size(0));
    CHECK(depthwise.depth.conv.weight.size(3) == 1);
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
    const auto plan = pruning::plan(code, small_image, {.keep_channels = 0.9});
    CHECK(plan.group("a.conv").note == "constant operand of mul");
    CHECK(plan.group("b.conv").cut() > 0);
    halve(buffer);
    CHECK(buffer.mask.size() < 6);
}

TEST_CASE("surgery 9: a ratio of 0, a ratio of 1 and an empty plan are errors that say why") {
    Chain<float> model;
    CHECK_THROWS_WITH_AS(pruning::plan(model, small_image, {.keep_macs = 1.0}), doctest::Contains("nothing to cut"),
                         StateError);
    CHECK_THROWS_WITH_AS(pruning::plan(model, small_image, {.keep_macs = 0.0}), doctest::Contains("at best"),
                         StateError);
    const Tensor<float> before = logits(model);
    pruning::Plan nothing;
    nothing.image = small_image;
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
                pruning::plan(model, small_image, {.criterion = RandomScore{}, .keep_channels = 0.99, .joins = joins});
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
            pruning::plan(full, small_image, {.criterion = RandomScore{}, .keep_channels = 0.6, .joins = joins});
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
    const auto plan = pruning::plan(model, small_image, {.keep_channels = 0.2});
    CHECK(plan.group("head").note == "output");
    CHECK(plan.group("head").blocked);
    pruning::apply(plan, model);
    CHECK(model.a.conv.weight.size(3) == 3);
    CHECK(model.head.weight.size(0) == 4);
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

TEST_CASE("surgery: a plan that does not fit changes nothing and says what is wrong") {
    Chain<float> model;
    shake(model);
    const Tensor<float> before = logits(model);
    const auto good = pruning::plan(model, small_image, {.keep_channels = 0.5});
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
