#include <espalier/ops/concat.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("concat: values along each axis", T, float, double) {
    for (int axis = 0; axis < 3; ++axis) {
        std::vector<Var<T>> operands;
        for (const Index extent : {2, 0, 1, 3}) {
            Shape shape{2, 3, 4};
            shape[axis] = extent;
            operands.push_back(on_device(random_tensor<T>(shape, extent == 1 ? "a" : "b")));
        }
        const auto y = concat(operands, axis).value();
        REQUIRE(y.size(axis) == 6);
        for (Index i = 0; i < y.size(0); ++i)
            for (Index j = 0; j < y.size(1); ++j)
                for (Index k = 0; k < y.size(2); ++k) {
                    Index at[3] = {i, j, k};
                    std::size_t operand = 0;
                    while (at[axis] >= operands[operand].size(axis)) at[axis] -= operands[operand++].size(axis);
                    CHECK(y.at(i, j, k) == operands[operand].value().at(at[0], at[1], at[2]));
                }
        CHECK(same_bits(concat(operands, axis - 3).value(), y));
    }
    const auto x = on_device(random_tensor<T>({2, 3}));
    CHECK(same_bits(concat({x}, 0).value(), x.value()));
}

TEST_CASE("concat: gradients") {
    for (int axis = 0; axis < 3; ++axis) {
        Shape other{2, 3, 4};
        other[axis] = 2;
        check_gradient([axis](auto& v) { return concat(v, axis); },
                       {random_tensor<double>({2, 3, 4}, "a"), random_tensor<double>(other, "b")});
    }
}

TEST_CASE("concat: a tensor with itself, and a concat with its operand") {
    const auto x = random_tensor<double>({2, 3}, "x");
    check_gradient([](auto& v) { return concat({v[0], v[0]}, -1); }, {x});
    check_gradient([](auto& v) { return concat({concat({v[0], v[1]}, 1), v[0]}, 1); }, {x, x});
    auto p = parameter_on_device(x);
    concat({p, p}, 1).backward(to_device(Tensor<double>::from({2, 6}, {1, 2, 3, 10, 20, 30, 4, 5, 6, 40, 50, 60})));
    CHECK(p.grad().to_vector() == std::vector<double>{11, 22, 33, 44, 55, 66});
}

TEST_CASE("concat: a constant operand gets no gradient") {
    const auto constant = on_device(random_tensor<double>({2, 1}));
    check_gradient([&](auto& v) { return concat({constant, v[0]}, 1); }, {random_tensor<double>({2, 3})});
}

TEST_CASE_TEMPLATE("concat: same bits on 1 and 2 threads", T, float, double) {
    check_repeatable([] {
        return forward_and_gradients<T>(
            [](auto& v) {
                return concat({v[0], v[1], v[0]}, -1);
            },
            {random_tensor<T>({50, 40, 9}, "a"), random_tensor<T>({50, 40, 16}, "b")});
    });
}

TEST_CASE("concat: operands that do not fit") {
    const auto a = on_device(Tensor<float>::ones({2, 3})), b = on_device(Tensor<float>::ones({4, 3})),
               c = on_device(Tensor<float>::ones({2, 3, 1}));
    CHECK_THROWS_WITH_AS(concat(std::vector<Var<float>>{}, 0), "concat: expected at least one operand, got none",
                         ShapeError);
    CHECK_THROWS_WITH_AS(concat({a, b}, 1),
                         "concat: expected shapes that differ along axis 1 only, got [2,3] and [4,3]", ShapeError);
    CHECK_THROWS_WITH_AS(concat({a, c}, 0), doctest::Contains("got [2,3] and [2,3,1]"), ShapeError);
    CHECK_THROWS_WITH_AS(concat({a, b}, 2), "concat: expected an axis of [2,3], got 2", ShapeError);
}

TEST_CASE("concat: channels keep their order, a tensor with itself its channels twice") {
    const auto a = parameter_on_device(Tensor<float>::ones({2, 3})),
               b = parameter_on_device(Tensor<float>::ones({2, 5}));
    CHECK(rule_text(concat({a, b}, -1)) == "declared 0.-1[0+3]=y.-1 1.-1[0+5]=y.-1[3]");
    CHECK(rule_text(concat({a, a}, 1)) == "declared 0.-1[0+3]=y.-1 1.-1[0+3]=y.-1[3]");
    CHECK(rule_text(concat({a, a}, 0)) == "declared 0.-1=y.-1 1.-1=y.-1");
}
