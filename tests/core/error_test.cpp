#include "support/check.hpp"

#include <espalier/core/error.hpp>

using namespace espalier;

TEST_CASE("expect: the text is who, expected, got, and its type is the caller's choice") {
    CHECK_NOTHROW(expect(true, "never read"));
    CHECK_THROWS_WITH_AS(
        expect(false, "op: expected ", Shape{2, 3}, ", got ", 4, " and ", 0.5, " of ", std::string("x")),
        "op: expected [2,3], got 4 and 0.5 of x", ShapeError);
    CHECK_THROWS_AS(expect<StateError>(false, "s"), StateError);
    CHECK_THROWS_AS(expect<IoError>(false, "i"), Error);
    CHECK_THROWS_AS(expect<DeviceError>(false, "d"), std::runtime_error);
}

TEST_CASE("join_text: numbers, lists and texts") {
    CHECK(join_text("a", 1, ' ', std::vector<Index>{1, 2}, std::vector<std::string>{"x"}) ==
          "a132[1,2][x]"); // a char is a number
    CHECK(join_text() == "");
    CHECK(to_text(1e-7) == "1e-07");
}
