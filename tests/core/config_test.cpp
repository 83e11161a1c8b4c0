#include "support/check.hpp"

#include <espalier/core/config.hpp>

#include <string>

TEST_CASE("config: the version as text and as a number agree") {
    const int n = ESPALIER_VERSION_NUMBER;
    CHECK(std::to_string(n / 10000) + "." + std::to_string(n / 100 % 100) + "." + std::to_string(n % 100) ==
          ESPALIER_VERSION);
}
