#include "support/check.hpp"

#include <espalier/data/synthetic.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/train/sgd.hpp>
#include <espalier/train/trainer.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

ImageSet images(Index count) { return data::synthetic({.count = count, .channels = 3, .classes = 4, .seed = 1}); }
Loader<float> loader_of(Index count, Index size) { return {images(count), {.size = size, .seed = 5}}; }

/// A network of one linear layer whose `forward` returns logits alone.
struct Plain : Module<float> {
    Linear<float> linear = child("linear", Linear<float>({.in = 3, .out = 4, .init = {}}));
    Var<float> forward(const Var<float>& x) { return linear.forward(global_avg_pool(x)); }
};

std::vector<Tensor<float>> state_of(const Module<float>& module) {
    std::vector<Tensor<float>> all;
    for (const auto& list : {module.parameters(), module.buffers()})
        for (const auto& [name, var] : list) all.push_back(var.value());
    return all;
}

} // namespace

TEST_CASE("trainer: twenty steps of a residual network have the same bits with 1 and 2 threads") {
    check_repeatable([] {
        auto net = models::ResNet<float>(8, {.classes = 4, .seed = 3});
        Sgd<float> sgd(net, {.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3});
        Trainer<float> trainer(net, sgd, {.epochs = 5});
        trainer.run(Loader<float>(images(32), {.size = 8, .augment = {.crop = 1, .flip = Flip::horizontal}}));
        CHECK(trainer.position().step == 20);
        return state_of(net);
    });
}

TEST_CASE("trainer: a small network learns a small set") {
    auto net = models::ResNet<float>(8, {.classes = 4, .seed = 3});
    Sgd<float> sgd(net, {.momentum = 0.9});
    Trainer<float> trainer(net, sgd,
                           {.epochs = 12, .schedule = schedules::cosine({.learning_rate = 0.1, .steps = 48})});
    const Loader<float> loader = loader_of(64, 16);
    const double before = evaluate(net, loader).loss;
    CHECK(trainer.run(loader) == RunEnd::finished);
    const Evaluation after = evaluate(net, loader);
    CHECK(after.accuracy == 1);
    CHECK(after.loss < before / 4);
    CHECK(after.images == 64);
}

TEST_CASE("trainer: hooks are called in order and learn what happened") {
    Plain net;
    Sgd<float> sgd(net, {.learning_rate = 0.25});
    std::string order;
    std::vector<Progress> steps, epochs;
    Tensor<float> seen;
    Trainer<float> trainer(net, sgd,
                           {.epochs = 2,
                            .schedule = [](Index step) { return 0.1 * static_cast<double>(step + 1); },
                            .regularizer =
                                [&](const models::Output<float>& out, Index step) {
                                    order += "r";
                                    CHECK(out.logits.shape()[1] == 4);
                                    return step < 3 ? Var<float>() : Var<float>(Tensor<float>::scalar(2));
                                },
                            .before_step = {[&](const Progress& p) {
                                order += "b";
                                CHECK(net.linear.weight.grad().defined());
                                CHECK(p.at.batch == trainer.position().batch);
                                seen = net.linear.weight.value().clone();
                            }},
                            .after_step = {[&](const Progress& p) {
                                order += "a";
                                CHECK(p.at.step == trainer.position().step);
                                CHECK_FALSE(same_bits(seen, net.linear.weight.value()));
                                steps.push_back(p);
                            }},
                            .after_epoch = {[&](const Progress& p) {
                                order += "e";
                                CHECK(trainer.position().epoch == p.at.epoch + 1);
                                CHECK(trainer.position().batch == 0);
                                CHECK(trainer.position().totals.images == 0);
                                epochs.push_back(p);
                            }}});
    CHECK(trainer.run(loader_of(10, 4)) == RunEnd::finished); // batches of 4, 4 and 2
    CHECK(order == "rbarbarbaerbarbarbae");
    REQUIRE(steps.size() == 6);
    CHECK(steps[1].at.batch == 2);
    CHECK(steps[1].steps == 6);
    CHECK(steps[1].batches == 3);
    CHECK(steps[4].learning_rate == doctest::Approx(0.5));
    CHECK(steps[2].last.regularizer == 0);
    CHECK(steps[3].last.regularizer == 2);
    CHECK(steps[3].last.total == doctest::Approx(2 + steps[3].last.cross_entropy));
    CHECK(steps[5].seconds_left == 0);
    CHECK(steps[0].seconds_left > 0);
    REQUIRE(epochs.size() == 2);
    CHECK(epochs[0].at.epoch == 0);
    CHECK(epochs[0].at.totals.images == 10);
    const double mean = (4 * steps[0].last.total + 4 * steps[1].last.total + 2 * steps[2].last.total) / 10;
    CHECK(epochs[0].mean.total == doctest::Approx(mean));
    CHECK(epochs[1].mean.regularizer == doctest::Approx(2));
}

