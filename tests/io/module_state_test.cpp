#include "support/check.hpp"

#include <espalier/io/module_state.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/join.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

template <class T> struct Net : Module<T> {
    explicit Net(std::uint64_t seed)
        : conv(this->child("conv", Conv2d<T>({.in = 2, .out = 4}, Random(seed, "conv")))),
          norm(this->child("norm", Norm())), join(this->child("join", Join<T>())) {}

    struct Norm : Module<T> {
        Var<T> mean = this->add_buffer("mean", random_tensor<T>({4}));
    };
    Conv2d<T> conv;
    Norm norm;
    Join<T> join;
};

} // namespace

TEST_CASE_TEMPLATE("module_state: a module gets back its parameters, buffers and joins", T, float, double) {
    Net<T> one(1), two(2);
    one.norm.mean.mutable_value().fill(T(7));
    TensorFile file;
    save_state(file, one, "model.");
    file.add("other", Tensor<float>::scalar(0)); // outside the prefix: not this module's business
    load_state(file, two, "model.");
    CHECK(same_bits(two.conv.weight.value(), one.conv.weight.value()));
    CHECK(same_bits(two.conv.bias.value(), one.conv.bias.value()));
    CHECK(two.norm.mean.value().at(3) == T(7));
    CHECK_FALSE(two.conv.weight.value().shares_memory(one.conv.weight.value()));
    CHECK(file.get<Index>("model.join.kept").shape() == Shape{0});
}

TEST_CASE("module_state: a pruned network loads into a full one and back") {
    Net<float> pruned(1), full(2);
    const Tensor<float> before = full.conv.weight.value().clone();
    TensorFile of_full, of_pruned;
    save_state(of_full, full);
    pruned.conv.weight.set_value(random_tensor<float>({3, 3, 3, 1}));
    pruned.join.state()->kept = {1, 3};
    pruned.join.state()->constant.set_value(random_tensor<float>({4}));
    save_state(of_pruned, pruned);

    load_state(of_pruned, full);
    CHECK(full.conv.weight.shape() == Shape{3, 3, 3, 1});
    CHECK(full.conv.weight.node()->shape == Shape{3, 3, 3, 1}); // gradients of the new width are accepted
    CHECK(full.join.state()->indexed());
    CHECK(full.join.state()->kept == std::vector<Index>{1, 3});
    load_state(of_full, full);
    CHECK(same_bits(full.conv.weight.value(), before));
    CHECK_FALSE(full.join.state()->indexed());
}

TEST_CASE("module_state: what does not fit is listed, and nothing is changed") {
    Net<float> net(1);
    const Tensor<float> weight = net.conv.weight.value().clone();
    const auto refuse = [&](const auto& change, const char* text) {
        TensorFile whole, file("somewhere");
        save_state(whole, Net<float>(2));
        for (const auto& [name, tensor] : whole.entries()) change(file, name, tensor);
        CHECK_THROWS_WITH_AS(load_state(file, net), doctest::Contains(text), StateError);
        CHECK(same_bits(net.conv.weight.value(), weight));
    };
    const auto replace = [](const char* which, AnyTensor by) {
        return [=](TensorFile& file, const std::string& name, const AnyTensor& tensor) {
            file.add(name, name == which ? by : tensor);
        };
    };
    refuse([](TensorFile& file, const std::string& name, const AnyTensor& tensor) { file.add("x." + name, tensor); },
           "got no conv.weight, conv.bias, join.constant, norm.mean, join.kept, and unexpected x.conv.weight");
    refuse(
        [](TensorFile& file, const std::string& name, const AnyTensor& tensor) {
            if (name != "norm.mean") file.add(name, tensor);
        },
        "load_state: expected the names of this object, got no norm.mean in somewhere");
    refuse(replace("norm.mean", Tensor<float>::zeros({4, 1})), "'norm.mean' of rank 1, got [4,1] in somewhere");
    refuse(replace("norm.mean", Tensor<double>::zeros({4})), "'norm.mean' of type F32, got F64");
    refuse(replace("join.kept", Tensor<Index>::from({2}, {1, 1})), "'join.kept' to hold rising channels, got [1,1]");
    refuse(replace("join.kept", Tensor<Index>::from({1}, {-1})), "got [-1]");
    refuse(replace("join.constant", Tensor<float>::zeros({2, 2})), "'join.constant' of rank 1");
}

TEST_CASE("module_state: kept channels lie within an indexed join") {
    Net<float> net(1);
    net.join.state()->kept = {1, 4};
    net.join.state()->constant.set_value(Tensor<float>::zeros({4}));
    TensorFile file;
    save_state(file, net);
    CHECK_THROWS_WITH_AS(load_state(file, net), doctest::Contains("rising channels below 4, got [1,4]"), StateError);
}

TEST_CASE("module_state: the other floating-point type is converted only when asked for") {
    Net<float> single(1);
    Net<double> full(2);
    TensorFile file;
    save_state(file, single);
    CHECK_THROWS_WITH_AS(load_state(file, full), doctest::Contains("of type F64, got F32"), StateError);
    load_state(file, full, "", Precision::converted);
    CHECK(same_bits(full.conv.weight.value(), single.conv.weight.value().cast<double>()));
}
