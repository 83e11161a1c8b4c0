#include <espalier/pruning/schedule.hpp>

#include "support/check.hpp"

using namespace espalier;
using pruning::Decline;
using pruning::share_kept;

TEST_CASE("share_kept: each decline starts at 1, falls, and ends at the target exactly") {
    for (const Decline decline : {Decline::linear, Decline::cubic, Decline::geometric})
        for (const double target : {0.0, 0.1, 0.3, 0.7, 1.0})
            for (const Index steps : {1, 2, 7, 10}) {
                CHECK(share_kept(target, 0, {steps, decline}) == 1);
                CHECK(share_kept(target, steps, {steps, decline}) == target);
                for (Index i = 1; i <= steps; ++i)
                    CHECK(share_kept(target, i, {steps, decline}) <= share_kept(target, i - 1, {steps, decline}));
            }
}

TEST_CASE("share_kept: values by hand") {
    CHECK(share_kept(0.2, 1, {4, Decline::linear}) == doctest::Approx(0.8));
    CHECK(share_kept(0.2, 1, {2, Decline::cubic}) == doctest::Approx(0.2 + 0.8 / 8)); // an eighth of the way is left
    CHECK(share_kept(0.25, 1, {2, Decline::geometric}) == doctest::Approx(0.5));
    CHECK(share_kept(0.125, 2, {3, Decline::geometric}) == doctest::Approx(0.25));
    CHECK_THROWS_WITH_AS(share_kept(1.5, 0, {}), "share_kept: expected a target in [0,1], got 1.5", ShapeError);
    CHECK_THROWS_WITH_AS(share_kept(0.5, 0, {.steps = 0}), "share_kept: expected at least 1 step, got 0", ShapeError);
    CHECK_THROWS_WITH_AS(share_kept(0.5, 3, {.steps = 2}), "share_kept: expected a step in [0,2], got 3", ShapeError);
}
