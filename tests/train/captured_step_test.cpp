#include "support/check.hpp"

#include <espalier/data/synthetic.hpp>
#include <espalier/models/cnn.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/nn/dropout.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/ops/conv2d.hpp>
#include <espalier/ops/cross_entropy.hpp>
#include <espalier/ops/mse.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/regularizers/feature_flow.hpp>
#include <espalier/tensor/side_by_side.hpp>
#include <espalier/train/adam.hpp>
#include <espalier/train/captured_step.hpp>
#include <espalier/train/clip.hpp>
#include <espalier/train/ema.hpp>
#include <espalier/train/masks.hpp>
#include <espalier/train/sgd.hpp>
#include <espalier/train/trainer.hpp>

#include <functional>
#include <optional>
#include <thread>

// Every test compares calls of a captured step with the same calls of the function itself: all bits must agree.

using namespace espalier;
using namespace espalier::test;

namespace {

bool on_gpu() { return device_under_test() != Device::cpu; }

// Two layers with all that a step carries along: statistics, a count of dropout's calls.
template <class T> struct Net : Module<T> {
    Linear<T> first = this->child("first", Linear<T>({.in = 3, .out = 8}, Random(1, "first")));
    Dropout<T> dropout = this->child("dropout", Dropout<T>(0.5, Random(1, "d")));
    Linear<T> last = this->child("last", Linear<T>({.in = 8, .out = 2}, Random(1, "last")));

    Var<T> forward(const Var<T>& x) { return last.forward(dropout.forward(first.forward(x))); }
};

template <class T, class Optim, class Options> struct Run {
    Net<T> net;
    Optim optimizer;
    Tensor<T> x = Tensor<T>::zeros({6, 3}, device_under_test());
    Tensor<T> loss; // of the last step
    CapturedStep captured{device_under_test(), [this] { step(); }};

    explicit Run(const Options& options) : optimizer(there(), options) {}
    void step() {
        const Var<T> y = mse(net.forward(Var<T>(x)), Var<T>(Tensor<T>::ones({6, 2}, device_under_test())));
        net.clear_grad();
        y.backward();
        optimizer.step();
        loss = y.value();
    }
    void load(int step) { x.copy_from(random_tensor<T>({6, 3}, join_text("step ", step).c_str())); }

private:
    const Net<T>& there() {
        net.to(device_under_test());
        return net;
    }
};

template <class A, class B> void check_same(const A& a, const B& b) {
    for (const auto& [name, var] : a.parameters()) CHECK(same_bits(var.value(), b.find(name).value()));
    for (const auto& [name, var] : b.buffers()) CHECK(same_bits(var.value(), a.find(name).value()));
}

template <class T, class Optim, class Options> void check_run(const Options& options) {
    Run<T, Optim, Options> plain(options), replayed(options);
    for (int step = 0; step < 5; ++step) {
        const double rate = 0.1 / (1 + step);
        for (auto* const run : {&plain, &replayed}) {
            run->load(step);
            run->optimizer.set_learning_rate(rate);
        }
        plain.step();
        replayed.captured();
        CHECK(replayed.captured.is_captured() == (on_gpu() && step > 0));
        CHECK(same_bits(plain.loss, replayed.loss));
        CHECK(replayed.optimizer.steps() == step + 1);
        check_same(plain.net, replayed.net);
    }
    CHECK(replayed.net.find("dropout.calls").item() == 5);
}

} // namespace

TEST_CASE_TEMPLATE("CapturedStep: learning rate, counters and random numbers move", T, float, double) {
    check_run<T, Sgd<T>>(SgdOptions{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-3});
    check_run<T, Sgd<T>>(SgdOptions{.learning_rate = 0.1});
    check_run<T, Adam<T>>(AdamOptions{.form = DecayForm::decoupled, .weight_decay = 0.1});
}

