#include "support/check.hpp"

#include <espalier/io/example.hpp>
#include <espalier/io/module_state.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/linear.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// Batch norm and a linear layer on vectors: in training mode it computes something else.
template <class T> struct Net : Module<T> {
    BatchNorm<T> bn = this->child("bn", BatchNorm<T>({.channels = 4}));
    Linear<T> linear = this->child("linear", Linear<T>({.in = 4, .out = 3}));
    Var<T> forward(const Var<T>& x) const { return linear.forward(bn.forward(x)); }
};

} // namespace

TEST_CASE_TEMPLATE("example: a network that was loaded gives the stored bits", T, float, double) {
    Net<T> net, other;
    net.linear.bias.mutable_value().fill(T(0.25));
    TensorFile file;
    save_state(file, net, "model.");
    save_example(file, net, random_tensor<T>({2, 4}));
    CHECK(file.shape("example.images") == Shape{2, 4});
    CHECK(file.shape("example.logits") == Shape{2, 3});
    CHECK(net.mode() == Mode::training);
    CHECK(net.bn.running_mean.value().at(0) == 0);

    load_state(file, other, "model.");
    const ExampleCheck check = check_example(file, other, 0);
    CHECK(check.bit_equal);
    CHECK(check.difference == 0);
    CHECK(other.mode() == Mode::training);
}

TEST_CASE("example: a network that computes something else is an error beyond the tolerance") {
    Net<float> net;
    TensorFile file("somewhere");
    save_example(file, net, random_tensor<float>({2, 4}));
    float largest = 0;
    for (const float logit : file.get<float>("example.logits")) largest = std::max(largest, std::abs(logit));
    net.linear.bias.mutable_value().mutable_data()[1] += 0.01f * largest;
    CHECK_THROWS_WITH_AS(
        check_example(file, net),
        doctest::Contains("check_example: expected the logits stored in somewhere within 0.0001 of the "
                          "largest, got a difference of 0.0"),
        StateError);
    const ExampleCheck check = check_example(file, net, 0.02);
    CHECK_FALSE(check.bit_equal);
    CHECK(check.difference == doctest::Approx(0.01).epsilon(1e-4)); // rounding of logits near 1
}

TEST_CASE("example: the weights of one type are checked in the other") {
    Net<float> single;
    Net<double> full;
    TensorFile file;
    save_state(file, single, "model.");
    save_example(file, single, random_tensor<float>({2, 4}));
    load_state(file, full, "model.", Precision::converted);
    const ExampleCheck check = check_example(file, full);
    CHECK_FALSE(check.bit_equal);
    CHECK(check.difference < 1e-6); // a few roundings of float
}

TEST_CASE("example: logits that are not finite are equal to themselves only") {
    Net<float> net;
    net.linear.bias.mutable_value().fill(std::numeric_limits<float>::quiet_NaN());
    TensorFile file;
    save_example(file, net, random_tensor<float>({2, 4}));
    CHECK(check_example(file, net).bit_equal);
    net.linear.bias.mutable_value().fill(1);
    CHECK_THROWS_WITH_AS(check_example(file, net), doctest::Contains("got a difference of"), StateError);
    TensorFile finite;
    save_example(finite, net, random_tensor<float>({2, 4}));
    net.linear.bias.mutable_value().mutable_data()[0] = std::numeric_limits<float>::quiet_NaN(); // not the last logit
    CHECK_THROWS_AS(check_example(finite, net), StateError);
    net.linear.weight.mutable_value().fill(0);
    net.linear.bias.mutable_value().fill(0);
    TensorFile zero;
    save_example(zero, net, random_tensor<float>({2, 4}));
    net.linear.bias.mutable_value().fill(1e-30f); // no logit to be small beside
    CHECK_THROWS_WITH_AS(check_example(zero, net), doctest::Contains("got a difference of inf"), StateError);
}

TEST_CASE("example: a file without one, with two, or of another shape is an error") {
    Net<float> net;
    TensorFile file;
    CHECK_THROWS_WITH_AS(check_example(file, net), doctest::Contains("a tensor 'example.logits', got none"),
                         StateError);
    save_example(file, net, random_tensor<float>({2, 4}));
    CHECK_THROWS_WITH_AS(save_example(file, net, random_tensor<float>({2, 4})), doctest::Contains("twice"), StateError);
    net.linear.weight.set_value(Tensor<float>::zeros({5, 4}));
    net.linear.bias.set_value(Tensor<float>::zeros({5}));
    CHECK_THROWS_WITH_AS(check_example(file, net), doctest::Contains("expected logits [2,3], as stored in tensors in"),
                         StateError);
}
