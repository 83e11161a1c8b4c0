#include "support/check.hpp"

#include <espalier/train/schedule.hpp>

using namespace espalier;

TEST_CASE("schedule: multi-step multiplies at each milestone") {
    const Schedule rate = schedules::multi_step({.learning_rate = 1, .milestones = {10, 20}, .factor = 0.5});
    CHECK(rate(0) == 1);
    CHECK(rate(9) == 1);
    CHECK(rate(10) == 0.5);
    CHECK(rate(19) == 0.5);
    CHECK(rate(1000) == 0.25);
    CHECK(schedules::constant(0.3)(77) == 0.3);
    CHECK_THROWS_WITH_AS(schedules::multi_step({.milestones = {2, 1}}), doctest::Contains("got [2,1]"), ShapeError);
}

TEST_CASE("schedule: cosine falls from the first rate to the last, is half-way in the middle, and stays") {
    const Schedule rate = schedules::cosine({.learning_rate = 1, .steps = 100, .last = 0.2});
    CHECK(rate(0) == 1);
    CHECK(rate(50) == doctest::Approx(0.6));
    CHECK(rate(100) == doctest::Approx(0.2));
    CHECK(rate(500) == doctest::Approx(0.2));
    CHECK_THROWS_WITH_AS(schedules::cosine({.steps = 0}), doctest::Contains("at least 1 step"), ShapeError);
}

TEST_CASE("schedule: one cycle rises to the peak and falls to nearly nothing") {
    const Schedule rate = schedules::one_cycle({.learning_rate = 1, .steps = 100});
    CHECK(rate(0) == doctest::Approx(0.04));
    CHECK(rate(29) == doctest::Approx(1));
    CHECK(rate(99) == doctest::Approx(4e-6));
    CHECK(rate(1000) == doctest::Approx(4e-6));
    for (Index step = 0; step < 29; ++step) CHECK(rate(step) < rate(step + 1));
    for (Index step = 29; step < 99; ++step) CHECK(rate(step) > rate(step + 1));
    CHECK_THROWS_WITH_AS(schedules::one_cycle({.steps = 3}), doctest::Contains("0.3 of 3 steps"), ShapeError);
}

TEST_CASE("schedule: warm-up is a line into the schedule that follows") {
    const Schedule after = schedules::multi_step({.learning_rate = 1, .milestones = {6}, .factor = 0.5});
    const Schedule rate = schedules::warm_up({.steps = 4, .from = 0.2}, after);
    CHECK(rate(0) == doctest::Approx(0.2));
    CHECK(rate(2) == doctest::Approx(0.6));
    CHECK(rate(4) == 1);
    CHECK(rate(6) == 0.5);
    CHECK(schedules::warm_up({}, after)(0) == 1);
    CHECK_THROWS_WITH_AS(schedules::warm_up({.steps = -1}, after), doctest::Contains("got -1"), ShapeError);
}
