#include "support/check.hpp"

#include <espalier/train/adam.hpp>
#include <espalier/train/sgd.hpp>

#include <cmath>
#include <memory>

using namespace espalier;
using namespace espalier::test;

namespace {

template <class T> std::vector<NamedVar<T>> network(Index filters, Index inputs) {
    return {{"conv.weight", parameter(random_tensor<T>({filters, 3, 3, inputs}, "weight"))},
            {"conv.bias", parameter(random_tensor<T>({filters}, "bias"))}};
}
template <class T> std::vector<Tensor<T>> gradients(const std::vector<NamedVar<T>>& parameters, const char* seed) {
    std::vector<Tensor<T>> all;
    for (const auto& [name, var] : parameters) all.push_back(random_tensor<T>(var.shape(), (seed + name).c_str()));
    return all;
}
template <class T>
void step(Optimizer<T>& optimizer, const std::vector<NamedVar<T>>& parameters, const std::vector<Tensor<T>>& g) {
    optimizer.clear_grad();
    for (std::size_t i = 0; i < g.size(); ++i) parameters[i].var.node()->add_grad(g[i]);
    optimizer.step();
}

template <class T> std::vector<std::unique_ptr<Optimizer<T>>> all_kinds(const std::vector<NamedVar<T>>& parameters) {
    std::vector<std::unique_ptr<Optimizer<T>>> all;
    all.push_back(std::make_unique<Sgd<T>>(
        parameters,
        SgdOptions{.learning_rate = 0.1, .momentum = 0.9, .form = Momentum::nesterov, .weight_decay = 0.01}));
    for (const DecayForm form : {DecayForm::gradient, DecayForm::decoupled})
        all.push_back(std::make_unique<Adam<T>>(parameters, AdamOptions{.form = form, .weight_decay = 0.01}));
    return all;
}

const std::vector<Index> kept_filters{0, 2, 3}, kept_inputs{1, 4};

/// What surgery does: slices the parameters and says so.
template <class T> std::vector<Cut<T>> cut(std::vector<NamedVar<T>>& parameters) {
    Var<T>&weight = parameters[0].var, &bias = parameters[1].var;
    const std::vector<Cut<T>> cuts{{"conv.weight", weight, 0, weight.size(0), kept_filters},
                                   {"conv.weight", weight, 3, weight.size(3), kept_inputs},
                                   {"conv.bias", bias, 0, bias.size(0), kept_filters},
                                   {"running_mean", Var<T>(Tensor<T>::zeros({3})), 0, 5, kept_filters}};
    weight.set_value(take(take(weight.value(), 0, kept_filters), 3, kept_inputs));
    bias.set_value(take(bias.value(), 0, kept_filters));
    return cuts;
}

} // namespace

TEST_CASE_TEMPLATE("optimizer: after surgery the step is that of a network that had been small all along", T, float,
                   double) {
    for (std::size_t kind = 0; kind < 3; ++kind) {
        auto large = network<T>(5, 6);
        auto small = network<T>(5, 6);
        cut(small);
        const auto of_large = std::move(all_kinds(large)[kind]), of_small = std::move(all_kinds(small)[kind]);
        const auto sliced = [](std::vector<Tensor<T>> g) {
            return std::vector<Tensor<T>>{take(take(g[0], 0, kept_filters), 3, kept_inputs),
                                          take(g[1], 0, kept_filters)};
        };
        for (const char* seed : {"a", "b"}) {
            const auto g = gradients(large, seed);
            step(*of_large, large, g);
            step(*of_small, small, sliced(g));
        }
        of_large->prepare(cut(large))();
        const auto g = gradients(small, "c");
        step(*of_large, large, g);
        step(*of_small, small, g);
        for (std::size_t i = 0; i < 2; ++i) CHECK(same_bits(large[i].var.value(), small[i].var.value()));
    }
}

TEST_CASE("optimizer: a step after surgery whose cuts were not applied changes nothing") {
    auto parameters = network<float>(5, 6);
    const auto optimizer = std::move(all_kinds(parameters)[0]);
    auto cuts = cut(parameters);
    const Tensor<float> before = parameters[0].var.value().clone();
    const auto g = gradients(parameters, "a");
    CHECK_THROWS_WITH_AS(
        step(*optimizer, parameters, g),
        "Optimizer::step: expected momentum [3,3,3,2] for 'conv.weight', got [5,3,3,6]; apply the cuts "
        "of surgery first",
        StateError);
    CHECK(optimizer->steps() == 0);
    CHECK(same_bits(parameters[0].var.value(), before));

    CHECK_THROWS_WITH_AS(optimizer->prepare({cuts[0]})(), doctest::Contains("cuts to [3,3,3,2]"), StateError);
    cuts[1].extent = 7;
    CHECK_THROWS_WITH_AS(optimizer->prepare(cuts)(), doctest::Contains("extent 7 along axis 3"), StateError);
    cuts[1].extent = 6;
    optimizer->prepare(cuts)(); // the failures before it left the state whole
    step(*optimizer, parameters, g);
    CHECK(optimizer->steps() == 1);
}

