#include "support/check.hpp"

#include <espalier/train/adam.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// Kingma & Ba's algorithm 1 with decay in the gradient, or Loshchilov & Hutter's algorithm 2, in plain loops.
template <class T> void check_five_steps(DecayForm form) {
    const AdamOptions by{
        .learning_rate = 0.05, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3, .form = form, .weight_decay = 0.1};
    Var<T> w = parameter_on_device(random_tensor<T>({3, 7}, "w"));
    std::vector<double> p = w.value().template cast<double>().to_vector(), m(p.size()), v(p.size());
    Adam<T> adam({{"w", w}}, by);
    for (int t = 1; t <= 5; ++t) {
        const Tensor<T> g = random_tensor<T>({3, 7}, std::to_string(t).c_str());
        adam.clear_grad();
        w.node()->add_grad(to_device(g));
        adam.step();
        for (std::size_t i = 0; i < p.size(); ++i) {
            const double before = p[i];
            double d = static_cast<double>(g.data()[i]);
            if (form == DecayForm::gradient) d += by.weight_decay * before;
            m[i] = by.beta1 * m[i] + (1 - by.beta1) * d;
            v[i] = by.beta2 * v[i] + (1 - by.beta2) * d * d;
            const double mean = m[i] / (1 - std::pow(by.beta1, t)), square = v[i] / (1 - std::pow(by.beta2, t));
            p[i] -= by.learning_rate * mean / (std::sqrt(square) + by.epsilon);
            if (form == DecayForm::decoupled) p[i] -= by.learning_rate * by.weight_decay * before;
        }
    }
    check_close(w.value(), Tensor<double>::from({3, 7}, p), 64); // five steps of about ten roundings each
}

} // namespace

TEST_CASE_TEMPLATE("adam: five steps with each form of weight decay are those of the algorithms", T, float, double) {
    check_five_steps<T>(DecayForm::gradient);
    check_five_steps<T>(DecayForm::decoupled);
}

TEST_CASE("adam: decoupled decay follows the learning rate and needs no gradient's size") {
    Var<double> w = parameter_on_device(Tensor<double>::full({1, 1}, 8)),
                b = parameter_on_device(Tensor<double>::full({1}, 8));
    Adam<double> adam(
        {{"w", w}, {"b", b}},
        {.learning_rate = 0.5, .form = DecayForm::decoupled, .weight_decay = 0.5, .decay = Decay::weights});
    for (auto* var : {&w, &b}) var->node()->add_grad(zeros_like(var->value()));
    adam.step();
    CHECK(w.item() == 6);
    CHECK(b.item() == 8);
    adam.set_learning_rate(1);
    adam.step();
    CHECK(w.item() == 3);
}

TEST_CASE("adam: the first step is as long as the learning rate, whatever the gradient") {
    Var<double> w = parameter_on_device(Tensor<double>::zeros({2}));
    Adam<double> adam({{"w", w}}, {.learning_rate = 0.5, .epsilon = 1e-30});
    w.node()->add_grad(to_device(Tensor<double>::from({2}, {1e-6, -1e6})));
    adam.step();
    check_close(w.value(), Tensor<double>::from({2}, {-0.5, 0.5}));
}

TEST_CASE("adam: decay of weights only leaves vectors alone") {
    Var<double> w = parameter_on_device(Tensor<double>::ones({1, 1})),
                b = parameter_on_device(Tensor<double>::ones({1}));
    Adam<double> adam({{"w", w}, {"b", b}}, {.weight_decay = 0.25, .decay = Decay::weights});
    for (auto* var : {&w, &b}) var->node()->add_grad(zeros_like(var->value()));
    adam.step();
    CHECK(w.item() < 1);
    CHECK(b.item() == 1);
}

TEST_CASE("adam: same bits for 1 and 2 threads, beyond one range of elements") {
    check_repeatable([] {
        Var<float> w = parameter_on_device(random_tensor<float>({2, 20001}, "w"));
        Adam<float> adam({{"w", w}}, {.weight_decay = 0.01});
        for (int i = 0; i < 3; ++i) {
            w.node()->add_grad(to_device(random_tensor<float>({2, 20001}, "g")));
            adam.step();
        }
        return std::vector<Tensor<float>>{w.value()};
    });
}

TEST_CASE("adam: options out of range are errors") {
    const std::vector<NamedVar<float>> none;
    CHECK_THROWS_WITH_AS(Adam<float>(none, {.beta1 = 1}), doctest::Contains("betas in [0, 1), got 1 and"), ShapeError);
    CHECK_THROWS_WITH_AS(Adam<float>(none, {.epsilon = 0}), doctest::Contains("a positive epsilon"), ShapeError);
    CHECK_THROWS_WITH_AS(Adam<float>(none, {.weight_decay = -1}), doctest::Contains("weight decay"), ShapeError);
}