namespace {

struct Pruned {
    models::ResNet<float> model{8, {.classes = 3, .seed = 1}};
    Sgd<float> optimizer;
    FeatureFlow flow{{.gradient = 0.1, .curvature = 0.1}, 3};
    Tensor<float> images = Tensor<float>::zeros({4, 8, 8, 3}, device_under_test());
    Tensor<Index> labels = Tensor<Index>::from({4}, {0, 2, 1, 0}, device_under_test());
    Index done = 0;
    float loss = 0;

    Pruned() : optimizer(there(), {.learning_rate = 0.05, .momentum = 0.9}) {}
    void step() {
        const auto out = model.forward(Var<float>(images));
        const auto y = cross_entropy(out.logits, labels) + flow(out.flow, done);
        model.clear_grad();
        y.backward();
        optimizer.step();
    }
    void prune() {
        const auto plan = pruning::plan(model, {8, 8, 3}, {.keep_macs = 0.5});
        pruning::apply(plan, model, &optimizer);
    }

private:
    models::ResNet<float>& there() {
        model.to(device_under_test());
        return model;
    }
};

} // namespace

TEST_CASE("CapturedStep: a penalty that warms up and surgery between steps are followed") {
    Pruned plain, replayed;
    CapturedStep captured(device_under_test(), [&] { replayed.step(); });
    for (Index step = 0; step < 9; ++step) {
        plain.done = replayed.done = step;
        if (step == 6) {
            CHECK(captured.is_captured() == on_gpu());
            plain.prune();
            replayed.prune();
            CHECK_FALSE(captured.is_captured()); // what it knows by address is gone
        }
        for (Pruned* const run : {&plain, &replayed})
            run->images.copy_from(random_tensor<float>({4, 8, 8, 3}, join_text("step ", step).c_str()));
        plain.step();
        captured();
        CHECK(captured.is_captured() == (on_gpu() && (step == 4 || step == 5 || step >= 7))); // warm from step 3 on
        check_same(plain.model, replayed.model);
    }
}

namespace {

// A step of the network above, its averages and masks with it.
struct Averaged : Run<float, Sgd<float>, SgdOptions> {
    Ema<float> averages;
    Masks<float> masks{net};

    Averaged(const SgdOptions& sgd, const EmaOptions& ema) : Run(sgd), averages(net, ema) { mask(0); }
    void mask(Index entry) {
        const NamedVar<float> of{"first.weight", net.find("first.weight")};
        std::vector<Mask<float>> more{{of, Tensor<std::uint8_t>::ones(of.var.shape())}};
        more[0].kept.mutable_data()[entry] = 0;
        masks.add(more);
    }
    void step_all() {
        step();
        masks.apply(optimizer);
        averages.update();
    }
    std::vector<float> average() {
        const EmaScope<float> scope(averages);
        return net.find("first.weight").value().to_vector();
    }
};

} // namespace

TEST_CASE("CapturedStep: averages that ramp and are exchanged, and masks that are added, are followed") {
    const SgdOptions sgd{.learning_rate = 0.1, .momentum = 0.9};
    const EmaOptions ema{.decay = 0.3, .start = EmaStart::ramped}; // until the third update
    Averaged plain(sgd, ema), replayed(sgd, ema);
    CapturedStep captured(device_under_test(), [&] { replayed.step_all(); });
    for (int step = 0; step < 12; ++step) {
        for (Averaged* const run : {&plain, &replayed}) {
            run->load(step);
            if (step == 9) run->mask(5);
        }
        if (step == 9) CHECK_FALSE(captured.is_captured());
        plain.step_all();
        captured();
        CHECK(captured.is_captured() == (on_gpu() && (step == 4 || step == 5 || step == 7 || step == 8 || step >= 10)));
        check_same(plain.net, replayed.net);
        if (step == 5) { // into the module and back: every variable has another memory in between
            CHECK(plain.average() == replayed.average());
            CHECK_FALSE(captured.is_captured());
        }
    }
    const auto weight = replayed.net.find("first.weight").value().to_vector();
    CHECK(weight[0] == 0);
    CHECK(weight[5] == 0);
    CHECK(plain.average() == replayed.average());
    CHECK(plain.average() != weight);
}

