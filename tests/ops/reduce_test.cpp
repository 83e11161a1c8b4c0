#include <espalier/ops/reduce.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

// sum of term(x) over the given axes (not negative), which keep extent 1.
template <class T, class F> Tensor<double> reference(const Tensor<T>& x, const std::vector<int>& axes, F term) {
    Shape kept = x.shape();
    for (const int axis : axes) kept[axis] = 1;
    auto y = Tensor<double>::zeros(kept);
    for (Index i = 0; i < x.size(); ++i) {
        Index rest = i, offset = 0, stride = 1;
        for (int axis = x.rank() - 1; axis >= 0; --axis) {
            offset += (kept[axis] == 1 ? 0 : rest % x.size(axis)) * stride;
            rest /= x.size(axis);
            stride *= kept[axis];
        }
        y.mutable_data()[offset] += term(static_cast<double>(x.data()[i]));
    }
    return y;
}

const std::vector<std::vector<int>> axis_lists = {{},     {0},    {1},    {2},       {3},       {0, 1},      {1, 2},
                                                  {2, 3}, {0, 2}, {1, 3}, {0, 1, 3}, {0, 1, 2}, {0, 1, 2, 3}};
double square(double v) { return v * v; }

} // namespace

TEST_CASE_TEMPLATE("sum, mean, norm: every set of axes", T, float, double) {
    for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{3, 1, 2, 1}, Shape{1, 4, 1, 3}, Shape{2, 0, 3, 2}}) {
        const auto x = random_tensor<T>(shape);
        const auto v = on_device(x);
        for (const auto& axes : axis_lists) {
            CAPTURE(to_text(axes));
            const auto identity = [](double u) { return u; };
            const auto magnitude = reference(x, axes, [](double u) { return std::abs(u); });
            auto total = reference(x, axes, identity), squares = reference(x, axes, square);
            // Sums are kept in double: one rounding in float, as many as there are terms (at most 120) in double.
            const double factor = std::is_same_v<T, float> ? 1 : 120;
            check_close(sum(v, axes, Keep::yes).value(), total, factor);
            check_close(norm(v, axes, Norm::l1, Keep::yes).value(), magnitude, factor);
            check_close(norm(v, axes, Norm::squared_l2, Keep::yes).value(), squares, factor);
            for (Index i = 0; i < squares.size(); ++i) squares.mutable_data()[i] = std::sqrt(squares.data()[i]);
            check_close(norm(v, axes, Norm::l2, Keep::yes).value(), squares, factor);
            const Index count = total.size() > 0 ? x.size() / total.size() : 0;
            if (count == 0) continue;
            for (Index i = 0; i < total.size(); ++i) total.mutable_data()[i] /= static_cast<double>(count);
            check_close(mean(v, axes, Keep::yes).value(), total, factor);
        }
    }
}

TEST_CASE("sum, mean, norm: gradients") {
    for (const auto& axes : axis_lists) {
        const std::vector<Tensor<double>> x = {away_from_zero<double>({2, 3, 2, 3})};
        check_gradient([&](auto& v) { return sum(v[0], axes); }, x);
        check_gradient([&](auto& v) { return mean(v[0], axes); }, x);
        check_gradient([&](auto& v) { return norm(v[0], axes, Norm::l1); }, x); // kinks are 0.1 away
        check_gradient([&](auto& v) { return norm(v[0], axes, Norm::l2); }, x);
        check_gradient([&](auto& v) { return norm(v[0], axes, Norm::squared_l2, Keep::yes); }, x);
    }
}

TEST_CASE("norm: gradients at 0 are 0") {
    for (const Norm kind : {Norm::l1, Norm::l2, Norm::squared_l2}) {
        auto x = parameter_on_device(Tensor<double>::from({2, 2}, {0, 0, 3, 4}));
        norm(x, {1}, kind).backward(Tensor<double>::ones({2}, x.device()));
        CHECK(x.grad().at(0, 0) == 0);
        CHECK(x.grad().at(0, 1) == 0);
        CHECK(x.grad().at(1, 1) == (kind == Norm::l1 ? 1.0 : kind == Norm::l2 ? 0.8 : 8.0));
    }
}

