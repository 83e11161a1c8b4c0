#include "support/check.hpp"

#include <espalier/data/normalize.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {
ImageSet noise_set(Index n, Index channels) {
    ImageSet set{Tensor<std::uint8_t>({n, 5, 4, channels}), Tensor<Index>::zeros({n}), 1, "noise", {}};
    const Random random(2, "noise");
    for (Index i = 0; i < set.images.size(); ++i) // channel c is darker than channel c - 1
        set.images.mutable_data()[i] =
            static_cast<std::uint8_t>(random.below(256 - 60 * (i % channels), static_cast<std::uint64_t>(i)));
    return set;
}
} // namespace

TEST_CASE("measure: mean and deviation of each channel, as defined") {
    const ImageSet set = noise_set(7, 3);
    const ChannelStatistics got = measure(set);
    const Index M = set.images.size() / 3;
    for (std::size_t c = 0; c < 3; ++c) {
        double mean = 0, square = 0;
        for (Index m = 0; m < M; ++m) mean += set.images.data()[m * 3 + Index(c)] / 255.0 / double(M);
        for (Index m = 0; m < M; ++m)
            square += std::pow(set.images.data()[m * 3 + Index(c)] / 255.0 - mean, 2) / double(M);
        CHECK(std::abs(got.mean[c] - mean) <= 1e-13); // some hundred additions of numbers below 1, in double
        CHECK(std::abs(got.deviation[c] - std::sqrt(square)) <= 1e-13);
    }
}

TEST_CASE("measure: a channel of one colour has deviation 0, and an empty set is an error") {
    ImageSet set = noise_set(3, 1);
    set.images.fill(77);
    CHECK(measure(set).mean == std::vector<double>{77.0 / 255});
    CHECK(measure(set).deviation == std::vector<double>{0});
    CHECK_THROWS_WITH_AS(measure(noise_set(0, 1)), "measure: expected at least one image, got [0,5,4,1]", ShapeError);
}

TEST_CASE_TEMPLATE("colour_table: each sum of bytes is scaled and normalised, rounded once", T, float, double) {
    const ChannelStatistics statistics{{0.25, 0.5}, {0.125, 2}};
    for (const Index block : {1, 4}) {
        const auto table = colour_table<T>(statistics, 2, block);
        REQUIRE(table.shape() == Shape{2, 255 * block + 1});
        for (Index s = 0; s <= 255 * block; ++s) {
            const double p = double(s) / double(255 * block);
            CHECK(table.at(0, s) == static_cast<T>((p - 0.25) / 0.125));
            CHECK(table.at(1, s) == static_cast<T>((p - 0.5) / 2));
        }
    }
    const auto plain = colour_table<T>({}, 1, 1);
    CHECK(plain.at(0, 0) == T(0));
    CHECK(plain.at(0, 255) == T(1));
}

TEST_CASE("ChannelStatistics: those of other channels and deviations of 0 are errors") {
    const auto refuse = [](const ChannelStatistics& statistics, Index channels, const char* text) {
        CHECK_THROWS_WITH_AS(statistics.check("who", channels), Contains(text), ShapeError);
    };
    refuse({{0, 0}, {1, 1}}, 3, "who: expected statistics of 3 channels, got 2 means and 2 deviations");
    refuse({{0}, {}}, 1, "got 1 means and 0 deviations");
    refuse({{}, {1}}, 1, "got 0 means and 1 deviations");
    for (const double deviation : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()})
        refuse({{0, 0}, {1, deviation}}, 2, "expected a positive deviation, got");
    CHECK_NOTHROW(ChannelStatistics{}.check("who", 3));
    CHECK_THROWS_WITH_AS(colour_table<float>({{0, 0}, {1, 1}}, 3, 1),
                         Contains("colour_table: expected statistics of 3"), ShapeError);
}
