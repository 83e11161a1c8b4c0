#include "networks.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/pruning/lineage.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/train/sgd.hpp>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;
using pruning::Lineage;
using Key = Lineage::Key;

namespace {

const Shape image{4, 4, 3};

template <class M> Tensor<typename M::Scalar> logits(M& model, const Shape& of = image) {
    using T = typename M::Scalar;
    const NoGrad no_grad;
    const ModeScope<T> mode(model, Mode::inference);
    return network(model).forward(Var<T>(random_tensor<T>(batch_of(3, of), "images"))).value();
}

/// Parameters, buffers and joins are the same bits.
template <class T> void check_same_state(const Module<T>& a, const Module<T>& b) {
    const auto compare = [](const auto& left, const auto& right) {
        REQUIRE(left.size() == right.size());
        for (std::size_t i = 0; i < left.size(); ++i) {
            INFO(left[i].name);
            CHECK(same_bits(left[i].var.value(), right[i].var.value()));
        }
    };
    compare(a.parameters(), b.parameters());
    compare(a.buffers(), b.buffers());
    for (std::size_t i = 0; i < a.joins().size(); ++i) CHECK(a.joins()[i].join->kept == b.joins()[i].join->kept);
}

/// Cuts a quarter of the channels twice, with scores that the first cut does not know of, and then a network of the
/// same weights at once, by the lineage of both cuts.
template <class M>
void check_two_cuts_are_one(M& twice, M& once, const std::vector<Joins>& cuts, Joins joins, const Shape& of = image) {
    shake(twice);
    shake(once);
    Lineage lineage;
    for (std::uint64_t seed = 0; seed < cuts.size(); ++seed)
        pruning::apply(
            pruning::plan(twice, of, {.criterion = RandomScore{seed}, .keep_channels = 0.75, .joins = cuts[seed]}),
            twice, &lineage);
    const auto plan = pruning::plan(once, of, lineage);
    CHECK(plan.joins == joins);
    CHECK(plan.after == cost(twice, of));
    Lineage of_one;
    const auto cut = pruning::apply(plan, once, &of_one);
    CHECK(cut.certificate.holds());
    CHECK(of_one == lineage);
    check_same_state(twice, once);
    CHECK(same_bits(logits(twice, of), logits(once, of)));
}

} // namespace

TEST_CASE_TEMPLATE("lineage: two cuts in a row are the one combined cut", T, float, double) {
    SUBCASE("chain") {
        Chain<T> twice, once;
        check_two_cuts_are_one(twice, once, {Joins::coupled, Joins::coupled}, Joins::coupled);
    }
    SUBCASE("residual stream") {
        Residual<T> twice, once;
        check_two_cuts_are_one(twice, once, {Joins::coupled, Joins::coupled}, Joins::coupled);
    }
    SUBCASE("indexed joins") {
        Residual<T> twice, once;
        check_two_cuts_are_one(twice, once, {Joins::indexed, Joins::indexed}, Joins::indexed);
    }
    SUBCASE("streams and branches") {
        Residual<T> twice, once;
        check_two_cuts_are_one(twice, once, {Joins::indexed, Joins::coupled}, Joins::mixed);
    }
    SUBCASE("mixed joins") {
        auto twice = models::resnet20<T>({.seed = 1}), once = models::resnet20<T>({.seed = 1});
        check_two_cuts_are_one(twice, once, {Joins::mixed, Joins::mixed}, Joins::mixed, {8, 8, 3});
    }
    SUBCASE("concats") {
        Concats<T> twice, once;
        check_two_cuts_are_one(twice, once, {Joins::coupled, Joins::coupled}, Joins::coupled);
    }
    SUBCASE("depthwise") {
        Depthwise<T> twice, once;
        check_two_cuts_are_one(twice, once, {Joins::coupled, Joins::coupled}, Joins::coupled);
    }
    SUBCASE("flattened maps") {
        Flattened<T> twice, once;
        check_two_cuts_are_one(twice, once, {Joins::coupled, Joins::coupled}, Joins::coupled);
    }
    SUBCASE("option A") {
        auto twice = models::resnet20<T>({.seed = 1}), once = models::resnet20<T>({.seed = 1});
        check_two_cuts_are_one(twice, once, {Joins::coupled, Joins::coupled}, Joins::coupled, {8, 8, 3});
    }
    SUBCASE("option A, indexed") {
        auto twice = models::resnet20<T>({.seed = 1}), once = models::resnet20<T>({.seed = 1});
        check_two_cuts_are_one(twice, once, {Joins::indexed, Joins::indexed}, Joins::indexed, {8, 8, 3});
    }
}

TEST_CASE("lineage: indices are relative to the first network") {
    Chain<float> m;
    shake(m);
    Lineage lineage;
    const auto keep = [&](std::vector<Index> kept) {
        auto plan = pruning::plan(m, image, {.criterion = RandomScore{}, .keep_channels = 0.5});
        for (auto& group : plan.groups) {
            group.kept.clear();
            for (Index c = 0; c < group.width; ++c) group.kept.push_back(c);
        }
        plan.group("a.conv").kept = std::move(kept);
        pruning::apply(plan, m, &lineage);
    };
    keep({1, 2, 4, 6, 7}); // of 8
    keep({0, 2, 4});       // of those 5
    const Lineage::Axis wanted{8, {1, 4, 7}};
    CHECK(lineage.axes().at({"a.conv.weight", 0}) == wanted);
    CHECK(lineage.axes().at({"a.bn.running_var", 0}) == wanted);
    CHECK(lineage.axes().at({"b.weight", 3}) == wanted);
    CHECK(lineage.axes().count({"b.weight", 0}) == 0); // nothing is gone
}

