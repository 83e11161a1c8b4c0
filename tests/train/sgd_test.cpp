#include "support/check.hpp"

#include <espalier/train/sgd.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// torch.optim.SGD in plain loops: its state is undefined before the first step, where it becomes the gradient.
struct Reference {
    SgdOptions by;
    std::vector<double> p, v{};

    void step(const Tensor<double>& g) {
        const bool first = v.empty();
        v.resize(p.size());
        for (std::size_t i = 0; i < p.size(); ++i) {
            double d = g.data()[i] + by.weight_decay * p[i];
            if (by.momentum > 0) {
                v[i] = first ? d : by.momentum * v[i] + d;
                d = by.form == Momentum::nesterov ? d + by.momentum * v[i] : v[i];
            }
            p[i] -= by.learning_rate * d;
        }
    }
};

} // namespace

TEST_CASE_TEMPLATE("sgd: five steps of each form are those of the reference", T, float, double) {
    for (const SgdOptions& options :
         {SgdOptions{.learning_rate = 0.3}, SgdOptions{.learning_rate = 0.3, .weight_decay = 0.05},
          SgdOptions{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.05},
          SgdOptions{.learning_rate = 0.1, .momentum = 0.9, .form = Momentum::nesterov, .weight_decay = 0.05}}) {
        Var<T> w = parameter_on_device(random_tensor<T>({3, 7}, "w"));
        Reference reference{options, w.value().template cast<double>().to_vector()};
        Sgd<T> sgd({{"w", w}}, options);
        for (int i = 0; i < 5; ++i) {
            const Tensor<T> g = random_tensor<T>({3, 7}, std::to_string(i).c_str());
            sgd.clear_grad();
            w.node()->add_grad(to_device(g));
            sgd.step();
            reference.step(g.template cast<double>());
        }
        check_close(w.value(), Tensor<double>::from({3, 7}, reference.p), 64); // five steps of six roundings each
        CHECK(sgd.steps() == 5);
    }
}

TEST_CASE("sgd: decay of weights only leaves vectors alone") {
    Var<double> w = parameter_on_device(Tensor<double>::ones({1, 1})),
                b = parameter_on_device(Tensor<double>::ones({1}));
    Sgd<double> sgd({{"w", w}, {"b", b}}, {.learning_rate = 1, .weight_decay = 0.25, .decay = Decay::weights});
    for (auto* var : {&w, &b}) var->node()->add_grad(zeros_like(var->value()));
    sgd.step();
    CHECK(w.item() == 0.75);
    CHECK(b.item() == 1);
}

TEST_CASE("sgd: same bits for 1 and 2 threads, beyond one range of elements") {
    check_repeatable([] {
        Var<float> w = parameter_on_device(random_tensor<float>({2, 20001}, "w"));
        Sgd<float> sgd({{"w", w}},
                       {.learning_rate = 0.1, .momentum = 0.9, .form = Momentum::nesterov, .weight_decay = 0.01});
        for (int i = 0; i < 3; ++i) {
            w.node()->add_grad(to_device(random_tensor<float>({2, 20001}, "g")));
            sgd.step();
        }
        return std::vector<Tensor<float>>{w.value()};
    });
}

TEST_CASE("sgd: options out of range are errors") {
    const std::vector<NamedVar<float>> none;
    CHECK_THROWS_WITH_AS(Sgd<float>(none, {.momentum = 1}), doctest::Contains("a momentum in [0, 1), got 1"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(Sgd<float>(none, {.form = Momentum::nesterov}), doctest::Contains("Nesterov"), ShapeError);
    CHECK_THROWS_WITH_AS(Sgd<float>(none, {.weight_decay = -1}), doctest::Contains("weight decay"), ShapeError);
    CHECK_THROWS_WITH_AS(Sgd<float>(none, {.learning_rate = -1}), doctest::Contains("learning rate"), ShapeError);
    CHECK_THROWS_WITH_AS(Sgd<float>(none, {.learning_rate = std::nan("")}), doctest::Contains("got nan"), ShapeError);
}
