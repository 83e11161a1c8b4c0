#include "support/check.hpp"

#include <espalier/nn/join.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("Join: dense at first, indexed once its state says so", T, float, double) {
    const Join<T> layer;
    REQUIRE(layer.joins().size() == 1);
    CHECK(layer.joins()[0].join == layer.state());
    CHECK(layer.parameter_count() == 0);
    REQUIRE(layer.parameters().size() == 1);
    CHECK(layer.parameters()[0].name == "constant");

    const Var<T> stream(random_tensor<T>({1, 2, 2, 3}, "s")), branch(random_tensor<T>({1, 2, 2, 3}, "b"));
    CHECK(layer.width(branch) == 3);
    CHECK(same_bits(layer.forward(stream, branch, Activation::relu).value(),
                    join(stream, branch, std::make_shared<JoinState<T>>(), Activation::relu).value()));

    layer.state()->kept = {1};
    layer.state()->constant.set_value(Tensor<T>::from({3}, {1, 2, 3}));
    const Var<T> thin(random_tensor<T>({1, 2, 2, 1}, "t"));
    CHECK(layer.width(thin) == 3);
    const Tensor<T> y = layer.forward(stream, thin).value();
    CHECK(y.at(0, 1, 0, 0) == stream.value().at(0, 1, 0, 0) + 1);
    CHECK(y.at(0, 1, 0, 1) == stream.value().at(0, 1, 0, 1) + thin.value().at(0, 1, 0, 0));
    CHECK(y.at(0, 1, 0, 2) == stream.value().at(0, 1, 0, 2) + 3);
    CHECK(layer.parameter_count() == 3);
}
