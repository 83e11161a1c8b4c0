#include "networks.hpp"

#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/train/adam.hpp>
#include <espalier/train/ema.hpp>
#include <espalier/train/sgd.hpp>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;

namespace {

const Shape image{4, 4, 3};

/// The example of the contract, which also counts.
struct Importance {
    Var<float> of;
    Tensor<float> scores;
    int prepared = 0, committed = 0;
    Commit prepare(const std::vector<Cut<float>>& cuts) {
        ++prepared;
        return [this, next = follow("Importance", cuts, "scores", of, scores)]() mutable noexcept {
            scores = std::move(next);
            ++committed;
        };
    }
};

/// Is never ready.
struct Failing {
    Commit prepare(const std::vector<Cut<float>>& cuts) {
        REQUIRE(!cuts.empty());
        CHECK(cuts[0].parameter.size(cuts[0].axis) < cuts[0].extent); // the variables are already cut
        throw StateError("no room");
    }
};

/// A network with an optimizer and averages that have a past.
template <class Kind> struct Run {
    Residual<float> model;
    Kind optimizer;
    Ema<float> averages;

    template <class Options>
    explicit Run(const Options& options) : optimizer(shaken(model), options), averages(model, {.decay = 0.5}) {
        step();
        step();
    }
    void step() {
        model.clear_grad();
        const Var<float> y = model.forward(Var<float>(random_tensor<float>({2, 4, 4, 3}, "images")));
        y.backward(random_tensor<float>(y.shape(), "dy"));
        optimizer.step();
        averages.update();
    }
    /// Everything that surgery may touch, by name; in memory of its own.
    std::vector<std::pair<std::string, Tensor<float>>> state() const {
        std::vector<std::pair<std::string, Tensor<float>>> all;
        for (const auto& list : {model.parameters(), model.buffers()})
            for (const auto& [name, var] : list) all.emplace_back(name, var.value().clone());
        for (const auto& [name, join] : model.joins()) {
            Tensor<float>& kept = all.emplace_back(name, Tensor<float>({Index(join->kept.size())})).second;
            for (Index i = 0; i < kept.size(); ++i) kept.set(static_cast<float>(join->kept[std::size_t(i)]), i);
        }
        TensorFile file;
        optimizer.save(file, "optimizer.");
        averages.save(file, "averages.");
        for (const auto& [name, var] : model.parameters()) {
            const std::string average = "averages.average." + name;
            all.emplace_back(average, file.get<float>(average).clone());
            for (const char* of : {"momentum.", "mean.", "square."})
                if (const std::string key = "optimizer." + (of + name); file.contains(key))
                    all.emplace_back(key, file.get<float>(key).clone());
        }
        return all;
    }

private:
    static const Module<float>& shaken(const Module<float>& model) {
        shake(model);
        return model;
    }
};

template <class State> void check_same(const State& a, const State& b) {
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
        CHECK(a[i].first == b[i].first);
        CHECK_MESSAGE(same_bits(a[i].second, b[i].second), a[i].first);
    }
}

template <class M> pruning::Plan half(M& model, Joins joins) {
    return pruning::plan(model, image, {.criterion = RandomScore{}, .keep_channels = 0.5, .joins = joins});
}

template <class Kind, class Options> void check_all_or_nothing(const Options& options) {
    for (const Joins joins : {Joins::coupled, Joins::indexed}) {
        Run<Kind> run(options), untouched(options);
        const pruning::Plan plan = half(run.model, joins);
        const auto before = run.state();
        const Tensor<float> shared = run.model.stem.conv.weight.value(); // somebody else's handle of the same memory
        Failing failing;
        const auto fails = [&](auto*... followers) {
            CHECK_THROWS_WITH_AS(pruning::apply(plan, run.model, followers...), "no room", StateError);
            check_same(run.state(), before);
        };
        fails(&failing);
        fails(&run.optimizer, &run.averages, &failing);
        fails(&run.averages, &failing, &run.optimizer);
        fails(&failing, &run.optimizer, &run.averages);
        CHECK(run.model.stem.conv.weight.value().shares_memory(shared));
        for (int n = 0; n < 2; ++n) { // as if nothing had been tried
            run.step();
            untouched.step();
        }
        check_same(run.state(), untouched.state());

        CHECK(pruning::apply(plan, run.model, &run.optimizer, &run.averages).certificate.holds());
        CHECK(pruning::apply(plan, untouched.model, &untouched.averages, &untouched.optimizer).certificate.holds());
        check_same(run.state(), untouched.state()); // their order does not matter
        for (Run<Kind>* const each : {&run, &untouched}) each->step();
        check_same(run.state(), untouched.state());
    }
}

template <class F, class T> constexpr bool follows = Follower<F, T>;

} // namespace

TEST_CASE("follower: one that fails leaves model, optimizer and averages as they were, and usable") {
    check_all_or_nothing<Sgd<float>>(SgdOptions{.learning_rate = 0.01, .momentum = 0.9});
    check_all_or_nothing<Adam<float>>(AdamOptions{.learning_rate = 0.01});
}

TEST_CASE("follower: averages that are in the module keep surgery from beginning to cut anything") {
    Run<Sgd<float>> run(SgdOptions{.learning_rate = 0.01, .momentum = 0.9});
    const pruning::Plan plan = half(run.model, Joins::coupled);
    const auto before = run.state();
    {
        const EmaScope<float> scope(run.averages);
        CHECK_THROWS_WITH_AS(pruning::apply(plan, run.model, &run.optimizer, &run.averages),
                             doctest::Contains("Ema::prepare: expected the averages beside the module"), StateError);
    }
    check_same(run.state(), before);
}

TEST_CASE("follower: one of your own") {
    Chain<float> model;
    shake(model);
    Importance importance{model.a.conv.weight, model.a.conv.weight.value().clone()};
    Importance strange{model.b.weight, Tensor<float>::zeros({2})};
    const pruning::Plan plan = half(model, Joins::coupled);
    CHECK_THROWS_WITH_AS(pruning::apply(plan, model, &importance, &strange),
                         doctest::Contains("Importance: expected state of extent"), StateError);
    CHECK(importance.prepared == 1);
    CHECK(importance.committed == 0);
    CHECK(importance.scores.shape() == model.a.conv.weight.shape());
    pruning::apply(plan, model, &importance);
    CHECK(importance.committed == 1);
    CHECK(model.a.conv.weight.size(0) < 8);
    CHECK(same_bits(importance.scores, model.a.conv.weight.value()));
}

TEST_CASE("follower: the commit that is not called changes nothing; one that may throw does not compile") {
    Var<float> weight = parameter(Tensor<float>::ones({3}));
    Importance importance{weight, Tensor<float>::ones({3})};
    weight.set_value(Tensor<float>::ones({2}));
    const std::vector<Cut<float>> cuts{{"weight", weight, 0, 3, {0, 2}}};
    { const Commit dropped = importance.prepare(cuts); }
    CHECK(importance.scores.shape() == Shape{3});
    importance.prepare(cuts)();
    CHECK(importance.scores.shape() == Shape{2});

    struct Other {};
    const auto safe = []() noexcept {};
    const auto unsafe = [] {};
    CHECK(std::is_constructible_v<Commit, decltype(safe)>);
    CHECK_FALSE(std::is_constructible_v<Commit, decltype(unsafe)>);
    CHECK(follows<Importance, float>);
    CHECK(follows<Sgd<double>, double>);
    CHECK_FALSE(follows<Sgd<double>, float>);
    CHECK_FALSE(follows<Other, float>);
}
