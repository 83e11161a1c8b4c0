#include "support/check.hpp"

#include <espalier/pruning/ranking.hpp>

using namespace espalier;
using pruning::matches;
using pruning::Normalization;
using pruning::normalized;

TEST_CASE("matches: a star is any text, a question mark one character") {
    CHECK(matches("stage1.*", "stage1.0.conv1"));
    CHECK(matches("*conv1", "stage1.0.conv1"));
    CHECK(matches("stage?.0.*1", "stage1.0.conv1"));
    CHECK(matches("*", ""));
    CHECK(matches("a*b*c", "a-b-b-c"));
    CHECK(matches("conv", "conv"));
    CHECK_FALSE(matches("conv", "conv1"));
    CHECK_FALSE(matches("conv?", "conv"));
    CHECK_FALSE(matches("stage1.*", "stage2.0.conv1"));
    CHECK_FALSE(matches("a*b*c", "a-b-b"));
    CHECK_FALSE(matches("", "a"));
}

TEST_CASE("normalized: each option against its formula") {
    const std::vector<double> s{1, 2, 5};
    CHECK(normalized(s, Normalization::none) == s);
    CHECK(normalized(s, Normalization::max) == std::vector<double>{0.2, 0.4, 1});
    CHECK(normalized(s, Normalization::sum) == std::vector<double>{0.125, 0.25, 0.625});
    CHECK(normalized(s, Normalization::standard) == std::vector<double>{0, 0.25, 1});
    const auto mean = normalized(s, Normalization::mean), gaussian = normalized(s, Normalization::gaussian);
    for (std::size_t i = 0; i < s.size(); ++i) { // one rounding a step of the formula
        CHECK(mean[i] == doctest::Approx(s[i] * 3 / 8).epsilon(1e-15));
        CHECK(gaussian[i] == doctest::Approx((s[i] - 8.0 / 3) / std::sqrt(26.0 / 6)).epsilon(1e-14));
    }
}

TEST_CASE("normalized: equal, zero, single and no scores stay finite") {
    for (const Normalization how : {Normalization::none, Normalization::mean, Normalization::max, Normalization::sum,
                                    Normalization::standard, Normalization::gaussian})
        for (const std::vector<double>& scores :
             {std::vector<double>{0, 0}, std::vector<double>{3, 3, 3}, std::vector<double>{2}, std::vector<double>{}}) {
            const auto result = normalized(scores, how);
            REQUIRE(result.size() == scores.size());
            for (const double s : result) CHECK(std::isfinite(s));
        }
}
