#include "support/check.hpp"

#include <espalier/nn/padded_shortcut.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("PaddedShortcut: zero channels on both sides, every second pixel", T, float, double) {
    const PaddedShortcut<T> layer({.in = 2, .out = 5, .stride = 2});
    REQUIRE(layer.joins().size() == 1);
    CHECK(layer.joins()[0].join->kept == std::vector<Index>{1, 2});
    CHECK(layer.parameter_count() == 0);
    const Var<T> x(random_tensor<T>({1, 3, 4, 2}));
    const Tensor<T> y = layer.forward(x, 5).value();
    REQUIRE(y.shape() == Shape{1, 2, 2, 5});
    for (Index p = 0; p < 2; ++p)
        for (Index q = 0; q < 2; ++q)
            for (Index c = 0; c < 5; ++c)
                CHECK(y.at(0, p, q, c) == (c == 1 || c == 2 ? x.value().at(0, 2 * p, 2 * q, c - 1) : T(0)));
}

TEST_CASE("PaddedShortcut: a renumbered list is followed; more channels in than out is an error") {
    const PaddedShortcut<float> layer({.in = 2, .out = 4});
    layer.joins()[0].join->kept = {0}; // channel 0 of the input and channels 0 and 3 of the output were cut
    const Var<float> x(random_tensor<float>({1, 1, 1, 1}));
    CHECK(same_bits(layer.forward(x, 2).value(), Tensor<float>::from({1, 1, 1, 2}, {x.value().at(0, 0, 0, 0), 0})));
    CHECK_THROWS_WITH_AS(PaddedShortcut<float>({.in = 3, .out = 2}), doctest::Contains("expected 1 <= in <= out"),
                         ShapeError);
}
