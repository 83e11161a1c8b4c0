#include <espalier/ops/adaptive_pool.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

#include <cmath>

using namespace espalier;
using namespace espalier::test;

namespace {

/// Mean of each window; a window begins and ends at the whole pixels around i / size and (i + 1) / size of the map.
template <class T> Tensor<double> reference(const Tensor<T>& x, Index size) {
    auto y = Tensor<double>::zeros({x.size(0), size, size, x.size(3)});
    const auto begin = [&](Index i, Index extent) {
        return static_cast<Index>(std::floor(static_cast<double>(i * extent) / static_cast<double>(size)));
    };
    const auto end = [&](Index i, Index extent) {
        return static_cast<Index>(std::ceil(static_cast<double>((i + 1) * extent) / static_cast<double>(size)));
    };
    for (Index n = 0; n < x.size(0); ++n)
        for (Index p = 0; p < size; ++p)
            for (Index q = 0; q < size; ++q)
                for (Index c = 0; c < x.size(3); ++c) {
                    double sum = 0;
                    Index pixels = 0;
                    for (Index h = begin(p, x.size(1)); h < end(p, x.size(1)); ++h)
                        for (Index w = begin(q, x.size(2)); w < end(q, x.size(2)); ++w, ++pixels)
                            sum += static_cast<double>(x.at(n, h, w, c));
                    y.set(sum / static_cast<double>(pixels), n, p, q, c);
                }
    return y;
}

struct Case {
    Shape x;
    Index size;
};
const std::vector<Case> cases = {
    {{2, 4, 6, 3}, 2}, // size divides both extents
    {{1, 5, 7, 2}, 3}, // windows overlap
    {{2, 3, 2, 5}, 7}, // smaller than the result: pixels are repeated
    {{1, 7, 7, 4}, 7}, // nothing to average
    {{2, 3, 5, 2}, 1}, // one window
    {{1, 1, 1, 1}, 1}, {{1, 1, 1, 1}, 2}, {{2, 4, 4, 0}, 3}, {{0, 4, 4, 2}, 3},
};

} // namespace

TEST_CASE_TEMPLATE("adaptive_avg_pool2d: values", T, float, double) {
    for (const auto& [shape, size] : cases) {
        const auto x = random_tensor<T>(shape);
        // one rounding a pixel of the window at most, of values below 1, and the largest window has 15
        check_close(adaptive_avg_pool2d(on_device(x), size).value(), reference(x, size), 16);
    }
}

TEST_CASE("adaptive_avg_pool2d: gradients") {
    for (const Case& c : cases)
        check_gradient([&](auto& v) { return adaptive_avg_pool2d(v[0], c.size); }, {random_tensor<double>(c.x)});
}

TEST_CASE("adaptive_avg_pool2d: a map of the wanted size, or one of its divisors, keeps its bits") {
    const auto x = random_tensor<float>({1, 7, 7, 3}), pixel = random_tensor<float>({2, 1, 1, 3});
    CHECK(same_bits(adaptive_avg_pool2d(on_device(x), 7).value(), x));
    const auto y = adaptive_avg_pool2d(on_device(pixel), 7).value();
    for (Index p = 0; p < 7; ++p)
        for (Index q = 0; q < 7; ++q) CHECK(y.at(1, p, q, 2) == pixel.at(1, 0, 0, 2));
}

TEST_CASE_TEMPLATE("adaptive_avg_pool2d: same bits on 1 and 2 threads", T, float, double) {
    const std::vector<Tensor<T>> x = {random_tensor<T>({3, 17, 16, 19})};
    check_repeatable([&] { return forward_and_gradients<T>([](auto& v) { return adaptive_avg_pool2d(v[0], 7); }, x); });
}

TEST_CASE("adaptive_avg_pool2d: operands out of range") {
    const auto x = on_device(Tensor<float>::ones({1, 4, 4, 2}));
    CHECK_THROWS_WITH_AS(adaptive_avg_pool2d(x, 0), doctest::Contains("a size of at least 1, got [1,4,4,2] and 0"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(adaptive_avg_pool2d(on_device(Tensor<float>::ones({4, 2})), 1),
                         doctest::Contains("adaptive_avg_pool2d: expected x [N,H,W,C]"), ShapeError);
    CHECK_THROWS_AS(adaptive_avg_pool2d(on_device(Tensor<float>(Shape{1, 0, 2, 3})), 1), ShapeError);
}

TEST_CASE("adaptive_avg_pool2d: channels stay") {
    CHECK(rule_text(adaptive_avg_pool2d(parameter_on_device(Tensor<float>::ones({1, 4, 4, 2})), 3)) ==
          "declared 0.-1=y.-1");
}
