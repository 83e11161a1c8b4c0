#include "pruning/networks.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/train/adam.hpp>
#include <espalier/train/checkpoint.hpp>
#include <espalier/train/masks.hpp>
#include <espalier/train/sgd.hpp>

#include <cstdio>
#include <memory>

using namespace espalier;
using namespace espalier::test;
using pruning::channel_masks;
using pruning::Joins;
using pruning::magnitude_masks;

namespace {

const Shape image{4, 4, 3};

template <class M, class T> void train(M& model, Optimizer<T>& optimizer, const char* name = "images") {
    model.clear_grad();
    const auto y = model.forward(Var<T>(random_tensor<T>({4, 4, 4, 3}, name)));
    y.backward(random_tensor<T>(y.shape(), "dy"));
    optimizer.step();
}
template <class T> std::unique_ptr<Optimizer<T>> make(int kind, const Module<T>& model) {
    if (kind == 0) return std::make_unique<Sgd<T>>(model, SgdOptions{.learning_rate = 0.05});
    if (kind == 1)
        return std::make_unique<Sgd<T>>(
            model,
            SgdOptions{.learning_rate = 0.05, .momentum = 0.9, .form = Momentum::nesterov, .weight_decay = 1e-3});
    return std::make_unique<Adam<T>>(model, AdamOptions{.learning_rate = 0.01, .weight_decay = 1e-3});
}
/// Entries of a tensor that its mask says are zero and that are not, -0 counting as one.
template <class T> Index leaks(const Mask<T>& mask, const Tensor<T>& x) {
    Index count = 0;
    for (Index i = 0; i < x.size(); ++i)
        count += !mask.kept.data()[i] && (x.data()[i] != T(0) || std::signbit(x.data()[i]));
    return count;
}
template <class T> Index moved(const Mask<T>& mask, const Tensor<T>& a, const Tensor<T>& b) {
    Index count = 0;
    for (Index i = 0; i < a.size(); ++i) count += mask.kept.data()[i] && a.data()[i] != b.data()[i];
    return count;
}

} // namespace

TEST_CASE_TEMPLATE("masks: masked entries, and what any optimizer keeps for them, stay zero in training", T, float,
                   double) {
    for (int kind = 0; kind < 3; ++kind) {
        Chain<T> model;
        shake(model);
        const auto optimizer = make<T>(kind, model);
        train(model, *optimizer); // momentum from before the masks
        Masks<T> masks(model);
        masks.set(magnitude_masks(model, {.keep = 0.3}));
        masks.add(channel_masks(pruning::plan(model, image, {.keep_channels = 0.6}), model));
        masks.apply(*optimizer);
        for (int step = 0; step < 3; ++step) {
            std::vector<Tensor<T>> before;
            for (const auto& mask : masks.all()) before.push_back(mask.of.var.value().clone());
            train(model, *optimizer);
            masks.apply(*optimizer);
            for (std::size_t i = 0; i < before.size(); ++i) {
                const auto& mask = masks.all()[i];
                CHECK(leaks(mask, mask.of.var.value()) == 0);
                // The others are trained, but for a bias in front of a batch norm, whose gradient is 0.
                CHECK((moved(mask, mask.of.var.value(), before[i]) > 0 || mask.of.name == "b.bias"));
            }
            Index states = 0;
            optimizer->each_state([&](const Var<T>& var, Tensor<T>& state) {
                for (const auto& mask : masks.all())
                    if (mask.of.var.node() == var.node()) {
                        CHECK(leaks(mask, state) == 0);
                        ++states;
                    }
            });
            CHECK((states > 0) == (kind > 0));
        }
    }
}

TEST_CASE("masks: a masked network trains as the cut one does") {
    // Bit for bit but for sums that are regrouped, so on the path that adds terms one by one.
    const PathScope path(Path::fixed_order);
    Chain<double> model, small;
    shake(model);
    shake(small);
    const auto plan = pruning::plan(model, image, {.keep_channels = 0.5});
    Masks<double> masks(model);
    masks.set(channel_masks(plan, model));
    masks.apply();
    pruning::apply(plan, small);
    Sgd<double> optimizer(model, {.learning_rate = 0.05, .momentum = 0.9}),
        of_small(small, {.learning_rate = 0.05, .momentum = 0.9});
    for (int step = 0; step < 3; ++step) {
        train(model, optimizer);
        masks.apply(optimizer);
        train(small, of_small);
    }
    const auto kept_of_b = plan.group("b").kept, kept_of_a = plan.group("a.conv").kept;
    const Tensor<double> expected = take(take(model.b.weight.value(), 0, kept_of_b), 3, kept_of_a);
    check_close(small.b.weight.value(), expected, 64); // gradients of weights are sums in blocks, over three steps
}

TEST_CASE("masks: both are masked where two overlap, and whoever gave one keeps his") {
    Chain<float> model;
    const auto wide = magnitude_masks(model, {.keep = 0.6}),
               narrow = channel_masks(pruning::plan(model, image, {.keep_channels = 0.5}), model);
    const Tensor<std::uint8_t> before = wide[0].kept.clone();
    Masks<float> masks(model);
    masks.set(wide);
    masks.add(narrow);
    CHECK(same_bits(wide[0].kept, before));
    for (const auto& mask : masks.all())
        for (Index i = 0; i < mask.kept.size(); ++i) {
            bool kept = true;
            for (const auto* list : {&wide, &narrow})
                for (const auto& one : *list)
                    if (one.of.var.node() == mask.of.var.node()) kept = kept && one.kept.data()[i];
            CHECK(bool(mask.kept.data()[i]) == kept);
        }
    masks.set({});
    CHECK(masks.all().empty());
}

