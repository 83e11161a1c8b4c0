#include "support/check.hpp"

#include <espalier/data/synthetic.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {

/// Fraction of `test` whose nearest class mean, over the images of `train`, is the right one.
double nearest_mean_accuracy(const ImageSet& train, const ImageSet& test) {
    const Index pixels = train.images.shape().product(1, 4);
    std::vector<std::vector<double>> sums(std::size_t(train.classes), std::vector<double>(std::size_t(pixels)));
    std::vector<double> count(std::size_t(train.classes));
    for (Index i = 0; i < train.size(); ++i) {
        const auto k = std::size_t(train.labels.at(i));
        ++count[k];
        for (Index p = 0; p < pixels; ++p) sums[k][std::size_t(p)] += train.images.data()[i * pixels + p];
    }
    Index right = 0;
    for (Index i = 0; i < test.size(); ++i) {
        std::vector<double> distance(sums.size());
        for (std::size_t k = 0; k < sums.size(); ++k)
            for (Index p = 0; p < pixels; ++p)
                distance[k] += std::pow(test.images.data()[i * pixels + p] - sums[k][std::size_t(p)] / count[k], 2);
        right += std::min_element(distance.begin(), distance.end()) - distance.begin() == test.labels.at(i);
    }
    return double(right) / double(test.size());
}

} // namespace

TEST_CASE("synthetic: a balanced set of the shape asked for") {
    const ImageSet set = data::synthetic({.count = 30, .height = 5, .width = 7, .channels = 3, .classes = 4});
    set.check("test");
    CHECK(set.images.shape() == Shape{30, 5, 7, 3});
    CHECK(set.classes == 4);
    for (Index i = 0; i < 30; ++i) CHECK(set.labels.at(i) == i % 4);
    CHECK(data::synthetic({.count = 0}).size() == 0);
    CHECK(data::synthetic({.count = 1, .height = 1, .width = 1, .classes = 1}).size() == 1);
}

TEST_CASE("synthetic: the seed decides, and the splits share classes but no image") {
    const SyntheticOptions options{.count = 8, .seed = 5};
    SyntheticOptions other_seed = options, other_split = options;
    other_seed.seed = 6;
    other_split.split = Split::test;
    const auto images = data::synthetic(options).images;
    CHECK(same_bits(images, data::synthetic(options).images));
    CHECK_FALSE(same_bits(images, data::synthetic(other_seed).images));
    const auto test = data::synthetic(other_split).images;
    for (Index i = 0; i < 8; ++i)
        for (Index j = 0; j < 8; ++j) CHECK_FALSE(same_bits(images.rows(i, i + 1), test.rows(j, j + 1)));
}

TEST_CASE("synthetic: what is learned on one split holds on the other") {
    for (const std::uint64_t seed : {1u, 2u, 3u}) {
        for (const Index classes : {2, 4, 10}) {
            SyntheticOptions options{
                .count = 20 * classes, .height = 12, .width = 12, .classes = classes, .seed = seed};
            const ImageSet train = data::synthetic(options);
            options.split = Split::test;
            CHECK(nearest_mean_accuracy(train, data::synthetic(options)) > 0.9);
        }
    }
}

TEST_CASE("synthetic: without a pixel or a class it is an error") {
    CHECK_THROWS_WITH_AS(data::synthetic({.height = 0}),
                         "synthetic: expected at least one pixel and one class, got [64,0,8,1] and 4 classes",
                         ShapeError);
    CHECK_THROWS_AS(data::synthetic({.count = -1}), ShapeError);
    CHECK_THROWS_AS(data::synthetic({.classes = 0}), ShapeError);
}
