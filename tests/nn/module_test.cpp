#include "support/check.hpp"

#include <espalier/nn/module.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {
struct Leaf : Module<float> {
    explicit Leaf(Index n) { weight = add_parameter("weight", Tensor<float>::ones({n})); }
    Var<float> weight;
    int state_ = 0; // a name that Module uses as well
};
struct Net : Module<float> {
    Leaf a = child("a", Leaf(2));
    Var<float> scale = add_parameter("scale", Tensor<float>::ones({3}));
    Var<float> mean = add_buffer("mean", Tensor<float>::zeros({4}));
    Leaf b = child("b", Leaf(5));
    Leaf again = child("again", a);
    std::shared_ptr<JoinState<float>> join = add_join(std::make_shared<JoinState<float>>());

    using Module::add_parameter;
    using Module::child;
};
struct Outer : Module<float> {
    Net net = child("net", Net());
};
std::vector<std::string> names(const std::vector<NamedVar<float>>& list) {
    std::vector<std::string> all;
    for (const auto& [name, var] : list) all.push_back(name);
    return all;
}
using Names = std::vector<std::string>;
} // namespace

TEST_CASE("Module: dotted names in order of registration, each variable once") {
    const Outer outer;
    CHECK(names(outer.parameters()) == Names{"net.scale", "net.constant", "net.a.weight", "net.b.weight"});
    CHECK(names(outer.buffers()) == Names{"net.mean"});
    REQUIRE(outer.joins().size() == 1);
    CHECK(outer.joins()[0].name == "net.kept");
    CHECK(outer.joins()[0].join == outer.net.join);
    CHECK(outer.parameter_count() == 3 + 0 + 2 + 5);
    for (const auto& [name, var] : outer.parameters()) CHECK(var.needs_grad());
    for (const auto& [name, var] : outer.buffers()) CHECK_FALSE(var.needs_grad());
}

TEST_CASE("Module: a copy is a handle of the same state") {
    Net net;
    Net copy = net;
    net.find("a.weight").mutable_value().fill(7);
    CHECK(copy.a.weight.value().at(1) == 7);
    CHECK(copy.find("a.weight").node() == net.a.weight.node());
    copy.find("b.weight").set_value(Tensor<float>::zeros({1}));
    CHECK(net.parameter_count() == 3 + 2 + 1);
    copy.eval();
    CHECK(net.mode() == Mode::inference);
}

TEST_CASE("Module: the mode reaches everything below and nothing above") {
    Outer outer;
    CHECK(outer.mode() == Mode::training);
    outer.net.eval();
    CHECK(outer.mode() == Mode::training);
    CHECK(outer.net.b.mode() == Mode::inference);
    outer.train();
    CHECK(outer.net.b.mode() == Mode::training);
    outer.set_mode(Mode::inference);
    CHECK(outer.net.a.mode() == Mode::inference);
}

TEST_CASE("Module: clear_grad clears all gradients") {
    Net net;
    for (auto& [name, var] : net.parameters()) var.node()->add_grad(zeros_like(var.value()));
    net.clear_grad();
    for (auto& [name, var] : net.parameters()) CHECK_FALSE(var.grad().defined());
}

TEST_CASE("Module: a name that is taken, empty or dotted, and one that is not there, are errors") {
    Net net;
    CHECK_THROWS_WITH_AS(net.add_parameter("scale", {}),
                         doctest::Contains("expected a new name without dots, got 'scale'"), StateError);
    CHECK_THROWS_WITH_AS(net.add_parameter("mean", {}), doctest::Contains("'mean'"), StateError);
    CHECK_THROWS_WITH_AS(net.child("a", Leaf(1)), doctest::Contains("'a'"), StateError);
    CHECK_THROWS_WITH_AS(net.add_parameter("kept", {}), doctest::Contains("'kept'"), StateError);
    CHECK_THROWS_WITH_AS(net.add_parameter("", {}), doctest::Contains("''"), StateError);
    CHECK_THROWS_WITH_AS(net.add_parameter("x.y", {}), doctest::Contains("'x.y'"), StateError);
    CHECK_THROWS_WITH_AS(net.find("weight"),
                         doctest::Contains("expected one of scale, constant, a.weight, b.weight, mean; got weight"),
                         StateError);
}
