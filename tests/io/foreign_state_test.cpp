#include "support/check.hpp"

#include <espalier/io/foreign_state.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/join.hpp>
#include <espalier/nn/linear.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// A convolution of 3 to 4 channels, batch norm, a flattened map of 2 x 1 pixels into 5 units.
template <class T> struct Net : Module<T> {
    explicit Net(std::uint64_t seed)
        : conv(
              this->child("conv", Conv2d<T>({.in = 3, .out = 4, .size = 2, .bias = Bias::none}, Random(seed, "conv")))),
          bn(this->child("bn", BatchNorm<T>({.channels = 4}))), join(this->child("join", Join<T>())),
          linear(this->child("linear", Linear<T>({.in = 8, .out = 5}, Random(seed, "linear")))) {}
    Conv2d<T> conv;
    BatchNorm<T> bn;
    Join<T> join;
    Linear<T> linear;
};

NameMap map_of_net() {
    NameMap map;
    return map.convolution("0", "conv").batch_norm("1", "bn", "0.bias").linear("3", "linear", 2);
}

/// What PyTorch would call the state of such a network.
template <class T> TensorFile foreign(const std::string& leave_out = {}) {
    TensorFile file("theirs");
    const auto add = [&](const char* name, const Shape& shape) {
        if (name != leave_out) file.add(name, random_tensor<T>(shape, name));
    };
    add("0.weight", {4, 3, 2, 2});
    add("0.bias", {4});
    add("1.weight", {4});
    add("1.bias", {4});
    add("1.running_mean", {4});
    add("1.running_var", {4});
    file.add("1.num_batches_tracked", Tensor<Index>::scalar(17));
    add("3.weight", {5, 8});
    add("3.bias", {5});
    return file;
}

} // namespace

TEST_CASE_TEMPLATE("foreign_state: names, layouts and the folded bias, element by element", T, float, double) {
    const TensorFile file = foreign<T>();
    Net<T> net(1);
    import_state(file, net, map_of_net());
    const auto w = file.get<T>("0.weight"), fc = file.get<T>("3.weight");
    const auto mean = file.get<T>("1.running_mean"), bias = file.get<T>("0.bias");
    REQUIRE(net.conv.weight.shape() == Shape{4, 2, 2, 3});
    for (Index k = 0; k < 4; ++k) {
        for (Index c = 0; c < 3; ++c)
            for (Index r = 0; r < 2; ++r)
                for (Index s = 0; s < 2; ++s) CHECK(net.conv.weight.value().at(k, r, s, c) == w.at(k, c, r, s));
        CHECK(net.bn.running_mean.value().at(k) == mean.at(k) - bias.at(k));
    }
    for (Index k = 0; k < 5; ++k)
        for (Index c = 0; c < 4; ++c)
            for (Index p = 0; p < 2; ++p) CHECK(net.linear.weight.value().at(k, p * 4 + c) == fc.at(k, c * 2 + p));
    CHECK(same_bits(net.bn.gamma.value(), file.get<T>("1.weight")));
    CHECK(same_bits(net.bn.beta.value(), file.get<T>("1.bias")));
    CHECK(same_bits(net.bn.running_var.value(), file.get<T>("1.running_var")));
    CHECK(same_bits(net.linear.bias.value(), file.get<T>("3.bias")));
    CHECK_FALSE(net.bn.gamma.value().shares_memory(file.get<T>("1.weight")));
}

TEST_CASE_TEMPLATE("foreign_state: what was imported is exported again, with the bias in the running mean", T, float,
                   double) {
    const TensorFile file = foreign<T>();
    Net<T> net(1), other(2);
    import_state(file, net, map_of_net());
    const TensorFile back = export_state(net, map_of_net());
    CHECK(back.entries().size() == file.entries().size() - 1); // num_batches_tracked, which PyTorch does without
    for (const char* name : {"0.weight", "1.weight", "1.bias", "1.running_var", "3.weight", "3.bias"})
        CHECK_MESSAGE(same_bits(back.get<T>(name), file.get<T>(name)), name);
    CHECK(same_bits(back.get<T>("0.bias"), Tensor<T>::zeros({4})));
    CHECK(same_bits(back.get<T>("1.running_mean"), net.bn.running_mean.value()));
    import_state(back, other, map_of_net());
    CHECK(same_bits(other.bn.running_mean.value(), net.bn.running_mean.value()));
    CHECK(same_bits(other.conv.weight.value(), net.conv.weight.value()));
}

