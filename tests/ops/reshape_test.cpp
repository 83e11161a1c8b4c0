#include <espalier/ops/reshape.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("reshape, flatten: the same elements", T, float, double) {
    const auto x = random_tensor<T>({2, 3, 2, 4});
    const auto v = on_device(x);
    for (const auto& y : {reshape(v, {6, 8}), reshape(v, {4, -1, 2}), reshape(v, {48}), flatten(v)})
        CHECK(y.value().to_vector() == x.to_vector());
    CHECK(reshape(v, {4, -1, 2}).shape() == Shape{4, 6, 2});
    CHECK(flatten(v).shape() == Shape{2, 24});
    CHECK(flatten(on_device(random_tensor<T>({3, 2}))).shape() == Shape{3, 2});
    CHECK(flatten(on_device(Tensor<T>(Shape{3, 2, 2, 0}))).shape() == Shape{3, 0});
    CHECK(flatten(on_device(Tensor<T>(Shape{0, 2, 2, 5}))).shape() == Shape{0, 20});
    CHECK(reshape(on_device(Tensor<T>::scalar(2)), {1, 1}).shape() == Shape{1, 1});
}

TEST_CASE("reshape, flatten: gradients, also of a value that is used elsewhere") {
    const auto x = random_tensor<double>({2, 3, 4});
    check_gradient([](auto& v) { return reshape(v[0], {4, 6}); }, {x});
    check_gradient([](auto& v) { return flatten(v[0]); }, {x});
    check_gradient([](auto& v) { return reshape(reshape(reshape(v[0], {6, 4}), {24}), {2, 12}); }, {x});
}

TEST_CASE("reshape: gradients that share memory are not added to in place") {
    // Both branches hand their input the memory of the cotangent; adding one to the other must not change it.
    auto x = parameter_on_device(Tensor<double>::ones({2}));
    const auto y = reshape(x, {1, 2});
    const auto once = reshape(y, {2});
    const auto dy = to_device(Tensor<double>::from({2}, {1, 10}));
    once.backward(dy);
    once.backward(dy);
    CHECK(dy.to_vector() == std::vector<double>{1, 10});
    CHECK(x.grad().to_vector() == std::vector<double>{2, 20});
}

TEST_CASE_TEMPLATE("reshape: same bits on 1 and 2 threads", T, float, double) {
    check_repeatable([] {
        return forward_and_gradients<T>([](auto& v) { return flatten(v[0]); }, {random_tensor<T>({20, 30, 40})});
    });
}

TEST_CASE("reshape, flatten: shapes that do not fit") {
    const auto x = on_device(Tensor<float>::ones({2, 3})), row = on_device(Tensor<float>::ones({3}));
    CHECK_THROWS_WITH_AS(reshape(x, {4, 2}), doctest::Contains("expected a shape of 6 elements for [2,3], got [4,2]"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(reshape(x, {4, -1}), doctest::Contains("got [4,-1]"), ShapeError);
    CHECK_THROWS_WITH_AS(flatten(row), "flatten: expected x [N,...,C], got [3]", ShapeError);
}

TEST_CASE("reshape, flatten: channels follow where the last extents divide each other") {
    const auto leaf = [](const Shape& shape) { return parameter_on_device(Tensor<float>::ones(shape)); };
    CHECK(rule_text(flatten(leaf({2, 3, 2, 4}))) == "declared y.-1=0.-1%4");
    CHECK(rule_text(flatten(leaf({2, 1, 1, 4}))) == "declared 0.-1=y.-1");
    CHECK(rule_text(flatten(leaf({2, 3, 2, 1}))) == "declared y.-1=0.-1%1");
    CHECK(rule_text(reshape(leaf({2, 3, 4}), {6, 4})) == "declared 0.-1=y.-1");
    CHECK(rule_text(reshape(leaf({2, 24}), {2, 3, 2, 4})) == "declared 0.-1=y.-1%4");
    CHECK(rule_text(reshape(leaf({2, 6}), {3, 4})) == "declared block 0 (reshape across channels)");
    CHECK(rule_text(reshape(leaf({0, 6}), {3, 0})) == "declared y.-1=0.-1%6");
    CHECK(rule_text(reshape(leaf({}), {1})) == "declared");
}