TEST_CASE("masks: values that are not finite become zero as well") {
    Chain<float> model;
    Masks<float> masks(model);
    masks.set(magnitude_masks(model, {.keep = 0.5}));
    model.a.conv.weight.set_value(Tensor<float>::full({8, 3, 3, 3}, std::numeric_limits<float>::quiet_NaN()));
    masks.apply();
    CHECK(leaks(masks.all()[0], model.a.conv.weight.value()) == 0);
}

TEST_CASE("masks: they follow surgery, and hold afterwards") {
    for (const Joins joins : {Joins::coupled, Joins::indexed}) {
        Residual<float> model;
        shake(model);
        Sgd<float> optimizer(model, {.learning_rate = 0.05, .momentum = 0.9});
        Masks<float> masks(model);
        masks.set(magnitude_masks(model, {.keep = 0.4}));
        masks.apply();
        train(model, optimizer);
        masks.apply(optimizer);
        const auto plan = pruning::plan(model, image, {.keep_channels = 0.6, .joins = joins});
        pruning::apply(plan, model, &optimizer, &masks);
        for (const auto& mask : masks.all()) {
            CHECK(mask.kept.shape() == mask.of.var.shape());
            CHECK(leaks(mask, mask.of.var.value()) == 0); // slices of what was zero are zero where the mask says
        }
        train(model, optimizer);
        masks.apply(optimizer);
        for (const auto& mask : masks.all()) CHECK(leaks(mask, mask.of.var.value()) == 0);
    }
}

TEST_CASE("masks: through a checkpoint, also of a network that was cut") {
    const char* const path = "masks_test.safetensors";
    models::ResNet<float> model(8, {.classes = 4, .seed = 3}), loaded(8, {.classes = 4, .seed = 9});
    Sgd<float> optimizer(model, {.learning_rate = 0.05, .momentum = 0.9}), later(loaded, {.momentum = 0.9});
    Masks<float> masks(model), again(loaded);
    masks.set(magnitude_masks(model, {.keep = 0.3}));
    masks.apply(optimizer);
    pruning::apply(pruning::plan(model, {8, 8, 3}, {.keep_macs = 0.6}), model, &optimizer, &masks);
    TensorFile extra;
    masks.save(extra, "masks.");
    save_checkpoint(path, model, optimizer, {}, 0, extra);
    const Checkpoint checkpoint = read_checkpoint(path);
    std::remove(path);
    restore<float>(checkpoint, loaded);
    again.load(checkpoint.extra, "masks.");
    REQUIRE(again.all().size() == masks.all().size());
    for (std::size_t i = 0; i < masks.all().size(); ++i) {
        CHECK(again.all()[i].of.name == masks.all()[i].of.name);
        CHECK(again.all()[i].of.var.node() == loaded.find(masks.all()[i].of.name).node());
        CHECK(same_bits(again.all()[i].kept, masks.all()[i].kept));
    }
    again.load(TensorFile(), "masks.");
    CHECK(again.all().empty());
}

TEST_CASE("masks: repeatable") {
    check_repeatable([] {
        const auto model = Conv2d<float>({.in = 64, .out = 128});
        Masks<float> masks(model);
        masks.set(magnitude_masks(model, {.keep = 0.5}));
        masks.apply();
        return std::vector<Tensor<float>>{model.weight.value().clone()};
    });
}

TEST_CASE("masks: what does not fit changes nothing") {
    Chain<float> model, other;
    Masks<float> masks(model);
    masks.set(magnitude_masks(model, {.keep = 0.5}));
    CHECK_THROWS_WITH_AS(masks.set(magnitude_masks(other, {.keep = 0.5})),
                         "Masks::set: expected masks of this model's variables, got one of another 'a.conv.weight'",
                         StateError);
    CHECK_THROWS_WITH_AS(masks.add({{{"b.bias", model.b.bias}, Tensor<std::uint8_t>({5})}}),
                         doctest::Contains("Masks::add: expected a mask [6] for 'b.bias', got [5]"), StateError);
    CHECK(masks.all().size() == 3);
    pruning::apply(pruning::plan(model, image, {.keep_channels = 0.5}), model); // the masks were not told
    const Tensor<float> before = model.a.conv.weight.value().clone();
    Sgd<float> optimizer(model, {});
    CHECK_THROWS_WITH_AS(masks.apply(optimizer), doctest::Contains("apply the cuts of surgery first"), StateError);
    CHECK(same_bits(before, model.a.conv.weight.value()));
    TensorFile file;
    file.add("m.nobody", Tensor<std::uint8_t>({3}));
    CHECK_THROWS_WITH_AS(masks.load(file, "m."), doctest::Contains("got nobody"), StateError);
    TensorFile floats;
    floats.add("m.b.bias", Tensor<float>({3}));
    CHECK_THROWS_WITH_AS(masks.load(floats, "m."), doctest::Contains("expected 'm.b.bias' of type U8, got F32"),
                         StateError);
    TensorFile shapes;
    shapes.add("m.b.bias", Tensor<std::uint8_t>({1}));
    CHECK_THROWS_WITH_AS(masks.load(shapes, "m."), doctest::Contains("Masks::load: expected a mask"), StateError);
    CHECK(masks.all().size() == 3);
}