TEST_CASE("lineage: other weights are cut as these were, training between the cuts or not") {
    Residual<float> initial, trained;
    shake(initial);
    shake(trained);
    Lineage lineage;
    Sgd<float> optimizer(trained, {.learning_rate = 0.1, .momentum = 0.9});
    for (const std::uint64_t seed : {3u, 4u}) {
        trained.clear_grad();
        const auto y = trained.forward(Var<float>(random_tensor<float>({3, 4, 4, 3}, "x")));
        sum(mul(y, y)).backward();
        optimizer.step();
        pruning::apply(pruning::plan(trained, image, {.criterion = RandomScore{seed}, .keep_channels = 0.8}), trained,
                       &optimizer, &lineage);
    }
    std::map<std::string, Tensor<float>> full;
    for (const auto& [name, var] : initial.parameters()) full[name] = var.value();
    pruning::apply(pruning::plan(initial, image, lineage), initial);
    for (const auto& [key, var] : initial.parameters()) {
        const std::string name = key; // which a lambda may capture
        INFO(name);
        CHECK(var.shape() == trained.find(name).shape());
        Tensor<float> expected = full[name];
        for (int axis = 0; axis < var.rank(); ++axis)
            if (const auto it = lineage.axes().find({name, axis}); it != lineage.axes().end())
                expected = take(expected, axis, it->second.kept);
        CHECK(same_bits(var.value(), expected));
    }
}

TEST_CASE("lineage: a branch that died is dead in the replay") {
    Residual<float> twice, once;
    shake(twice);
    shake(once);
    auto plan =
        pruning::plan(twice, image, {.criterion = RandomScore{}, .keep_channels = 0.9, .joins = Joins::indexed});
    plan.group("two.b.conv").kept.clear();
    Lineage lineage;
    pruning::apply(plan, twice, &lineage);
    CHECK(lineage.axes().at({"two.a.conv.weight", 0}).kept.empty());
    pruning::apply(pruning::plan(once, image, lineage), once);
    check_same_state(twice, once);
}

TEST_CASE("lineage: what does not fit is one error, and the network is as it was") {
    const auto unchanged = [](auto& model, const auto& f) {
        std::vector<Tensor<float>> before;
        for (const auto& [name, var] : model.parameters()) before.push_back(var.value().clone());
        f();
        std::size_t i = 0;
        for (const auto& [name, var] : model.parameters()) CHECK(same_bits(var.value(), before[i++]));
    };
    Residual<float> m;
    shake(m);
    Lineage lineage;
    CHECK_THROWS_WITH_AS(pruning::plan(m, image, lineage), doctest::Contains("got an empty one"), StateError);
    pruning::apply(pruning::plan(m, image, {.criterion = RandomScore{}, .keep_channels = 0.5}), m, &lineage);
    unchanged(m, [&] { // is cut already
        CHECK_THROWS_WITH_AS(pruning::plan(m, image, lineage), doctest::Contains("as before the cuts, of extent 8"),
                             StateError);
    });
    Chain<float> other;
    unchanged(other, [&] {
        CHECK_THROWS_WITH_AS(pruning::plan(other, image, lineage),
                             doctest::Contains("'head.weight' as before the cuts"), StateError);
    });
    Residual<float> fresh;
    unchanged(fresh, [&] { // half a channel
        Lineage torn = lineage;
        torn.set({"three.b.conv.weight", 0}, {8, {0}});
        CHECK_THROWS_WITH_AS(pruning::plan(fresh, image, torn),
                             doctest::Contains("expected a lineage that cuts whole channels"), StateError);
    });
    unchanged(fresh, [&] { // the classes
        Lineage classes;
        classes.set({"head.weight", 0}, {4, {0, 1}});
        CHECK_THROWS_WITH_AS(pruning::plan(fresh, image, classes), doctest::Contains("axis 0 of 'head.weight'"),
                             StateError);
    });
}

TEST_CASE("lineage: a cut that it did not see, or that failed, is not forgotten") {
    Chain<float> m;
    Lineage missed, lineage;
    const auto cut = [&](std::uint64_t seed, auto*... followers) {
        pruning::apply(pruning::plan(m, image, {.criterion = RandomScore{seed}, .keep_channels = 0.7}), m,
                       followers...);
    };
    cut(1, &missed, &lineage);
    cut(2, &lineage);
    const Lineage before = lineage, before_missed = missed;
    const Index parameters = m.parameter_count();
    CHECK_THROWS_WITH_AS(cut(3, &lineage, &missed), doctest::Contains("a cut before it was not followed"), StateError);
    CHECK(lineage == before);
    CHECK(missed == before_missed);
    CHECK(m.parameter_count() == parameters);
}

TEST_CASE("lineage: entries that do not rise or are outside are an error") {
    Lineage lineage;
    for (const std::vector<Index>& kept : {std::vector<Index>{0, 0}, {1, 0}, {-1}, {4}})
        CHECK_THROWS_WITH_AS(lineage.set({"w", 0}, {4, kept}), doctest::Contains("rising entries below 4"), StateError);
    CHECK(lineage.axes().empty());
}