TEST_CASE("norm: the l2 norm of large floats does not overflow on the way") {
    CHECK(norm(on_device(Tensor<float>::from({2}, {3e30f, 4e30f})), Norm::l2).item() == doctest::Approx(5e30));
}

TEST_CASE("sum, mean, norm: shapes, negative axes and everything at once") {
    const auto x = on_device(random_tensor<float>({2, 3, 4}));
    CHECK(sum(x, {1}).shape() == Shape{2, 4});
    CHECK(sum(x, {1}, Keep::yes).shape() == Shape{2, 1, 4});
    CHECK(sum(x, {-1, 0}).shape() == Shape{3});
    CHECK(sum(x, {}).shape() == x.shape());
    CHECK(same_bits(sum(x, {-1}).value(), sum(x, {2}).value()));
    CHECK(sum(x).shape() == Shape{});
    CHECK(mean(x).item() == doctest::Approx(static_cast<double>(sum(x).item()) / 24));
    CHECK(norm(x, Norm::l1).shape() == Shape{});
    CHECK(sum(on_device(Tensor<float>::scalar(3))).item() == 3);
    CHECK(sum(on_device(Tensor<float>(Shape{0, 3}))).item() == 0);
    CHECK(mean(on_device(Tensor<float>(Shape{2, 3, 0})), {1}).shape() == Shape{2, 0});
}

TEST_CASE_TEMPLATE("sum, mean, norm: same bits on 1 and 2 threads", T, float, double) {
    // Just large enough that rows are split (above 32768 elements) into 2 and 3 ranges, by all axes, {0,1,2} and {1,2};
    // few rows along {3}, where each takes a block of an emulated GPU; columns past the 32 of a GPU's block.
    const std::vector<Tensor<T>> x = {random_tensor<T>({2, 4, 33, 150})};
    for (const auto& axes : {std::vector<int>{0, 1, 2, 3}, {0, 1, 2}, {1, 2}, {3}, {0, 2}}) {
        check_repeatable([&] { return forward_and_gradients<T>([&](auto& v) { return mean(v[0], axes); }, x); });
        check_repeatable(
            [&] { return forward_and_gradients<T>([&](auto& v) { return norm(v[0], axes, Norm::l2); }, x); });
    }
}

TEST_CASE("sum, mean, norm: axes that are not there, named twice, or empty") {
    const auto x = on_device(Tensor<float>(Shape{2, 0, 4}));
    CHECK_THROWS_WITH_AS(sum(x, {3}), "sum: expected axes of [2,0,4], got 3", ShapeError);
    CHECK_THROWS_WITH_AS(mean(x, {-4}), "mean: expected axes of [2,0,4], got -4", ShapeError);
    CHECK_THROWS_WITH_AS(norm(x, {0, -3}, Norm::l1), "norm: expected each axis once, got [0,-3]", ShapeError);
    CHECK_THROWS_WITH_AS(mean(x, {1}), "mean: expected at least one element along axes [1], got [2,0,4]", ShapeError);
}

TEST_CASE("sum, mean, norm: channels pass unless they are reduced") {
    const auto x = parameter_on_device(Tensor<float>::ones({2, 4, 4, 3}));
    CHECK(rule_text(sum(x, {1, 2})) == "declared 0.-1=y.-1");
    CHECK(rule_text(mean(x, {0, 1, 2}, Keep::yes)) == "declared 0.-1=y.-1");
    CHECK(rule_text(sum(x, {3})) == "declared");
    CHECK(rule_text(mean(x, {-1})) == "declared block 0 (mean over channels)");
    CHECK(rule_text(norm(x, Norm::l2)) == "declared block 0 (norm over channels)");
    CHECK(rule_text(sum(parameter_on_device(Tensor<float>::scalar(1)))) == "declared");
}