TEST_CASE("foreign_state: a pruned network is exported with its widths") {
    Net<float> net(1);
    net.conv.weight.set_value(random_tensor<float>({3, 2, 2, 3}));
    for (Var<float> v : {net.bn.gamma, net.bn.beta, net.bn.running_mean, net.bn.running_var})
        v.set_value(Tensor<float>::ones({3}));
    net.linear.weight.set_value(random_tensor<float>({5, 6}));
    const TensorFile file = export_state(net, map_of_net());
    CHECK(file.shape("0.weight") == Shape{3, 3, 2, 2});
    CHECK(file.get<float>("3.weight").at(4, 5) == net.linear.weight.value().at(4, 5));
    CHECK(file.get<float>("3.weight").at(4, 3) == net.linear.weight.value().at(4, 4)); // c = 1, pixel 1
}

TEST_CASE("foreign_state: the report names every tensor, its shapes and what became of it") {
    TensorFile file = foreign<float>("3.bias");
    file.add("4.weight", Tensor<float>::zeros({2}));
    Net<float> net(1);
    NameMap map = map_of_net();
    map.keep("bn.beta").pass_over("1.bias");
    net.conv.weight.set_value(Tensor<float>::zeros({4, 3, 3, 3}));
    const StateReport report = compare_state(file, net, map);
    CHECK_FALSE(report.fits());
    CHECK(report.source == "theirs");
    CHECK(to_text(report) ==
          "theirs                 shape      ours             shape      fit\n"
          "---------------------  ---------  ---------------  ---------  ---------------------------------\n"
          "0.weight               [4,3,2,2]  conv.weight      [4,3,3,3]  another shape, expected [4,3,3,3]\n"
          "1.weight               [4]        bn.gamma         [4]        fits\n"
          "-                      -          bn.beta          [4]        kept as it is\n"
          "3.weight               [5,8]      linear.weight    [5,8]      fits\n"
          "3.bias                 -          linear.bias      [5]        missing in the file\n"
          "1.running_mean         [4]        bn.running_mean  [4]        fits\n"
          "0.bias                 [4]        bn.running_mean  [4]        fits\n"
          "1.running_var          [4]        bn.running_var   [4]        fits\n"
          "1.bias                 [4]        -                -          passed over\n"
          "1.num_batches_tracked  []         -                -          passed over\n"
          "4.weight               [2]        -                -          unexpected\n");
    CHECK(compare_state(foreign<float>(), Net<float>(1), map_of_net()).fits());
}

TEST_CASE("foreign_state: what does not fit is listed, and nothing is changed") {
    Net<float> net(1);
    const Tensor<float> weight = net.conv.weight.value().clone();
    const auto refuse = [&](const TensorFile& file, const NameMap& map, const char* text) {
        CHECK_FALSE(compare_state(file, net, map).fits());
        CHECK_THROWS_WITH_AS(import_state(file, net, map), doctest::Contains(text), StateError);
        CHECK(same_bits(net.conv.weight.value(), weight));
        CHECK(net.bn.running_mean.value().at(0) == 0);
    };
    const auto replaced = [](const char* name, AnyTensor by) {
        TensorFile file = foreign<float>(name);
        file.add(name, std::move(by));
        return file;
    };
    refuse(foreign<float>("3.bias"), map_of_net(),
           "import_state: expected every tensor to fit, got '3.bias' missing in the file in theirs; compare_state");
    refuse(foreign<float>("0.bias"), map_of_net(), "'0.bias' missing in the file"); // the one to be subtracted
    refuse(replaced("3.weight", Tensor<float>::zeros({5, 9})), map_of_net(),
           "'3.weight' another shape [5,9] for [5,8]");
    refuse(replaced("0.weight", Tensor<float>::zeros({4, 2, 2, 3})), map_of_net(), "[4,2,2,3] for [4,3,2,2]");
    refuse(replaced("0.bias", Tensor<float>::zeros({3})), map_of_net(), "'0.bias' another shape [3] for [4]");
    refuse(replaced("3.bias", Tensor<double>::zeros({5})), map_of_net(), "'3.bias' another type F64");
    refuse(replaced("3.bias", Tensor<Index>::zeros({5})), map_of_net(), "'3.bias' another type I64");
    TensorFile more = foreign<float>();
    more.add("4.weight", Tensor<float>::zeros({1}));
    refuse(more, map_of_net(), "'4.weight' unexpected");
    NameMap fewer;
    fewer.convolution("0", "conv").batch_norm("1", "bn").pass_over("3.*").pass_over("0.bias");
    refuse(foreign<float>(), fewer, "got 'linear.weight' no rule for it, 'linear.bias' no rule for it in");
}