TEST_CASE("trainer: a regularizer changes the gradient") {
    const auto train = [](bool regularized) {
        Plain net;
        Sgd<float> sgd(net, {.learning_rate = 1});
        TrainerOptions<float> options{.epochs = 1};
        if (regularized)
            options.regularizer = [&](const models::Output<float>&, Index) {
                return cross_entropy(net.linear.weight, Tensor<Index>::zeros({4}));
            };
        Trainer<float>(net, sgd, options).run(loader_of(4, 4));
        return net.linear.weight.value().clone();
    };
    CHECK_FALSE(same_bits(train(false), train(true)));
}

TEST_CASE("trainer: a stop is obeyed after the step and the run goes on where it was") {
    Plain one, two;
    std::atomic<bool> stop = false;
    const auto train = [&](Plain& net, Index at) {
        Sgd<float> sgd(net, {.learning_rate = 0.1, .momentum = 0.9});
        Trainer<float> trainer(net, sgd,
                               {.epochs = 2,
                                .after_step = {[&](const Progress& p) {
                                    if (p.at.step == at) stop = true;
                                }},
                                .stop = &stop});
        const Loader<float> loader = loader_of(10, 4);
        const RunEnd end = trainer.run(loader);
        CHECK((end == RunEnd::stopped) == (at > 0));
        stop = false;
        if (end == RunEnd::stopped) CHECK(trainer.position().step == at);
        CHECK(trainer.run(loader) == RunEnd::finished);
        CHECK(trainer.run(loader) == RunEnd::finished); // nothing is left to do
        CHECK(trainer.position().step == 6);
    };
    for (const Index at : {2, 3, 6}) { // within an epoch, at the end of one, at the end of all
        one = Plain();
        two = Plain();
        train(one, 0);
        train(two, at);
        CHECK(same_bits(one.linear.weight.value(), two.linear.weight.value()));
    }
}

TEST_CASE("trainer: a loss that is not finite ends the run before the update and says what it was") {
    Plain net;
    Sgd<float> sgd(net, {.learning_rate = 0.5});
    Tensor<float> last;
    Trainer<float> trainer(
        net, sgd,
        {.epochs = 2,
         .regularizer = [](const models::Output<float>&,
                           Index step) { return Var<float>(Tensor<float>::scalar(step < 4 ? 0.0f : std::nanf(""))); },
         .after_step = {[&](const Progress&) { last = net.linear.weight.value().clone(); }}});
    CHECK_THROWS_WITH_AS(trainer.run(loader_of(10, 4)),
                         doctest::Contains("expected a finite loss, got nan in step 4 (epoch 1, batch 1) with learning "
                                           "rate 0.5: cross-entropy "),
                         StateError);
    CHECK(same_bits(net.linear.weight.value(), last));
    CHECK(sgd.steps() == 4);
    CHECK(trainer.position().step == 4);
    CHECK(trainer.position().totals.images == 4);
}

TEST_CASE("trainer: a position outside the epoch is an error") {
    Plain net;
    Sgd<float> sgd(net, {});
    Trainer<float> trainer(net, sgd, {.epochs = 2});
    trainer.resume({.epoch = 1, .batch = 4, .step = 7});
    CHECK_THROWS_WITH_AS(trainer.run(loader_of(10, 4)), doctest::Contains("within 3 batches an epoch, got batch 4"),
                         StateError);
    CHECK_THROWS_WITH_AS(Trainer<float>(net, sgd, {.epochs = -1}), doctest::Contains("got -1"), ShapeError);
}