namespace {

// Three epochs of two batches and a smaller one, with surgery between two calls of `run`; the losses of all steps.
std::vector<double> train(Capture capture, bool clips, models::Cnn<float>& model, int& calls) {
    model.to(device_under_test());
    Sgd<float> optimizer(model, {.momentum = 0.9});
    const FeatureFlow flow({.gradient = 0.1, .curvature = 0.1}, 1);
    std::vector<double> losses;
    TrainerOptions<float> options{
        .epochs = 3,
        .schedule = [](Index step) { return 0.05 / static_cast<double>(1 + step); },
        .capture = capture,
        .regularizer = [&](const models::Output<float>& out, Index step) { return ++calls, flow(out.flow, step); },
        .after_step = {[&](const Progress& progress) { losses.push_back(progress.last.total); }},
    };
    if (clips) options.before_step = {[&](const Progress&) { clip_gradient_norm(model.parameters(), 0.5); }};
    Trainer<float> trainer(model, optimizer, options);
    const Loader<float> loader(data::synthetic({.count = 10, .channels = 3, .classes = 3, .seed = 1}),
                               {.size = 4, .prefetch = 0, .seed = 5});
    trainer.run(loader);
    pruning::apply(pruning::plan(model, {8, 8, 3}, {.keep_macs = 0.6}), model, &optimizer);
    trainer.resume({});
    trainer.run(loader);
    return losses;
}

} // namespace

TEST_CASE("Trainer: captured steps have the bits of those that are not") {
    for (const bool clips : {false, true}) {
        const models::Options narrow{.classes = 3, .seed = 1, .widths = {8, 8, 12, 12}}; // an emulated GPU is slow
        models::Cnn<float> plain(narrow), captured(narrow);
        int calls = 0, calls_of_captured = 0;
        const auto losses = train(Capture::none, clips, plain, calls);
        CHECK(losses.size() == 18);
        CHECK(calls == 18);
        CHECK(train(Capture::steps, clips, captured, calls_of_captured) == losses);
        CHECK(calls_of_captured == (on_gpu() ? 12 : 18)); // of each nine, three are replayed
        check_same(plain, captured);
    }
}

TEST_CASE("CapturedStep: gradients are those of the last replay, whatever came between") {
    auto w = parameter(Tensor<float>::ones({2}, device_under_test()));
    Var<float> x(Tensor<float>::zeros({2}, device_under_test()));
    const auto step = [&] {
        w.clear_grad();
        mul(w, x).backward(Tensor<float>::ones({2}, device_under_test()));
    };
    CapturedStep captured(device_under_test(), step);
    for (int call = 0; call < 4; ++call) {
        x.mutable_value().fill(static_cast<float>(call));
        captured();
        CHECK(w.grad().at(1) == static_cast<float>(call));
        x.mutable_value().fill(-1);
        step();
        CHECK(w.grad().at(1) == -1);
    }
}

