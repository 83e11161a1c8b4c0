#include "support/check.hpp"

#include <espalier/models/squeeze_excite.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE("SqueezeExcite: each channel by its own weight, worked out by hand") {
    models::SqueezeExcite<double> se(2, 1);
    se.find("squeeze.weight").set_value(Tensor<double>::from({1, 2}, {1, 2}));
    se.find("squeeze.bias").set_value(Tensor<double>::from({1}, {0.5}));
    se.find("excite.weight").set_value(Tensor<double>::from({2, 1}, {1, -1}));
    se.find("excite.bias").set_value(Tensor<double>::from({2}, {0, 1}));
    // means 2 and 1: the hidden unit is 4.5, the weights are sigmoid(4.5) and sigmoid(-3.5)
    const Var<double> x(Tensor<double>::from({1, 1, 2, 2}, {1, 0, 3, 2}));
    const double a = 1 / (1 + std::exp(-4.5)), b = 1 / (1 + std::exp(3.5));
    check_close(se.forward(x).value(), Tensor<double>::from({1, 1, 2, 2}, {a, 0, 3 * a, 2 * b}));
}
