#include "support/check.hpp"

#include <espalier/ops/arithmetic.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE("backward: forty shared additions finish at once") {
    const auto x = parameter(Tensor<double>::ones({1}));
    Var<double> y = x;
    for (int i = 0; i < 40; ++i) y = y + y; // a walk along every path would take 2^40 steps
    y.backward();
    CHECK(x.grad().item() == 0x1p40);
}

TEST_CASE("backward: a chain of 100,000 ops overflows no stack, neither there nor in its destructor") {
    const auto x = parameter(Tensor<float>::ones({1}));
    {
        Var<float> y = x;
        for (int i = 0; i < 100000; ++i) y = scale(y, 1);
        y.backward();
    }
    CHECK(x.grad().item() == 1);
}

TEST_CASE("backward: gradients add up until they are cleared, and an input used twice gets the sum") {
    const auto x = parameter(random_tensor<double>({3})), w = parameter(random_tensor<double>({3}, "w"));
    const auto y = x * w + x;
    const auto dy = Tensor<double>::ones({3});
    y.backward(dy);
    const Tensor<double> once = x.grad().clone();
    for (Index i = 0; i < 3; ++i) CHECK(once.data()[i] == doctest::Approx(w.value().data()[i] + 1));
    y.backward(dy);
    for (Index i = 0; i < 3; ++i) CHECK(x.grad().data()[i] == doctest::Approx(2 * once.data()[i]));
    Var<double>(x).clear_grad();
    CHECK_FALSE(x.grad().defined());
}

TEST_CASE("backward: leaves never share the memory of a gradient") {
    const auto a = parameter(Tensor<float>::ones({2})), b = parameter(Tensor<float>::ones({2}));
    const auto y = a + b;
    y.backward(Tensor<float>::ones({2}));
    CHECK_FALSE(a.grad().shares_memory(b.grad()));
}

TEST_CASE("add_grad: memory is taken over and added to where nobody else has it, and left alone where somebody has") {
    const auto leaf = parameter(Tensor<float>::ones({2}));
    const auto result = scale(leaf, 1);
    for (const auto& node : {leaf.node(), result.node()}) {
        auto given = Tensor<float>::ones({2});
        const float* const memory = given.data();
        node->add_grad(std::move(given));
        CHECK(node->grad().data() == memory);
        node->add_grad(Tensor<float>::ones({2}));
        CHECK(node->grad().data() == memory);

        const Tensor<float> held = node->grad();
        node->add_grad(Tensor<float>::ones({2}));
        CHECK(held.to_vector() == std::vector<float>{2, 2});
        CHECK(node->take_grad().value().to_vector() == std::vector<float>{3, 3});
        CHECK_FALSE(node->grad().defined());

        node->add_grad(held); // still shared: a leaf copies it, the result of an op does not
        CHECK(node->grad().shares_memory(held) == !node->is_leaf());
        node->add_grad(held);
        CHECK(held.to_vector() == std::vector<float>{2, 2});
        CHECK(node->take_grad().value().to_vector() == std::vector<float>{4, 4});
    }
}

TEST_CASE("write_grad: writes a gradient, and adds to one that nobody else has") {
    const auto leaf = parameter(Tensor<float>::ones({2}));
    const auto result = scale(leaf, 1);
    bool added = false;
    const auto write = [&](Tensor<float>& g, bool adds) {
        for (Index i = 0; i < 2; ++i) g.mutable_data()[i] = (adds ? g.at(i) : 0) + static_cast<float>(i + 1);
        added = adds;
    };
    for (const auto& node : {leaf.node(), result.node()}) {
        node->write_grad(Device::cpu, write);
        CHECK_FALSE(added);
        CHECK(node->grad().to_vector() == std::vector<float>{1, 2});
        const float* const memory = node->grad().data();
        node->write_grad(Device::cpu, write);
        CHECK(added);
        CHECK(node->grad().data() == memory);
        CHECK(node->grad().to_vector() == std::vector<float>{2, 4});

        const Tensor<float> held = node->grad();
        node->write_grad(Device::cpu, write);
        CHECK_FALSE(added);
        CHECK(held.to_vector() == std::vector<float>{2, 4});
        CHECK(node->take_grad().value().to_vector() == std::vector<float>{3, 6});
    }
    const Var<float> constant(Tensor<float>::ones({2}));
    if (constant.node()) constant.node()->write_grad(Device::cpu, [](auto&, bool) { FAIL("not wanted"); });
}

TEST_CASE("NoGrad: nothing is recorded, and the scope ends") {
    const auto x = parameter(Tensor<float>::ones({1}));
    {
        const NoGrad outer;
        { const NoGrad inner; }
        CHECK_FALSE((x + x).needs_grad());
    }
    CHECK((x + x).needs_grad());
    CHECK_FALSE((x.detach() + x.detach()).needs_grad());
}

TEST_CASE("backward: errors say what was expected") {
    const auto x = parameter(Tensor<float>::ones({2}));
    CHECK_THROWS_WITH_AS((x + x).backward(), doctest::Contains("expected one element, got [2]"), ShapeError);
    CHECK_THROWS_AS((x + x).backward(Tensor<float>::ones({3})), ShapeError);
    CHECK_THROWS_WITH_AS(Var<float>(Tensor<float>::ones({1})).backward(), doctest::Contains("depends on a parameter"),
                         StateError);
    CHECK_THROWS_WITH_AS((x + x).mutable_value(), doctest::Contains("expected a leaf, got the result of add"),
                         StateError);
}

TEST_CASE("Var: a handle sees new values and shapes of a leaf") {
    auto x = parameter(Tensor<float>::ones({2}));
    const Var<float> handle = x;
    x.set_value(Tensor<float>::zeros({3}));
    CHECK(handle.shape() == Shape{3});
    CHECK(handle.node()->shape == Shape{3});
}

TEST_CASE("KeepValues: the values of recorded nodes, innermost scope first") {
    const auto x = parameter(Tensor<float>::full({1}, 3));
    const auto before = x + x;
    const KeepValues<float> values;
    const auto y = x + x;
    CHECK(values.of(y.node().get()).item() == 6);
    CHECK_THROWS_AS(values.of(before.node().get()), StateError);
}
