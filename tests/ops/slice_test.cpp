#include <espalier/ops/slice.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

struct Case {
    int axis;
    Index begin, end, step;
};
const std::vector<Case> cases = {{0, 0, 2, 1}, {0, 1, 2, 1},  {1, 0, 5, 2},  {1, 1, 4, 3},  {2, 1, 4, 1}, {-1, 0, 4, 3},
                                 {2, 1, 4, 2}, {-3, 1, 1, 1}, {-2, 5, 5, 1}, {-1, 2, 3, 9}, {1, 0, 4, 2}};

} // namespace

TEST_CASE_TEMPLATE("slice: values", T, float, double) {
    const auto x = random_tensor<T>({2, 5, 4});
    for (const auto& [axis, begin, end, step] : cases) {
        const int along = axis < 0 ? axis + 3 : axis;
        std::vector<T> expected;
        for (Index i = 0; i < 2; ++i)
            for (Index j = 0; j < 5; ++j)
                for (Index k = 0; k < 4; ++k) {
                    const Index at = along == 0 ? i : along == 1 ? j : k;
                    if (at >= begin && at < end && (at - begin) % step == 0) expected.push_back(x.at(i, j, k));
                }
        const auto y = slice(on_device(x), axis, begin, end, step).value();
        CHECK(y.to_vector() == expected);
        CHECK(y.size(axis) == (end - begin + step - 1) / step);
    }
    CHECK(slice(on_device(Tensor<T>(Shape{0, 2})), 0, 0, 0).shape() == Shape{0, 2});
}

TEST_CASE("slice: gradients") {
    for (const auto& c : cases)
        check_gradient([&](auto& v) { return slice(v[0], c.axis, c.begin, c.end, c.step); },
                       {random_tensor<double>({2, 5, 4})});
}

TEST_CASE_TEMPLATE("slice: same bits on 1 and 2 threads", T, float, double) {
    check_repeatable([] {
        return forward_and_gradients<T>([](auto& v) { return slice(v[0], 1, 1, 60, 2); },
                                        {random_tensor<T>({20, 61, 50})});
    });
}

TEST_CASE("slice: ranges that do not fit") {
    const auto x = on_device(Tensor<float>::ones({2, 5}));
    CHECK_THROWS_WITH_AS(slice(x, 2, 0, 1), "slice: expected an axis of [2,5], got 2", ShapeError);
    CHECK_THROWS_WITH_AS(slice(x, 1, 2, 6),
                         "slice: expected 0 <= begin <= end <= 5 and a step of at least 1 along axis 1 of [2,5], got "
                         "begin 2, end 6 and step 1",
                         ShapeError);
    CHECK_THROWS_WITH_AS(slice(x, 1, -1, 2), doctest::Contains("got begin -1"), ShapeError);
    CHECK_THROWS_WITH_AS(slice(x, 1, 3, 2), doctest::Contains("end 2"), ShapeError);
    CHECK_THROWS_WITH_AS(slice(x, 1, 0, 2, 0), doctest::Contains("step 0"), ShapeError);
}

TEST_CASE("slice: the channels between begin and end pass") {
    const auto x = parameter_on_device(Tensor<float>::ones({2, 5}));
    CHECK(rule_text(slice(x, 0, 0, 1)) == "declared 0.-1=y.-1");
    CHECK(rule_text(slice(x, 0, 0, 2, 2)) == "declared 0.-1=y.-1");
    CHECK(rule_text(slice(x, -1, 2, 4)) ==
          "declared 0.-1[2+2]=y.-1 block 0 (slice of channels by fixed numbers (es::ChannelSplit follows a cut))");
    CHECK(rule_text(slice(x, 1, 0, 5, 2)) ==
          "declared block 0 (slice of channels by fixed numbers (es::ChannelSplit follows a cut))");
}
