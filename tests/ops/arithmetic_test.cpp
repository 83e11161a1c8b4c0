#include <espalier/ops/arithmetic.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

// f over a and b as the shape's indices say, with an index of 0 where an operand has extent 1 or no axis.
template <class T, class F> Tensor<double> reference(const Shape& shape, F f, const Tensor<T>& a, const Tensor<T>& b) {
    Tensor<double> y(shape);
    for (Index i = 0; i < y.size(); ++i) {
        const auto at = [&](const Tensor<T>& x) {
            Index rest = i, offset = 0, stride = 1;
            for (int axis = -1; axis >= -x.rank(); rest /= shape[axis--], stride *= x.size(axis + 1))
                offset += (x.size(axis) == 1 ? 0 : rest % shape[axis]) * stride;
            return static_cast<double>(x.data()[offset]);
        };
        y.mutable_data()[i] = f(at(a), at(b));
    }
    return y;
}

struct Case {
    Shape a, b, y;
};
const std::vector<Case> cases = {
    {{2, 3, 4}, {2, 3, 4}, {2, 3, 4}},
    {{2, 3, 4}, {4}, {2, 3, 4}},
    {{4}, {2, 3, 4}, {2, 3, 4}},
    {{2, 3}, {}, {2, 3}},
    {{}, {}, {}},
    {{2, 3, 4}, {2, 1, 4}, {2, 3, 4}},
    {{2, 3, 4}, {3, 1}, {2, 3, 4}},
    {{2, 1, 4}, {3, 1}, {2, 3, 4}},
    {{2, 2, 2, 3}, {2, 1, 1, 3}, {2, 2, 2, 3}},
    {{2, 3, 4}, {1, 3, 1}, {2, 3, 4}},
    {{1}, {3}, {3}},
    {{2, 0, 3}, {3}, {2, 0, 3}},
    {{2, 1}, {2, 0}, {2, 0}},
    {{0}, {}, {0}},
    {{1, 1}, {1}, {1, 1}},
};

} // namespace

TEST_CASE_TEMPLATE("add, sub, mul: values with every kind of broadcasting", T, float, double) {
    for (const auto& [sa, sb, sy] : cases) {
        const auto a = random_tensor<T>(sa, "a"), b = random_tensor<T>(sb, "b");
        const auto u = on_device(a), v = on_device(b);
        // One rounding of numbers below 2.
        check_close(add(u, v).value(),
                    reference(
                        sy, [](double p, double q) { return p + q; }, a, b),
                    1);
        check_close(sub(u, v).value(),
                    reference(
                        sy, [](double p, double q) { return p - q; }, a, b),
                    1);
        check_close(mul(u, v).value(),
                    reference(
                        sy, [](double p, double q) { return p * q; }, a, b),
                    1);
    }
}

TEST_CASE("add, sub, mul: gradients, those of repeated operands summed") {
    for (const auto& [sa, sb, sy] : cases) {
        const std::vector<Tensor<double>> inputs = {random_tensor<double>(sa, "a"), random_tensor<double>(sb, "b")};
        check_gradient([](auto& v) { return add(v[0], v[1]); }, inputs);
        check_gradient([](auto& v) { return sub(v[0], v[1]); }, inputs);
        check_gradient([](auto& v) { return mul(v[0], v[1]); }, inputs);
    }
}

TEST_CASE("add, mul: an operand used twice") {
    const auto x = random_tensor<double>({2, 3});
    check_gradient([](auto& v) { return mul(v[0], v[0]); }, {x});
    check_gradient([](auto& v) { return add(v[0], v[0]); }, {x});
    check_gradient([](auto& v) { return v[0] - v[0] * v[0]; }, {x});
}

TEST_CASE("mul: one constant operand") {
    const auto constant = on_device(random_tensor<double>({3}, "b"));
    check_gradient([&](auto& v) { return mul(v[0], constant); }, {random_tensor<double>({2, 3})});
    check_gradient([&](auto& v) { return mul(constant, v[0]); }, {random_tensor<double>({2, 3})});
}

TEST_CASE_TEMPLATE("scale and operators", T, float, double) {
    const auto x = random_tensor<T>({3, 5});
    const auto v = on_device(x);
    for (Index i = 0; i < x.size(); ++i) {
        const Index r = i / 5, c = i % 5;
        CHECK(scale(v, 0.3).value().at(r, c) == T(0.3) * x.data()[i]);
        CHECK((v * 2).value().at(r, c) == 2 * x.data()[i]);
        CHECK((2.0 * v).value().at(r, c) == 2 * x.data()[i]);
        CHECK((-v).value().at(r, c) == -x.data()[i]);
        CHECK((v + v * v - v).value().at(r, c) == doctest::Approx(static_cast<double>(x.data()[i] * x.data()[i])));
    }
    check_gradient([](auto& w) { return 3.5 * w[0]; }, {random_tensor<double>({3, 5})});
}

TEST_CASE_TEMPLATE("add, mul: same bits on 1 and 2 threads", T, float, double) {
    const std::vector<Tensor<T>> inputs = {random_tensor<T>({8, 50, 50, 3}, "a"), random_tensor<T>({8, 1, 1, 3}, "b")};
    check_repeatable([&] { return forward_and_gradients<T>([](auto& v) { return mul(v[0], v[1]); }, inputs); });
    const std::vector<Tensor<T>> vector = {inputs[0], random_tensor<T>({3}, "c")};
    check_repeatable([&] { return forward_and_gradients<T>([](auto& v) { return sub(v[0], v[1]); }, vector); });
}

TEST_CASE("add, sub, mul: shapes that do not match") {
    const auto a = on_device(Tensor<float>::ones({2, 3})), b = on_device(Tensor<float>::ones({2}));
    CHECK_THROWS_WITH_AS(
        add(a, b), "add: expected shapes that are equal or 1 along each axis, counted from the last, got [2,3] and [2]",
        ShapeError);
    CHECK_THROWS_WITH_AS(sub(a, b), doctest::Contains("sub: expected"), ShapeError);
    CHECK_THROWS_WITH_AS(mul(a, b), doctest::Contains("mul: expected"), ShapeError);
}

TEST_CASE("add, mul: channel rules couple equal last extents, never one that is repeated") {
    const auto leaf = [](const Shape& shape) { return parameter_on_device(Tensor<float>::ones(shape)); };
    const auto map = leaf({2, 4, 4, 3});
    CHECK(rule_text(add(map, leaf({2, 4, 4, 3}))) == "declared 0.-1=y.-1 1.-1=y.-1");
    CHECK(rule_text(add(map, leaf({3}))) == "declared 0.-1=y.-1 1.-1=y.-1");
    CHECK(rule_text(mul(map, leaf({2, 1, 1, 3}))) == "declared 0.-1=y.-1 1.-1=y.-1");
    CHECK(rule_text(mul(map, leaf({2, 4, 4, 1}))) == "declared 0.-1=y.-1 block 1 (repeated over all channels)");
    CHECK(rule_text(mul(leaf({1}), map)) == "declared 1.-1=y.-1 block 0 (repeated over all channels)");
    CHECK(rule_text(sub(map, leaf({1}))) == "declared 0.-1=y.-1 block 1 (repeated over all channels) moves zero");
    CHECK(rule_text(mul(map, leaf({}))) == "declared 0.-1=y.-1");
    CHECK(rule_text(add(map, leaf({}))) == "declared 0.-1=y.-1 moves zero");
    CHECK(rule_text(add(leaf({}), leaf({}))) == "declared");
    CHECK(rule_text(scale(map, 2)) == "declared 0.-1=y.-1");
}