TEST_CASE("CapturedStep: gradients of convolutions, side by side in each replay") {
    MemoryPool& pool = MemoryPool::instance(device_under_test());
    const std::size_t before = pool.bytes_in_use();
    {
        const auto w = parameter_on_device(random_tensor<float>({6, 3, 3, 4}, "w"));
        const auto v = parameter_on_device(random_tensor<float>({6, 3, 3, 1}, "v"));
        const auto x = parameter_on_device(random_tensor<float>({3, 7, 6, 4}));
        const auto step = [&] {
            for (const auto& leaf : {w, v, x}) leaf.node()->clear_grad();
            const auto y = conv2d(conv2d(x, w, {.padding = 1}), v, {.stride = 2, .groups = 6});
            mse(y, Var<float>(Tensor<float>::ones(y.shape(), y.device()))).backward();
        };
        CapturedStep captured(device_under_test(), step);
        for (int call = 0; call < 4; ++call) {
            Tensor<float> images = x.value();
            images.copy_from(random_tensor<float>(x.shape(), join_text("call ", call).c_str()));
            step();
            std::vector<Tensor<float>> expected;
            for (const auto& leaf : {w, v, x}) expected.push_back(leaf.grad().clone());
            captured();
            CHECK(same_bits(w.grad(), expected[0]));
            CHECK(same_bits(v.grad(), expected[1]));
            CHECK(same_bits(x.grad(), expected[2]));
        }
    }
    CHECK(pool.bytes_in_use() == before);
}

TEST_CASE("CapturedStep: a number that holds for a while is computed anew when it has changed") {
    Tensor<float> x = Tensor<float>::zeros({1}, device_under_test());
    int step = 0, calls = 0;
    CapturedStep captured(device_under_test(), [&] {
        ++calls;
        holds_for(3 - step % 3);
        dispatch(x.device(), [&](auto on) { kernels::increase(on, static_cast<float>(step / 3), mutable_flat(x)); });
    });
    float expected = 0;
    for (; step < 12; ++step) {
        captured();
        expected += static_cast<float>(step / 3);
        CHECK(x.item() == expected);
    }
    CHECK(calls == (on_gpu() ? 8 : 12)); // for each of four numbers as it is, then recorded, then replayed
}

TEST_CASE("CapturedStep: replays leave memory that others took alone, and give back their own at the end") {
    MemoryPool& pool = MemoryPool::instance(device_under_test());
    const std::size_t before = pool.bytes_in_use();
    {
        std::optional<Tensor<float>> x = random_tensor<float>({1000}).to(device_under_test());
        Tensor<float> y;
        CapturedStep captured(device_under_test(), [&] {
            Tensor<float> sum = x->clone();
            for (int i = 0; i < 3; ++i) {
                const Tensor<float> next = sum.clone();
                dispatch(next.device(), [&](auto on) { kernels::accumulate(on, flat(next), mutable_flat(sum)); });
            }
            y = sum;
        });
        captured();
        captured();
        std::vector<Tensor<float>> others; // as large as what the step takes and gives back
        for (int i = 0; i < 8; ++i) others.push_back(Tensor<float>::full({1000}, static_cast<float>(i), x->device()));
        captured();
        for (int i = 0; i < 8; ++i)
            CHECK(others[static_cast<std::size_t>(i)].to_vector() == std::vector<float>(1000, static_cast<float>(i)));
        CHECK(y.at(7) == 8 * x->at(7));
    }
    CHECK(pool.bytes_in_use() == before);
}

