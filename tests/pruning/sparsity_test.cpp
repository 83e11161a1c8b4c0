#include "networks.hpp"

#include <espalier/pruning/sparsity.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {
/// A weight of two axes and one of four, with zeros by hand.
template <class T> struct Net : Module<T> {
    Var<T> conv = this->add_parameter("conv", Tensor<T>::full({3, 2, 2, 2}, T(1)));
    Var<T> bias = this->add_parameter("bias", Tensor<T>::zeros({3}));
    Var<T> head = this->add_parameter("head", Tensor<T>::from({2, 3}, {0, 5, 0, 0, 3, 0}));
    Net() {
        for (Index i = 8; i < 16; ++i) conv.mutable_value().mutable_data()[i] = T(0);       // filter 1
        for (Index i = 0; i < 24; i += 2) conv.mutable_value().mutable_data()[i] = T(-0.0); // input 0
    }
};
} // namespace

TEST_CASE_TEMPLATE("sparsity: entries, filters and inputs that are zero", T, float, double) {
    const auto weights = sparsity(Net<T>());
    REQUIRE(weights.size() == 2); // no vectors
    CHECK(weights[0].name == "conv");
    CHECK(weights[0].zeros == 16);
    CHECK(weights[0].zero_makers == 1);
    CHECK(weights[0].zero_eaters == 1);
    CHECK(weights[1].shape == Shape{2, 3});
    CHECK(weights[1].zeros == 4);
    CHECK(weights[1].zero_makers == 0);
    CHECK(weights[1].zero_eaters == 2);
}

TEST_CASE("sparsity: as a table and as CSV") {
    const auto weights = sparsity(Net<float>());
    CHECK(to_csv(weights) == "weight,entries,zeros,makers,zero_makers,eaters,zero_eaters\n"
                             "conv,24,16,3,1,2,1\n"
                             "head,6,4,2,0,3,2\n");
    CHECK(to_text(weights) ==
          "weight  shape      entries  zero          filters  zero          inputs  zero\n"
          "------  ---------  -------  ----  ------  -------  ----  ------  ------  ----  ------\n"
          "conv    [3,2,2,2]       24    16  66.7 %        3     1  33.3 %       2     1    50 %\n"
          "head    [2,3]            6     4  66.7 %        2     0     0 %       3     2  66.7 %\n"
          "all     -               30    20  66.7 %        5     1    20 %       5     3    60 %\n");
}

TEST_CASE("sparsity: nothing, and weights that are pruned away") {
    CHECK(sparsity(BatchNorm<float>({.channels = 3})).empty());
    CHECK(to_csv({}) == "weight,entries,zeros,makers,zero_makers,eaters,zero_eaters\n");
    Net<float> net;
    net.head.set_value(Tensor<float>({2, 0}));
    const auto weights = sparsity(net);
    CHECK(weights[1].zeros == 0);
    CHECK(weights[1].zero_makers == 2); // they make nothing
    CHECK(to_text(weights).find("head") != std::string::npos);
}
