#include <espalier/ops/pool.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

#include <limits>

using namespace espalier;
using namespace espalier::test;

namespace {

// Calls f(window's y index n,p,q,c; x value) for each tap in the map, for windows of any kind.
template <class T, class F> Tensor<double> reference(const Tensor<T>& x, const PoolOptions& o, double start, F f) {
    const Index stride = o.stride ? o.stride : o.size;
    const Index P = (x.size(1) + 2 * o.padding - o.size) / stride + 1;
    const Index Q = (x.size(2) + 2 * o.padding - o.size) / stride + 1;
    auto y = Tensor<double>::full({x.size(0), P, Q, x.size(3)}, start);
    for (Index n = 0; n < x.size(0); ++n)
        for (Index p = 0; p < P; ++p)
            for (Index q = 0; q < Q; ++q)
                for (Index c = 0; c < x.size(3); ++c)
                    for (Index r = 0; r < o.size; ++r)
                        for (Index s = 0; s < o.size; ++s) {
                            const Index h = p * stride + r - o.padding, w = q * stride + s - o.padding;
                            if (h < 0 || h >= x.size(1) || w < 0 || w >= x.size(2)) continue;
                            y.set(f(y.at(n, p, q, c), static_cast<double>(x.at(n, h, w, c))), n, p, q, c);
                        }
    return y;
}

// All elements differ by at least 0.01, in a scrambled order: no finite difference changes a maximum.
Tensor<double> distinct(const Shape& shape) {
    Tensor<double> x(shape);
    const auto order = Random(3, "order").permutation(x.size());
    for (Index i = 0; i < x.size(); ++i)
        x.mutable_data()[i] = 0.01 * static_cast<double>(order[static_cast<std::size_t>(i)]) - 1;
    return x;
}

struct Case {
    Shape x;
    PoolOptions options;
};
const std::vector<Case> cases = {
    {{2, 4, 6, 3}, {}},
    {{2, 5, 7, 3}, {.size = 2}},                            // a row and a column that no window reaches
    {{1, 7, 6, 9}, {.size = 3, .stride = 2, .padding = 1}}, // overlapping, padded
    {{2, 4, 5, 1}, {.size = 3, .stride = 1, .padding = 1}}, // as many windows as pixels
    {{1, 6, 6, 2}, {.size = 2, .stride = 3}},               // pixels between windows
    {{1, 3, 2, 2}, {.size = 4, .stride = 2, .padding = 2}}, // windows larger than the map
    {{1, 3, 3, 4}, {.size = 1, .stride = 2}},
    {{1, 1, 1, 1}, {.size = 1}},
    {{2, 4, 4, 0}, {}},
    {{0, 4, 4, 2}, {}},
};

} // namespace

TEST_CASE_TEMPLATE("max_pool2d, avg_pool2d: values", T, float, double) {
    for (const auto& [shape, options] : cases) {
        const auto x = random_tensor<T>(shape);
        const double area = static_cast<double>(options.size * options.size);
        const auto largest = reference(x, options, -std::numeric_limits<double>::infinity(),
                                       [](double a, double b) { return std::max(a, b); });
        const auto average = reference(x, options, 0, [area](double a, double b) { return a + b / area; });
        check_close(max_pool2d(on_device(x), options).value(), largest, 0);
        check_close(avg_pool2d(on_device(x), options).value(), average, area); // at most one rounding a tap
    }
}

TEST_CASE("max_pool2d, avg_pool2d: gradients") {
    for (const Case& c : cases) {
        check_gradient([&](auto& v) { return max_pool2d(v[0], c.options); }, {distinct(c.x)});
        check_gradient([&](auto& v) { return avg_pool2d(v[0], c.options); }, {distinct(c.x)});
    }
}

