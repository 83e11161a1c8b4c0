#include "networks.hpp"

#include <espalier/pruning/latency.hpp>

using namespace espalier;
using namespace espalier::test;

// Counts its forward passes and remembers how they were run.
struct Counted : Chain<float> {
    Var<float> forward(const Var<float>& x) {
        ++calls;
        shape = x.shape();
        mode_seen = mode();
        recorded = recorded || x.needs_grad();
        return Chain<float>::forward(x);
    }
    Index calls = 0;
    Shape shape;
    Mode mode_seen = Mode::training;
    bool recorded = false;
};

TEST_CASE("measure_latency: rounds of the given batch in inference mode, after one that warms up") {
    Counted model;
    const Latency latency = measure_latency(model, {6, 6, 3}, {.batch = 2, .rounds = 5, .seconds = 1000});
    CHECK(latency.rounds == 5);
    CHECK(model.calls == 6);
    CHECK(model.shape == Shape{2, 6, 6, 3});
    CHECK(model.mode_seen == Mode::inference);
    CHECK_FALSE(model.recorded);
    CHECK(model.mode() == Mode::training);
    CHECK((0 < latency.lowest && latency.lowest <= latency.median && latency.median <= latency.highest));
}

TEST_CASE("measure_latency: stops after the given time, but not before three rounds") {
    Counted model;
    CHECK(measure_latency(model, {6, 6, 3}, {.rounds = 1000, .seconds = 0}).rounds == 3);
}

TEST_CASE("compare_latency: both networks in turns, as often") {
    Counted one, two;
    const auto [before, after] = compare_latency(one, two, {6, 6, 3}, {.rounds = 4, .seconds = 1000});
    CHECK(before.rounds == 4);
    CHECK(after.rounds == 4);
    CHECK(one.calls == 5);
    CHECK(two.calls == 5);
    CHECK(two.mode_seen == Mode::inference);
}

TEST_CASE("measure_latency: options out of range are an error") {
    Counted model;
    CHECK_THROWS_WITH_AS(measure_latency(model, {6, 6, 3}, {.rounds = 2}),
                         "measure_latency: expected a batch of at least 1 and at least 3 rounds, got 1 and 2",
                         ShapeError);
    CHECK(model.calls == 0);
}

TEST_CASE("clearly_faster: only when every round beats every round") {
    CHECK(clearly_faster({.median = 5, .lowest = 4, .highest = 6}, {.median = 3, .lowest = 2, .highest = 3.9}));
    CHECK_FALSE(clearly_faster({.median = 5, .lowest = 4, .highest = 6}, {.median = 3, .lowest = 2, .highest = 4}));
}
