#include "support/check.hpp"

#include <espalier/ops/place.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {
template <class T> std::shared_ptr<JoinState<T>> places(std::vector<Index> kept) {
    auto state = std::make_shared<JoinState<T>>();
    state->kept = std::move(kept);
    return state;
}
template <class T>
Tensor<double> reference(const Tensor<T>& x, const std::vector<Index>& kept, Index width, Index stride) {
    const Index N = x.size(0), P = (x.size(1) + stride - 1) / stride, Q = (x.size(2) + stride - 1) / stride;
    auto y = Tensor<double>::zeros({N, P, Q, width});
    for (Index n = 0; n < N; ++n)
        for (Index p = 0; p < P; ++p)
            for (Index q = 0; q < Q; ++q)
                for (Index c = 0; c < x.size(3); ++c)
                    y.set(static_cast<double>(x.at(n, p * stride, q * stride, c)), n, p, q,
                          kept[static_cast<std::size_t>(c)]);
    return y;
}
} // namespace

TEST_CASE_TEMPLATE("place: values, gradients and the same bits on any thread count", T, float, double) {
    struct Case {
        Shape x;
        std::vector<Index> kept;
        Index width, stride;
    };
    const std::vector<Case> cases{
        {{2, 4, 6, 2}, {1, 2}, 4, 2}, {{1, 5, 3, 3}, {0, 2, 5}, 6, 2}, {{2, 3, 3, 2}, {0, 1}, 2, 1},
        {{1, 7, 7, 1}, {3}, 4, 3},    {{1, 1, 1, 1}, {0}, 1, 1},       {{1, 2, 2, 0}, {}, 3, 2},
        {{0, 4, 4, 2}, {0, 1}, 3, 2}, {{1, 2, 2, 0}, {}, 0, 1},        {{5, 16, 16, 4}, {2, 3, 4, 5}, 8, 2}};
    for (const Case& c : cases) {
        const auto state = places<T>(c.kept);
        const Tensor<T> x = random_tensor<T>(c.x);
        check_close(place(on_device(x), state, c.width, c.stride).value(), reference(x, c.kept, c.width, c.stride), 0);
        check_repeatable([&] {
            return forward_and_gradients<T>([&](auto& v) { return place(v[0], state, c.width, c.stride); }, {x});
        });
        if (x.size() > 0 && x.size() < 200)
            check_gradient([&](auto& v) { return place(v[0], places<double>(c.kept), c.width, c.stride); },
                           {random_tensor<double>(c.x)});
    }
}

TEST_CASE("place: the rule names each channel's place, and surgery finds the state") {
    const auto state = places<float>({1, 3});
    const auto x = parameter_on_device(random_tensor<float>({1, 2, 2, 2}));
    const auto y = place(x, state, 4, 2);
    CHECK(y.node()->join == state);
    CHECK(y.node()->inputs[1] == x.node());
    const auto& links = y.node()->rule.links();
    REQUIRE(links.size() == 2);
    for (std::size_t c = 0; c < 2; ++c) {
        CHECK(links[c].operand == 1);
        CHECK(links[c].other == ChannelRule::output);
        CHECK(links[c].begin == static_cast<Index>(c));
        CHECK(links[c].other_begin == state->kept[c]);
        CHECK(links[c].count == 1);
        CHECK_FALSE(links[c].joined);
    }
    CHECK(y.node()->rule.keeps_zero());
}

TEST_CASE_TEMPLATE("place: what does not fit is an error", T, float, double) {
    const auto x = on_device(random_tensor<T>({1, 2, 2, 2}));
    const auto fails = [&](const Var<T>& operand, const std::vector<Index>& kept, Index width, Index stride,
                           const char* text) {
        CHECK_THROWS_WITH_AS(place(operand, places<T>(kept), width, stride), doctest::Contains(text), ShapeError);
    };
    fails(on_device(random_tensor<T>({2, 2})), {0, 1}, 4, 1, "place: expected x [N,H,W,C]");
    fails(x, {0, 1}, 4, 0, "stride of at least 1");
    fails(x, {0}, 4, 1, "expected 2 ascending channels below 4 for x [1,2,2,2], got [0]");
    fails(x, {0, 4}, 4, 1, "ascending channels below 4");
    fails(x, {1, 1}, 4, 1, "ascending");
    fails(x, {-1, 1}, 4, 1, "ascending");
}
