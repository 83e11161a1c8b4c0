#include <espalier/ops/pad.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

struct Case {
    std::vector<Index> before, after;
};
const std::vector<Case> cases = {{{0, 0, 0}, {0, 0, 0}},
                                 {{1, 0, 0}, {0, 0, 0}},
                                 {{0, 2, 0}, {0, 1, 0}},
                                 {{0, 0, 3}, {0, 0, 1}},
                                 {{1, 2, 3}, {3, 1, 2}}};

} // namespace

TEST_CASE_TEMPLATE("pad: values", T, float, double) {
    for (const Shape& shape : {Shape{2, 3, 4}, Shape{1, 1, 1}, Shape{2, 3, 0}}) {
        const auto x = random_tensor<T>(shape);
        for (const auto& [before, after] : cases) {
            const auto y = pad(on_device(x), before, after, 7).value();
            REQUIRE(y.shape() == Shape{shape[0] + before[0] + after[0], shape[1] + before[1] + after[1],
                                       shape[2] + before[2] + after[2]});
            for (Index i = 0; i < y.size(0); ++i)
                for (Index j = 0; j < y.size(1); ++j)
                    for (Index k = 0; k < y.size(2); ++k) {
                        const Index u = i - before[0], v = j - before[1], w = k - before[2];
                        const bool inside = u >= 0 && u < shape[0] && v >= 0 && v < shape[1] && w >= 0 && w < shape[2];
                        CHECK(y.at(i, j, k) == (inside ? x.at(u, v, w) : T(7)));
                    }
        }
    }
    CHECK(pad(on_device(Tensor<T>::scalar(3)), {}, {}).item() == 3);
}

TEST_CASE("pad: gradients") {
    for (const auto& c : cases)
        check_gradient([&](auto& v) { return pad(v[0], c.before, c.after, 1); }, {random_tensor<double>({2, 3, 4})});
}

TEST_CASE_TEMPLATE("pad: same bits on 1 and 2 threads", T, float, double) {
    check_repeatable([] {
        return forward_and_gradients<T>(
            [](auto& v) {
                return pad(v[0], {1, 0, 2}, {0, 3, 0});
            },
            {random_tensor<T>({20, 61, 50})});
    });
}

TEST_CASE("pad: counts that do not fit") {
    const auto x = on_device(Tensor<float>::ones({2, 5}));
    CHECK_THROWS_WITH_AS(pad(x, {1}, {0, 0}),
                         "pad: expected 2 counts of at least 0 before and after for [2,5], got [1] and [0,0]",
                         ShapeError);
    CHECK_THROWS_WITH_AS(pad(x, {0, 0}, {0, -1}), doctest::Contains("got [0,0] and [0,-1]"), ShapeError);
}

TEST_CASE("pad: channels move by what is in front of them") {
    const auto x = parameter_on_device(Tensor<float>::ones({2, 5}));
    CHECK(rule_text(pad(x, {0, 2}, {0, 1})) ==
          "declared 0.-1[0+5]=y.-1[2] block y[0+2] (channels that pad adds) block y[7+1] (channels that pad adds)");
    CHECK(rule_text(pad(x, {1, 0}, {0, 0})) == "declared 0.-1[0+5]=y.-1");
    CHECK(rule_text(pad(x, {1, 0}, {0, 0}, 1)) == "declared 0.-1[0+5]=y.-1 moves zero");
    CHECK(rule_text(pad(x, {0, 0}, {0, 3}, 1)) == "declared 0.-1[0+5]=y.-1 block y[5+3] (channels that pad adds)");
}
