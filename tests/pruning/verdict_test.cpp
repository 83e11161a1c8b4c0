#include "support/check.hpp"

#include <espalier/pruning/verdict.hpp>

using namespace espalier;

TEST_CASE("verdict: shares of multiply-adds and time, and what they mean") {
    const Cost before{.macs = 200}, after{.macs = 100};
    CHECK(verdict(before, after, {4, 3.5, 5, 9}, {3, 2, 3.25, 9}) ==
          "0.50 of the MACs, 0.75 of the time (4.000 ms, 3.500 to 5.000, before; 3.000 ms, 2.000 to 3.250, after): "
          "clearly faster");
    CHECK(
        verdict(before, after, {4, 3.5, 5, 9}, {3, 2, 3.5, 9}).ends_with("but not clearly faster: the rounds overlap"));
    CHECK(verdict(before, after, {4, 3.5, 5, 9}, {6, 5.5, 7, 9}).ends_with("): smaller, and slower"));
}
