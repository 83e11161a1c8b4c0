#include "support/check.hpp"

#include <espalier/data/dataset.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {

/// Image i is one pixel of colour i; the labels are given.
ImageSet numbered(const std::vector<Index>& labels, Index classes) {
    const Index n = static_cast<Index>(labels.size());
    ImageSet set{Tensor<std::uint8_t>({n, 1, 1, 1}), Tensor<Index>::from({n}, labels), classes, "numbered", {}};
    for (Index i = 0; i < n; ++i) set.images.mutable_data()[i] = static_cast<std::uint8_t>(i);
    return set;
}
ImageSet uneven() { // 60 of class 0, 30 of class 1, 10 of class 2, mixed
    std::vector<Index> labels;
    for (Index i = 0; i < 100; ++i) labels.push_back(i % 10 < 6 ? 0 : i % 10 < 9 ? 1 : 2);
    return numbered(labels, 3);
}
std::vector<Index> class_counts(const ImageSet& set) {
    std::vector<Index> count(static_cast<std::size_t>(set.classes));
    for (const Index label : set.labels) ++count[static_cast<std::size_t>(label)];
    return count;
}

} // namespace

TEST_CASE("ImageSet: what does not fit together is an error in the caller's name") {
    const ImageSet good = numbered({0, 1, 1}, 2);
    good.check("me");
    CHECK(good.size() == 3);
    CHECK(ImageSet().size() == 0);
    ImageSet bad = good;
    bad.images = bad.images.reshape({3, 1, 1});
    CHECK_THROWS_WITH_AS(bad.check("me"), "me: expected images [N,H,W,C] of at least one pixel, got [3,1,1]",
                         ShapeError);
    bad.images = Tensor<std::uint8_t>({3, 0, 1, 1});
    CHECK_THROWS_WITH_AS(bad.check("me"), Contains("got [3,0,1,1]"), ShapeError);
    CHECK_THROWS_WITH_AS(ImageSet().check("me"), Contains("expected images [N,H,W,C]"), ShapeError);
    bad = good;
    bad.labels = Tensor<Index>::zeros({2});
    CHECK_THROWS_WITH_AS(bad.check("me"), "me: expected labels [3] for images [3,1,1,1], got [2]", ShapeError);
    for (const Index label : {Index(2), Index(-1)}) {
        bad = numbered({0, 1, label}, 2);
        CHECK_THROWS_WITH_AS(bad.check("me"),
                             join_text("me: expected labels below 2, got ", label, " for image 2").c_str(), ShapeError);
    }
    bad = good;
    bad.class_names = {"a"};
    CHECK_THROWS_WITH_AS(bad.check("me"), "me: expected 2 class names or none, got 1", ShapeError);
}

TEST_CASE("select: images and labels in the order asked for, repeated ones too") {
    const ImageSet set = select(numbered({0, 1, 2, 0}, 3), {2, 0, 2});
    CHECK(set.images.to_vector() == std::vector<std::uint8_t>{2, 0, 2});
    CHECK(set.labels.to_vector() == std::vector<Index>{2, 0, 2});
    CHECK(select(set, {}).size() == 0);
    CHECK_THROWS_WITH_AS(select(set, {0, 3}), "select: expected image numbers below 3, got 3", ShapeError);
    CHECK_THROWS_WITH_AS(select(set, {-1}), Contains("got -1"), ShapeError);
}

TEST_CASE("subset: the first images share memory, and the name says how many") {
    const ImageSet set = uneven(), first = subset(set, {.count = 7});
    CHECK(first.size() == 7);
    CHECK(first.images.shares_memory(set.images));
    CHECK(first.labels.to_vector() == std::vector<Index>{0, 0, 0, 0, 0, 0, 1});
    CHECK(first.name == "numbered (7 of 100)");
    CHECK(subset(set, {.count = 100}).name == "numbered");
    CHECK(subset(set, {.count = 0}).size() == 0);
    CHECK_THROWS_WITH_AS(subset(set, {.count = 101}), "subset: expected a count of at most 100, got 101", ShapeError);
    CHECK_THROWS_AS(subset(set, {.count = -1}), ShapeError);
}

TEST_CASE("subset: random images are different ones, in the set's order, decided by the seed") {
    const ImageSet set = uneven();
    for (const Pick pick : {Pick::random, Pick::stratified}) {
        const auto colours = [&](std::uint64_t seed) {
            const ImageSet chosen = subset(set, {.count = 40, .pick = pick, .seed = seed});
            for (Index i = 0; i < chosen.size(); ++i) // a label stays with its image
                CHECK(chosen.labels.at(i) == set.labels.at(Index(chosen.images.data()[i])));
            return chosen.images.to_vector();
        };
        const auto one = colours(1);
        CHECK(one.size() == 40);
        CHECK(std::adjacent_find(one.begin(), one.end(), std::greater_equal<>()) == one.end());
        CHECK(one == colours(1));
        CHECK(one != colours(2));
        CHECK(same_bits(subset(set, {.count = 100, .pick = pick}).images, set.images));
    }
}

TEST_CASE("subset: a stratified one keeps every class's share, rounded up or down") {
    const ImageSet set = uneven();
    CHECK(class_counts(subset(set, {.count = 20, .pick = Pick::stratified})) == std::vector<Index>{12, 6, 2});
    for (Index count = 0; count <= 100; ++count) {
        const auto counts = class_counts(subset(set, {.count = count, .pick = Pick::stratified, .seed = 9}));
        const Index share[] = {60, 30, 10};
        for (std::size_t k = 0; k < 3; ++k) {
            CHECK(counts[k] >= share[k] * count / 100);
            CHECK(counts[k] <= (share[k] * count + 99) / 100);
        }
    }
}
