#include "support/check.hpp"

#include <espalier/core/shape.hpp>

using namespace espalier;

TEST_CASE("shape: extents, sizes and negative axes") {
    const Shape shape{2, 3, 4};
    CHECK(shape.rank() == 3);
    CHECK(shape.size() == 24);
    CHECK(shape[-1] == 4);
    CHECK(shape.back() == 4);
    CHECK(shape.product(1, 3) == 12);
    CHECK(shape.product(1, 1) == 1);
    CHECK(Shape{}.size() == 1);
    CHECK(Shape{3, 0}.size() == 0);
    CHECK(to_text(shape) == "[2,3,4]");
    CHECK(to_text(Shape{}) == "[]");
}

TEST_CASE("shape: equal means the same extents, not the same number of elements") {
    CHECK(Shape{2, 3} == Shape{2, 3});
    CHECK(Shape{2, 3} != Shape{3, 2});
    CHECK(Shape{6} != Shape{2, 3});
    CHECK(Shape{} != Shape{1});
}

TEST_CASE("shape: more than six axes are an error") {
    Shape shape{1, 2, 3, 4, 5, 6};
    CHECK_THROWS_AS(shape.append(7), std::length_error);
}