TEST_CASE("foreign_state: a head of one's own stays as it is") {
    Net<float> net(1);
    const Tensor<float> head = net.linear.weight.value().clone();
    TensorFile file = foreign<float>("3.weight");
    file.add("3.weight", Tensor<float>::zeros({1000, 8}));
    NameMap map = map_of_net();
    map.pass_over("3.*").keep("linear.*");
    import_state(file, net, map);
    CHECK(same_bits(net.linear.weight.value(), head));
    CHECK(same_bits(net.bn.gamma.value(), file.get<float>("1.weight")));
    const TensorFile back = export_state(net, map);
    CHECK(back.contains("0.weight"));
    CHECK_FALSE(back.contains("3.weight"));
}

TEST_CASE("foreign_state: other floating-point types are converted only when asked for") {
    TensorFile file = foreign<double>("1.weight");
    file.add("1.weight", ForeignTensor{"F16", {4}, Tensor<std::uint8_t>::from({8}, {0, 0x3c, 0, 0xc1, 0, 0, 0, 0x34})});
    Net<float> net(1);
    CHECK_THROWS_WITH_AS(import_state(file, net, map_of_net()), doctest::Contains("another type F64"), StateError);
    import_state(file, net, map_of_net(), Precision::converted);
    CHECK(net.bn.gamma.value().to_vector() == std::vector<float>{1, -2.5f, 0, 0.25f});
    CHECK(same_bits(net.linear.bias.value(), file.get<double>("3.bias").cast<float>()));
}

TEST_CASE("foreign_state: indexed joins and rules that do not describe a tensor are errors") {
    Net<float> net(1);
    NameMap map = map_of_net();
    map.add({.theirs = "3.weight", .ours = "linear.weight", .layout = ForeignLayout::filters});
    CHECK_THROWS_WITH_AS(import_state(foreign<float>(), net, map),
                         doctest::Contains("expected 'linear.weight' to be filters [K,R,S,C] by its rule, got [5,8]"),
                         StateError);
    CHECK_THROWS_WITH_AS(export_state(net, map), doctest::Contains("'linear.weight' [5,8], got another layout"),
                         StateError);
    map.linear("3", "linear", 3);
    CHECK_THROWS_WITH_AS(import_state(foreign<float>(), net, map), doctest::Contains("[K,H*W*C] with 3 pixels"),
                         StateError);
    CHECK_THROWS_WITH_AS(export_state(net, NameMap()), doctest::Contains("describes 'conv.weight' [4,2,2,3], got none"),
                         StateError);
    map = map_of_net();
    map.add({.theirs = "0.bias", .ours = "bn.gamma"}); // two of ours under one name
    CHECK_THROWS_WITH_AS(export_state(net, map), doctest::Contains("'0.bias' twice"), StateError);

    net.join.state()->kept = {1, 3};
    net.join.state()->constant.set_value(Tensor<float>::zeros({4}));
    CHECK_THROWS_WITH_AS(import_state(foreign<float>(), net, map_of_net()),
                         doctest::Contains("expected a network whose joins are dense, got 'join.kept' with 2 channels"),
                         StateError);
    CHECK_THROWS_WITH_AS(export_state(net, map_of_net()), doctest::Contains("joins are dense"), StateError);
}
