#include "support/check.hpp"

#include <espalier/ops/concat.hpp>
#include <espalier/ops/conv2d.hpp>
#include <espalier/ops/pad.hpp>
#include <espalier/ops/reduce.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE("attributes: numbers by name, lists in order") {
    Attributes attributes{{"stride", Index(2)}, {"axis", 1}, {"axis", 3}, {"mode", Gradient::wanted}};
    CHECK(attributes.index("stride") == 2);
    CHECK(attributes.list("axis") == std::vector<Index>{1, 3});
    CHECK(attributes.index("mode") == 1);
    CHECK(attributes.list("none").empty());
    CHECK_THROWS_WITH_AS(attributes.number("none"), "Attributes: expected a number named none, got none", StateError);
    for (std::size_t i = 4; i < Attributes::capacity; ++i) attributes.add({"more", 0.5});
    CHECK_THROWS_AS(attributes.add({"more", 0.5}), std::length_error);
}

TEST_CASE("attributes: what ops state when they record") {
    const auto x = parameter(random_tensor<float>({2, 5, 5, 4})), w = parameter(random_tensor<float>({4, 3, 3, 2}));
    const auto conv = conv2d(x, w, {.stride = 2, .padding = 1, .groups = 2});
    CHECK(conv.node()->attributes.index("stride") == 2);
    CHECK(conv.node()->attributes.index("padding") == 1);
    CHECK(conv.node()->attributes.index("dilation") == 1);
    CHECK(conv.node()->attributes.index("groups") == 2);
    CHECK(concat({x, x}, -1).node()->attributes.index("axis") == 3); // negative axes are resolved
    CHECK(mean(x, {-2, 1}).node()->attributes.list("axis") == std::vector<Index>{1, 2});
    const auto padded = pad(x, {0, 1, 2, 0}, {0, 0, 0, 3}, -1.5);
    CHECK(padded.node()->attributes.list("before") == std::vector<Index>{0, 1, 2, 0});
    CHECK(padded.node()->attributes.number("value") == -1.5);
}
