#include <espalier/nn/linear.hpp>
#include <espalier/nn/network.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/ops/reshape.hpp>

#include "support/check.hpp"

#include <array>

using namespace espalier;

namespace {

struct TwoAnswers { // as models return them: logits beside what else they want to say
    Var<float> logits, features;
};

struct Head : Module<float> {
    TwoAnswers forward(const Var<float>& x) { return {linear.forward(flatten(x)), x}; }
    Linear<float> linear = child("linear", Linear<float>({.in = 12, .out = 3}));
};

} // namespace

TEST_CASE("network: the logits of a model that returns more") {
    Head head;
    const Var<float> x(uniform<float>({2, 2, 2, 3}, Random(1, "x")));
    const Network<float> net = network(head);
    CHECK(test::same_bits(net.forward(x).value(), head.forward(x).logits.value()));
    CHECK(&net.module == &head);
}

TEST_CASE("network: several outputs are one row, whatever holds them") {
    const Var<float> x(uniform<float>({2, 1, 1, 2}, Random(1, "x")));
    const auto check = [&](auto outputs) {
        struct Several : Module<float> {
            decltype(outputs) all;
            decltype(outputs) forward(const Var<float>&) { return all; }
        } model;
        model.all = outputs;
        const Tensor<float> row = network(model).forward(x).value();
        const float* const a = x.value().data();
        REQUIRE(row.shape() == Shape{2, 4});
        CHECK(row.to_vector() == std::vector<float>{a[0], a[1], 2 * a[0], 2 * a[1], a[2], a[3], 2 * a[2], 2 * a[3]});
    };
    check(std::vector<Var<float>>{x, scale(x, 2)});
    check(std::array<Var<float>, 2>{x, scale(x, 2)});
    check(std::make_pair(x, scale(flatten(x), 2)));
    check(std::make_tuple(flatten(x), scale(x, 2)));
}

TEST_CASE("ModeScope: the mode comes back, also when something throws") {
    Head head;
    head.set_mode(Mode::training);
    try {
        const ModeScope<float> scope(head, Mode::inference);
        CHECK(head.mode() == Mode::inference);
        throw StateError("test");
    } catch (const StateError&) {}
    CHECK(head.mode() == Mode::training);
}

TEST_CASE("batch_of: a shape of images") { CHECK(batch_of(5, {4, 3, 2}) == Shape{5, 4, 3, 2}); }
