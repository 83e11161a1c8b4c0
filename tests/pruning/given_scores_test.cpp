#include "scores.hpp"

#include <espalier/pruning/given_scores.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE("given_scores: random scores depend on seed and name alone, and are uniform in a stream, too") {
    Chain<double> model;
    CHECK(scores(model, RandomScore{1}, "b") == scores(model, RandomScore{1}, "b"));
    CHECK(scores(model, RandomScore{1}, "b") != scores(model, RandomScore{2}, "b"));
    Residual<float> stream;
    const auto drawn = scores(stream, RandomScore{3}, "stem.conv"); // one draw, whatever number of layers makes it
    for (std::size_t c = 0; c < drawn.size(); ++c)
        CHECK(drawn[c] == Random(3, "stem.conv.weight").uniform(static_cast<std::uint64_t>(c)));
    CHECK(RandomScore{}.name() == "random");
}

TEST_CASE_TEMPLATE("given_scores: a table by the names of weights", T, float, double) {
    using Numbers = std::vector<double>;
    Chain<T> model;
    const GivenScores given{.scores = {{"b.weight", {5, 4, 3, 2, 1, 0}}}};
    CHECK(scores(model, given, "b") == Numbers{5, 4, 3, 2, 1, 0});
    CHECK(std::isnan(scores(model, given, "a.conv")[0])); // which the table does not speak of
    CHECK(given.name() == "given");
    CHECK(GivenScores{.label = "of a peer"}.name() == "of a peer");

    Residual<T> stream; // made by four layers; two of them are in the table
    const Numbers up{0, 1, 2, 3, 4, 5, 6, 7}, down{7, 6, 5, 4, 3, 2, 1, 0};
    GivenScores both{.scores = {{"stem.conv.weight", up}, {"two.b.conv.weight", down}}};
    CHECK(scores(stream, both, "stem.conv") == Numbers(8, 3.5));
    both.combine = Combine::max;
    CHECK(scores(stream, both, "stem.conv") == Numbers{7, 6, 5, 4, 4, 5, 6, 7});
    both.combine = Combine::first;
    CHECK(scores(stream, both, "stem.conv") == up);
}

TEST_CASE("given_scores: a table that does not fit the network") {
    Chain<float> model;
    const auto error = [&](const GivenScores& given) { return error_of([&] { scores(model, given, "b"); }); };
    CHECK(error({.scores = {{"c.weight", {1}}}}) ==
          "GivenScores: expected weights that make channels (a.conv.weight, b.weight, head.weight), got c.weight");
    CHECK(error({.scores = {{"b.bias", {1, 2, 3, 4, 5, 6}}}}) ==
          "GivenScores: expected weights that make channels (a.conv.weight, b.weight, head.weight), got b.bias");
    CHECK(error({.scores = {{"b.weight", {1, 2}}}}) == "GivenScores: expected 6 scores for b.weight, got 2");
    CHECK_THROWS_AS(scores(model, GivenScores{.scores = {{"b.weight", {}}}}, "b"), ShapeError);
    CHECK_THROWS_AS(scores(model, GivenScores{.scores = {{"", {}}}}, "b"), StateError);
}