TEST_CASE_TEMPLATE("max_pool2d: ties go to the first, NaN and -infinity go through", T, float, double) {
    const T nan_ = std::numeric_limits<T>::quiet_NaN(), low = -std::numeric_limits<T>::infinity();
    auto x = parameter_on_device(Tensor<T>::from({1, 2, 8, 1}, {1, 1, 2, nan_, nan_, 3, low, low, //
                                                                1, 1, 5, 4, nan_, 2, low, low}));
    const auto y = max_pool2d(x);
    CHECK(y.value().at(0, 0, 0, 0) == 1);
    CHECK(std::isnan(y.value().at(0, 0, 1, 0)));
    CHECK(std::isnan(y.value().at(0, 0, 2, 0)));
    CHECK(y.value().at(0, 0, 3, 0) == low);
    y.backward(to_device(Tensor<T>::from({1, 1, 4, 1}, {1, 2, 3, 4})));
    CHECK(x.grad().to_vector() == std::vector<T>{1, 0, 0, 2, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("max_pool2d: padding never wins over negative numbers") {
    const auto x = on_device(Tensor<float>::full({1, 2, 2, 1}, -3));
    const auto y = max_pool2d(x, {.size = 3, .stride = 1, .padding = 1}).value();
    CHECK(y.to_vector() == std::vector<float>(4, -3));
}

TEST_CASE("avg_pool2d: padding counts") {
    const auto x = on_device(Tensor<float>::ones({1, 2, 2, 1}));
    CHECK(avg_pool2d(x, {.size = 4, .padding = 1}).value().item() == 0.25f);
}

TEST_CASE_TEMPLATE("global_avg_pool, global_max_pool", T, float, double) {
    for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{1, 1, 1, 1}, Shape{3, 4, 4, 0}, Shape{0, 2, 2, 3}}) {
        const auto x = random_tensor<T>(shape);
        auto average = Tensor<double>::zeros({shape[0], shape[3]});
        auto largest = Tensor<double>::full({shape[0], shape[3]}, -2);
        for (Index i = 0; i < x.size(); ++i) {
            const Index at = i / (shape[1] * shape[2] * shape[3]) * shape[3] + i % shape[3];
            const auto v = static_cast<double>(x.data()[i]);
            average.mutable_data()[at] += v / static_cast<double>(shape[1] * shape[2]);
            largest.mutable_data()[at] = std::max(largest.data()[at], v);
        }
        check_close(global_avg_pool(on_device(x)).value(), average, 16); // one rounding a pixel at most
        check_close(global_max_pool(on_device(x)).value(), largest, 0);
        check_gradient([](auto& v) { return global_avg_pool(v[0]); }, {distinct(shape)});
        check_gradient([](auto& v) { return global_max_pool(v[0]); }, {distinct(shape)});
    }
}

TEST_CASE_TEMPLATE("pooling: same bits on 1 and 2 threads", T, float, double) {
    const std::vector<Tensor<T>> x = {random_tensor<T>({3, 17, 16, 19})};
    const PoolOptions overlapping{.size = 3, .stride = 2, .padding = 1};
    check_repeatable(
        [&] { return forward_and_gradients<T>([&](auto& v) { return max_pool2d(v[0], overlapping); }, x); });
    check_repeatable(
        [&] { return forward_and_gradients<T>([&](auto& v) { return avg_pool2d(v[0], overlapping); }, x); });
    check_repeatable([&] { return forward_and_gradients<T>([](auto& v) { return global_avg_pool(v[0]); }, x); });
    check_repeatable([&] { return forward_and_gradients<T>([](auto& v) { return global_max_pool(v[0]); }, x); });
}

TEST_CASE("pooling: operands and options out of range") {
    const auto x = on_device(Tensor<float>::ones({1, 4, 4, 2})), flat = on_device(Tensor<float>::ones({4, 2}));
    CHECK_THROWS_WITH_AS(max_pool2d(flat), "max_pool2d: expected x [N,H,W,C], got [4,2]", ShapeError);
    CHECK_THROWS_WITH_AS(avg_pool2d(flat), doctest::Contains("avg_pool2d: expected x [N,H,W,C]"), ShapeError);
    CHECK_THROWS_WITH_AS(max_pool2d(x, {.size = 5}), doctest::Contains("at least one window of 5"), ShapeError);
    CHECK_THROWS_WITH_AS(max_pool2d(x, {.size = 0}), doctest::Contains("got size 0"), ShapeError);
    CHECK_THROWS_WITH_AS(max_pool2d(x, {.size = 2, .padding = 2}), doctest::Contains("at most half the size"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(max_pool2d(x, {.size = 2, .stride = -1}), doctest::Contains("stride -1"), ShapeError);
    CHECK_THROWS_WITH_AS(global_avg_pool(flat), doctest::Contains("global_avg_pool: expected x"), ShapeError);
    CHECK_THROWS_WITH_AS(global_max_pool(on_device(Tensor<float>(Shape{1, 0, 2, 3}))),
                         doctest::Contains("got [1,0,2,3]"), ShapeError);
}

TEST_CASE("pooling: channels stay") {
    const auto x = parameter_on_device(Tensor<float>::ones({1, 4, 4, 2}));
    for (const auto& y : {max_pool2d(x), avg_pool2d(x), global_avg_pool(x), global_max_pool(x)})
        CHECK(rule_text(y) == "declared 0.-1=y.-1");
}
