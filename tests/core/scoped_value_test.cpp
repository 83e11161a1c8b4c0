#include "support/check.hpp"

#include <espalier/core/scoped_value.hpp>

using namespace espalier;

TEST_CASE("ScopedValue: another value until the end of the scope, an error included") {
    int value = 1;
    {
        const ScopedValue<int> outer(value, 2);
        CHECK(value == 2);
        {
            const ScopedValue<int> inner(value, 3);
            CHECK(value == 3);
        }
        CHECK(value == 2);
        try {
            const ScopedValue<int> failing(value, 4);
            throw 0;
        } catch (int) {}
        CHECK(value == 2);
    }
    CHECK(value == 1);
}
