#include "support/check.hpp"

#include <espalier/nn/dropout.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("Dropout: every call drops anew, a restored counter drops the same again", T, float, double) {
    Dropout<T> layer(0.5, Random(1, "d"));
    const Var<T> x(Tensor<T>::ones({64, 8}));
    const Tensor<T> first = layer.forward(x).value(), second = layer.forward(x).value();
    CHECK_FALSE(same_bits(first, second));
    CHECK(same_bits(first, dropout(x, 0.5, Random(1, "d").substream(0)).value()));
    CHECK(same_bits(second, dropout(x, 0.5, Random(1, "d").substream(1)).value()));

    Dropout<T> resumed(0.5, Random(1, "d"));
    resumed.find("calls").set_value(layer.find("calls").value().clone());
    CHECK(resumed.find("calls").item() == 2);
    CHECK(same_bits(resumed.forward(x).value(), layer.forward(x).value()));
    CHECK(layer.parameters().empty());
}

TEST_CASE("Dropout: nothing happens in inference mode; a rate outside [0, 1) is an error") {
    Dropout<float> layer(0.5);
    layer.eval();
    const Var<float> x(random_tensor<float>({4, 4}));
    CHECK(layer.forward(x).node() == x.node());
    CHECK(layer.find("calls").item() == 0);
    CHECK_THROWS_WITH_AS(Dropout<float>(1.0), doctest::Contains("Dropout: expected a rate in [0, 1), got 1"),
                         ShapeError);
    CHECK_THROWS_AS(Dropout<float>(-0.1), ShapeError);
}
