#include "scores.hpp"

#include <espalier/pruning/group_criteria.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {
using Numbers = std::vector<double>;
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
} // namespace

TEST_CASE("group_criteria: distances of three points by hand") {
    // (0,0) to (3,4): 5; (0,0) to (0,8): 8; (3,4) to (0,8): 5
    CHECK(pruning::distance_sums({{0, 0}, {3, 4}, {0, 8}}) == Numbers{13, 10, 13});
    CHECK(pruning::distance_sums({{7, 7}}) == Numbers{0});
    CHECK(pruning::distance_sums({}).empty());
    for (const double sum : pruning::distance_sums({{not_a_number}, {1}, {2}}))
        CHECK(std::isnan(sum)); // far from all others
}

TEST_CASE("group_criteria: shares of what is left by hand") {
    // ascending 1, 3, 4: 1 of 8, 3 of 7, 4 of 4
    CHECK(pruning::lamp_scores({1, 4, 3}) == Numbers{1.0 / 8, 1, 3.0 / 7});
    CHECK(pruning::lamp_scores({2, 2}) == Numbers{0.5, 1}); // equal ones in their order
    CHECK(pruning::lamp_scores({0, 5, 0}) == Numbers{0, 1, 0});
    CHECK(pruning::lamp_scores({0, 0}) == Numbers{0, 0});
    CHECK(pruning::lamp_scores({}).empty());
    for (const double score : pruning::lamp_scores({1, not_a_number, 2})) CHECK(std::isnan(score));
}

TEST_CASE_TEMPLATE("group_criteria: geometric median of filters, and of what eats them", T, float, double) {
    Chain<T> model;
    const auto filters = model.a.conv.weight.value(), eaters = model.b.weight.value(); // [8,3,3,3], [6,3,3,8]
    const auto made = scores(model, GeometricMedian{}, "a.conv");
    const auto both = scores(
        model, GeometricMedian{.roles = {ChannelRole::makes, ChannelRole::eats}, .combine = Combine::sum}, "a.conv");
    REQUIRE(made.size() == 8);
    for (Index i = 0; i < 8; ++i) {
        double of_filters = 0, of_inputs = 0;
        for (Index j = 0; j < 8; ++j) {
            double square = 0;
            for (Index e = 0; e < 27; ++e)
                square += std::pow(static_cast<double>(filters.data()[i * 27 + e]) -
                                       static_cast<double>(filters.data()[j * 27 + e]),
                                   2);
            of_filters += std::sqrt(square);
            square = 0;
            for (Index e = 0; e < 54; ++e)
                square += std::pow(
                    static_cast<double>(eaters.data()[e * 8 + i]) - static_cast<double>(eaters.data()[e * 8 + j]), 2);
            of_inputs += std::sqrt(square);
        }
        CHECK(made[static_cast<std::size_t>(i)] == doctest::Approx(of_filters));
        CHECK(both[static_cast<std::size_t>(i)] == doctest::Approx(of_filters + of_inputs));
    }
}

TEST_CASE("group_criteria: a filter among its like goes, however large") {
    Chain<double> model;
    for (Index k = 0; k < 8; ++k)
        fill_filter(model.a.conv.weight, k, k < 5 ? 3.0 + 0.001 * double(k) : 0.1 * double(k - 6));
    const auto median = scores(model, GeometricMedian{}, "a.conv");
    CHECK(*std::max_element(median.begin(), median.begin() + 5) < *std::min_element(median.begin() + 5, median.end()));
}

TEST_CASE_TEMPLATE("group_criteria: lamp of a network", T, float, double) {
    Chain<T> model;
    for (Index k = 0; k < 6; ++k) fill_filter(model.b.weight, k, T(k)); // squares: 72 k^2, sum 72 * 55
    const auto lamp = scores(model, Lamp{}, "b");
    for (const auto& [k, expected] :
         {std::pair(0, 0.0), {1, 1.0 / 55}, {2, 4.0 / 54}, {3, 9.0 / 50}, {4, 16.0 / 41}, {5, 1.0}})
        CHECK(lamp[static_cast<std::size_t>(k)] == doctest::Approx(expected));
    model.b.weight.mutable_value().set(std::numeric_limits<T>::quiet_NaN(), 0, 0, 0, 0);
    CHECK(std::isnan(scores(model, Lamp{}, "b")[5])); // nothing can be said of this group,
    CHECK(scores(model, Lamp{}, "a.conv")[0] > 0);    // but of others
}

TEST_CASE("group_criteria: a stream is combined before it is ranked by lamp, and after distances are added up") {
    Residual<double> model;
    const auto squares = scores(model, FilterNorm{.norm = SliceNorm::squared_l2, .combine = Combine::max}, "stem.conv");
    CHECK(scores(model, Lamp{.combine = Combine::max}, "stem.conv") == pruning::lamp_scores(squares));
    const auto sum = scores(model, GeometricMedian{.combine = Combine::sum}, "stem.conv");
    const auto mean = scores(model, GeometricMedian{}, "stem.conv");
    for (std::size_t c = 0; c < 8; ++c) CHECK(sum[c] == doctest::Approx(4 * mean[c]));
    OneFilter<double> one;
    CHECK(scores(one, GeometricMedian{}, "a.conv") == Numbers{0});
    CHECK(scores(one, Lamp{}, "a.conv") == Numbers{1});
    CHECK(std::isnan(scores(model, Lamp{.roles = {ChannelRole::rides}}, "stem.conv")[0]));
    CHECK(std::isnan(scores(model, GeometricMedian{.roles = {ChannelRole::rides}}, "stem.conv")[0]));
}

TEST_CASE("group_criteria: names, and the same bits on any number of threads") {
    CHECK(GeometricMedian{}.name() == "geometric median");
    CHECK(GeometricMedian{.roles = {ChannelRole::eats}}.name() == "geometric median of eats, mean");
    CHECK(Lamp{}.name() == "lamp");
    CHECK(Lamp{.combine = Combine::sum}.name() == "lamp of makes, sum");
    Residual<float> model;
    check_repeatable([&] { return all_scores(model, GeometricMedian{}); });
    check_repeatable([&] { return all_scores(model, Lamp{}); });
}