TEST_CASE("CapturedStep: what a replay can't do is an error, and the step works on after it") {
    Tensor<float> x = Tensor<float>::ones({2}, device_under_test()), y = x.clone();
    std::function<void()> also = [] {};
    CapturedStep captured(device_under_test(), [&] {
        dispatch(x.device(), [&](auto on) { kernels::increase(on, 1.0f, mutable_flat(x)); });
        also();
    });
    captured();
    CHECK(x.at(0) == 2);
    if (!on_gpu()) return;
    const auto fails = [&](std::function<void()> f, const char* text) {
        also = std::move(f);
        const auto before = x.to_vector();
        CHECK_THROWS_WITH_AS(captured(), doctest::Contains(text), StateError);
        CHECK_FALSE(is_recording());
        CHECK(x.to_vector() == before);
        also = [] {};
        captured(); // as it is
        captured.reset();
        captured();
        CHECK(x.at(1) == before[1] + 2);
    };
    fails([&] { x.at(0); },
          "Tensor: copy between devices: expected to be called outside of a step that is being recorded");
    fails([&] { x.copy_from(Tensor<float>::zeros({2})); }, "Tensor: copy between devices");
#if ESPALIER_CUDA
    fails([] { synchronise(); }, "synchronise: expected to be called outside");
#endif
    fails([] { throw StateError("of the user"); }, "of the user");
    const auto bump = [&] { dispatch(y.device(), [&](auto on) { kernels::increase(on, 1.0f, mutable_flat(y)); }); };
    const auto bump_and_throw = [&] {
        bump();
        throw StateError("beside another");
    };
    fails([&] { side_by_side(x.device(), bump, bump_and_throw); }, "beside another");
    fails([&] { side_by_side(x.device(), bump_and_throw, bump); }, "beside another");
    auto w = parameter(Tensor<float>::ones({2}, device_under_test()));
    Sgd<float> optimizer(std::vector<NamedVar<float>>{{"w", w}}, {.learning_rate = 0.1});
    fails([&] { optimizer.set_learning_rate(0.2); }, "Optimizer::set_learning_rate: expected to be called outside");
    CHECK(optimizer.learning_rate() == 0.1);
    const Index steps = optimizer.steps();
    fails([&] { optimizer.step(), throw StateError("after an update"); }, "after an update");
    CHECK(optimizer.steps() == steps); // nothing of the step has happened, so nothing is counted
}

TEST_CASE("CapturedStep: what other threads do meanwhile is not recorded") {
    Tensor<float> x = Tensor<float>::ones({2}, device_under_test()), other = x.clone();
    int calls = 0;
    CapturedStep captured(device_under_test(), [&] {
        ++calls;
        std::thread([&] {
            dispatch(other.device(), [&](auto on) { kernels::increase(on, 1.0f, mutable_flat(other)); });
            CHECK(other.at(1) == static_cast<float>(1 + calls)); // done by now, though it is no part of the recording
        }).join();
        dispatch(x.device(), [&](auto on) { kernels::increase(on, 1.0f, mutable_flat(x)); });
    });
    for (int call = 0; call < 4; ++call) captured();
    CHECK(calls == (on_gpu() ? 2 : 4));
    CHECK(x.at(0) == 5);
    CHECK(other.at(0) == static_cast<float>(1 + calls));
}

TEST_CASE("CapturedStep: another path or precision is not what was recorded") {
    const auto x = on_device(random_tensor<float>({8, 64})), w = on_device(random_tensor<float>({16, 64}, "w"));
    Tensor<float> y;
    CapturedStep captured(device_under_test(), [&] { y = linear(x, w).value(); });
    const auto expected = [&] { return linear(x, w).value(); };
    for (int call = 0; call < 3; ++call) captured();
    CHECK(captured.is_captured() == on_gpu());
    for (int call = 0; call < 3; ++call) {
        const MatmulPrecisionScope precision(MatmulPrecision::bf16);
        CHECK(captured.is_captured() == (on_gpu() && call > 1));
        captured();
        CHECK(same_bits(y, expected()));
    }
    for (int call = 0; call < 3; ++call) {
        const PathScope path(Path::fixed_order);
        captured();
        CHECK(same_bits(y, expected()));
    }
    captured();
    CHECK(same_bits(y, expected()));
}

TEST_CASE("Tensor::copy_from: the same memory, other elements; another shape is an error") {
    Tensor<float> x = Tensor<float>::zeros({2, 3}, device_under_test());
    const Tensor<float> handle = x;
    const auto from = random_tensor<float>({2, 3});
    x.copy_from(from);
    CHECK(same_bits(handle, from));
    x.copy_from(Tensor<float>::ones({2, 3}, device_under_test()));
    CHECK(handle.at(1, 2) == 1);
    CHECK_THROWS_WITH_AS(x.copy_from(Tensor<float>::ones({3, 2})),
                         "Tensor::copy_from: expected a tensor [2,3], got [3,2]", ShapeError);
}
