#include "support/check.hpp"
#include "support/rule_text.hpp"

#include <espalier/io/module_state.hpp>
#include <espalier/nn/channel_split.hpp>
#include <espalier/ops/concat.hpp>
#include <espalier/ops/math.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

TEST_CASE_TEMPLATE("ChannelSplit: ranges one behind the other, put together again the same", T, float, double) {
    const ChannelSplit<T> split({2, 1, 3});
    CHECK(split.parameter_count() == 0);
    for (const Shape& shape : {Shape{2, 3, 1, 6}, Shape{4, 6}, Shape{0, 6}, Shape{6}}) {
        const Tensor<T> x = random_tensor<T>(shape);
        const std::vector<Var<T>> parts = split.forward(Var<T>(x));
        REQUIRE(parts.size() == 3);
        CHECK(parts[0].size(-1) == 2);
        CHECK(parts[1].size(-1) == 1);
        CHECK(parts[2].size(-1) == 3);
        CHECK(same_bits(concat(parts, -1).value(), x));
    }
    const auto y = split.forward(Var<T>(Tensor<T>::from({6}, {0, 1, 2, 3, 4, 5})));
    CHECK(same_bits(y[2].value(), Tensor<T>::from({3}, {3, 4, 5})));
}

TEST_CASE("ChannelSplit: gradients") {
    const ChannelSplit<double> split({2, 3});
    check_gradient(
        [&](auto& v) {
            const auto parts = split.forward(v[0]);
            return concat<double>({exp(parts[1]), parts[0]}, -1);
        },
        {random_tensor<double>({2, 2, 2, 5})});
}

TEST_CASE_TEMPLATE("ChannelSplit: same bits on 1 and 2 threads", T, float, double) {
    const ChannelSplit<T> split({17, 14});
    check_repeatable([&] {
        return forward_and_gradients<T>([&](auto& v) { return split.forward(v[0])[1]; }, {random_tensor<T>({40, 31})});
    });
}

TEST_CASE("ChannelSplit: channel rule, and ranges that surgery has renumbered or a file holds") {
    const ChannelSplit<float> split({2, 3}), other({2, 3});
    const Var<float> x = parameter(random_tensor<float>({1, 5}));
    const auto parts = split.forward(x);
    CHECK(rule_text(parts[0]) == "declared 0.-1[0+2]=y.-1");
    CHECK(rule_text(parts[1]) == "declared 0.-1[2+3]=y.-1");
    const auto joins = split.joins();
    REQUIRE(joins.size() == 2);
    CHECK(parts[1].node()->join == joins[1].join);
    joins[0].join->kept = {0};
    joins[1].join->kept = {1, 2};
    CHECK(split.forward(Var<float>(Tensor<float>::from({3}, {7, 8, 9})))[1].value().at(0) == 8);
    TensorFile file;
    save_state(file, split);
    load_state(file, other);
    CHECK(other.joins()[1].join->kept == std::vector<Index>{1, 2});
    joins[1].join->kept = {};
    joins[0].join->kept = {0, 1, 2};
    CHECK(split.forward(Var<float>(Tensor<float>({4, 3})))[1].shape() == Shape{4, 0}); // none is left
    joins[1].join->kept = {1, 2};
    joins[0].join->kept = {0, 2, 3};
    CHECK_THROWS_WITH_AS(split.forward(x), Contains("expected consecutive channels of [1,5], got [0,2,3]"), ShapeError);
}

TEST_CASE("ChannelSplit: sizes that do not fit") {
    CHECK_THROWS_WITH_AS(ChannelSplit<float>({}), Contains("expected ranges of at least one channel, got []"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(ChannelSplit<float>({2, 0}), Contains("got [2,0]"), ShapeError);
    const ChannelSplit<float> split({2, 3});
    CHECK_THROWS_WITH_AS(split.forward(Var<float>(Tensor<float>({1, 4}))), "ChannelSplit: expected x [..,5], got [1,4]",
                         ShapeError);
    CHECK_THROWS_WITH_AS(split.forward(Var<float>(Tensor<float>(Shape{}))), Contains("got []"), ShapeError);
}