TEST_CASE("optimizer: a parameter that surgery made anew starts with state zero, and all may be cut away") {
    std::vector<NamedVar<double>> parameters{{"constant", parameter(Tensor<double>::zeros({0}))},
                                             {"weight", parameter(Tensor<double>::ones({2, 3}))}};
    Sgd<double> sgd(parameters, {.learning_rate = 1, .momentum = 0.5});
    step(sgd, parameters, {Tensor<double>::zeros({0}), Tensor<double>::ones({2, 3})});
    parameters[0].var.set_value(Tensor<double>::full({4}, 2));
    parameters[1].var.set_value(Tensor<double>::zeros({0, 3}));
    sgd.prepare({{"constant", parameters[0].var, -1, 0, {}}, {"weight", parameters[1].var, 0, 2, {}}})();
    step(sgd, parameters, {Tensor<double>::ones({4}), Tensor<double>::zeros({0, 3})});
    CHECK(parameters[0].var.value().to_vector() == std::vector<double>(4, 1));
}

TEST_CASE("optimizer: a parameter without a gradient is left alone, state too") {
    auto parameters = network<float>(2, 2);
    const auto optimizer = std::move(all_kinds(parameters)[0]);
    step(*optimizer, parameters, gradients(parameters, "a"));
    TensorFile before, after;
    optimizer->save(before, "");
    const Tensor<float> weight = parameters[0].var.value().clone(),
                        momentum = before.get<float>("momentum.conv.weight").clone();
    optimizer->clear_grad();
    optimizer->step();
    optimizer->save(after, "");
    CHECK(same_bits(parameters[0].var.value(), weight));
    CHECK(same_bits(after.get<float>("momentum.conv.weight"), momentum));
}

TEST_CASE_TEMPLATE("optimizer: saved state gives the same next step", T, float, double) {
    for (std::size_t kind = 0; kind < 3; ++kind) {
        auto one = network<T>(3, 2);
        const auto of_one = std::move(all_kinds(one)[kind]);
        for (const char* seed : {"a", "b"}) step(*of_one, one, gradients(one, seed));
        of_one->set_learning_rate(0.03);
        TensorFile file;
        of_one->save(file, "optimizer.");
        auto two = network<T>(3, 2);
        for (std::size_t i = 0; i < 2; ++i) two[i].var.set_value(one[i].var.value().clone());
        const auto of_two = std::move(all_kinds(two)[kind]);
        of_two->load(file, "optimizer.");
        CHECK(of_two->learning_rate() == 0.03);
        CHECK(of_two->steps() == 2);
        step(*of_one, one, gradients(one, "c"));
        step(*of_two, two, gradients(two, "c"));
        for (std::size_t i = 0; i < 2; ++i) CHECK(same_bits(one[i].var.value(), two[i].var.value()));
    }
}

TEST_CASE("optimizer: state of another kind or another shape is refused, with nothing changed") {
    auto parameters = network<float>(3, 2);
    const auto kinds = all_kinds(parameters);
    TensorFile file;
    kinds[0]->save(file, "o.");
    CHECK_THROWS_WITH_AS(kinds[1]->load(file, "o."), doctest::Contains("no o.mean.conv.weight"), StateError);
    auto wider = network<float>(3, 4);
    CHECK_THROWS_WITH_AS(all_kinds(wider)[0]->load(file, "o."),
                         doctest::Contains("'o.momentum.conv.weight' [3,3,3,4], got [3,3,3,2]"), StateError);
}

TEST_CASE("optimizer: a learning rate is a number of at least 0") {
    auto parameters = network<float>(3, 2);
    const auto kinds = all_kinds(parameters);
    const double before = kinds[0]->learning_rate();
    for (const double rate : {-0.1, HUGE_VAL, std::nan("")})
        CHECK_THROWS_WITH_AS(kinds[0]->set_learning_rate(rate), doctest::Contains("a learning rate of at least 0"),
                             ShapeError);
    CHECK(kinds[0]->learning_rate() == before);
    TensorFile file;
    kinds[0]->save(file, "o.");
    TensorFile forged;
    for (const auto& [name, tensor] : file.entries())
        forged.add(name, name == "o.learning_rate" ? AnyTensor(Tensor<double>::scalar(-1)) : tensor);
    CHECK_THROWS_WITH_AS(kinds[0]->load(forged, "o."), doctest::Contains("got -1"), ShapeError);
}
