#include "support/check.hpp"

#include <espalier/data/loader.hpp>

#include <memory>
#include <ranges>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {

static_assert(std::ranges::input_range<Loader<float>::Epoch>);

// Loaders of the device under test, whose batches are looked at on the CPU.

/// Image i has label i and pixels that no other image has.
ImageSet numbered(Index n, Index side = 6, Index channels = 3) {
    ImageSet set{Tensor<std::uint8_t>({n, side, side, channels}), Tensor<Index>({n}), n, "numbered", {}};
    for (Index i = 0; i < set.images.size(); ++i)
        set.images.mutable_data()[i] = static_cast<std::uint8_t>(Random(4, "pixels").below(256, std::uint64_t(i)));
    for (Index i = 0; i < n; ++i) set.labels.mutable_data()[i] = i;
    return set;
}
template <class T> Batch<T> on_cpu(const Batch<T>& batch) {
    CHECK((batch.images.device() == device_under_test() && batch.labels.device() == device_under_test()));
    return {batch.images.to(Device::cpu), batch.labels.to(Device::cpu)};
}
template <class T> std::vector<Batch<T>> all(const Loader<T>& loader, Index epoch, Index first = 0) {
    std::vector<Batch<T>> batches;
    for (auto& batch : loader.epoch(epoch, first)) batches.push_back(on_cpu(batch));
    return batches;
}
template <class T> bool same(const std::vector<Batch<T>>& a, const std::vector<Batch<T>>& b) {
    bool equal = a.size() == b.size();
    for (std::size_t i = 0; equal && i < a.size(); ++i)
        equal = same_bits(a[i].images, b[i].images) && same_bits(a[i].labels, b[i].labels);
    return equal;
}
template <class T> std::vector<Index> labels(const std::vector<Batch<T>>& batches) {
    std::vector<Index> all_labels;
    for (const auto& batch : batches) all_labels.insert(all_labels.end(), batch.labels.begin(), batch.labels.end());
    return all_labels;
}
LoaderOptions training(const ImageSet& set, Index prefetch = 2) {
    return {.size = 8,
            .augment = {.crop = 2, .flip = Flip::horizontal, .cutout = 3},
            .normalize = measure(set),
            .prefetch = prefetch,
            .seed = 11,
            .device = device_under_test()};
}

} // namespace

TEST_CASE_TEMPLATE("Loader: for evaluation, batches are the set in order, normalised", T, float, double) {
    const ImageSet set = numbered(20);
    const LoaderOptions options = training(set).for_evaluation();
    const Loader<T> loader(set, options);
    CHECK(loader.batches() == 3);
    const auto batches = all(loader, 0);
    REQUIRE(batches.size() == 3);
    CHECK(batches[0].images.shape() == Shape{8, 6, 6, 3});
    CHECK(batches[2].images.shape() == Shape{4, 6, 6, 3}); // the rest is kept
    const auto expected = set.labels.to_vector();
    CHECK(labels(batches) == expected);
    CHECK(same(batches, all(loader, 1)));
    Index wrong = 0;
    for (Index i = 0; i < set.images.size(); ++i) {
        const auto c = static_cast<std::size_t>(i % 3);
        const double y =
            (double(set.images.data()[i]) / 255 - options.normalize.mean[c]) / options.normalize.deviation[c];
        const Index in_batch = 8 * 6 * 6 * 3;
        wrong += batches[std::size_t(i / in_batch)].images.data()[i % in_batch] != static_cast<T>(y);
    }
    CHECK(wrong == 0);
}

TEST_CASE("Loader: normalised training images have mean 0 and deviation 1") {
    const ImageSet set = numbered(50);
    double sum = 0, squares = 0;
    for (auto& batch : Loader<double>(set, training(set).for_evaluation()).epoch(0))
        for (const double v : on_cpu(batch).images) sum += v, squares += v * v;
    const double count = double(set.images.size());
    CHECK(std::abs(sum / count) <= 1e-12); // 5400 terms of size 1, in double
    CHECK(std::abs(squares / count - 1) <= 1e-12);
}

TEST_CASE("Loader: every epoch visits every image once, each in its own order") {
    const ImageSet set = numbered(50);
    const Loader<float> loader(set, training(set));
    std::vector<std::vector<Index>> orders;
    for (Index epoch = 0; epoch < 3; ++epoch) {
        orders.push_back(labels(all(loader, epoch)));
        CHECK(orders.back() == Random(11, "shuffle").substream(std::uint64_t(epoch)).permutation(50));
        auto sorted = orders.back();
        std::sort(sorted.begin(), sorted.end());
        CHECK(sorted == set.labels.to_vector());
    }
    CHECK(orders[0] != orders[1]);
    CHECK(orders[1] != orders[2]);
    LoaderOptions other = training(set);
    other.seed = 12;
    CHECK(labels(all(Loader<float>(set, other), 0)) != orders[0]);
}

TEST_CASE("Loader: a last batch that is too small is kept or dropped") {
    for (const Index n : {0, 1, 7, 8, 9, 16}) {
        const ImageSet set = numbered(n);
        const Loader<float> keep(set, {.size = 8, .device = device_under_test()});
        const Loader<float> drop(set, {.size = 8, .last = LastBatch::drop, .device = device_under_test()});
        CHECK(keep.batches() == (n + 7) / 8);
        CHECK(drop.batches() == n / 8);
        CHECK(Index(all(keep, 0).size()) == keep.batches());
        CHECK(Index(labels(all(keep, 0)).size()) == n);
        CHECK(Index(labels(all(drop, 0)).size()) == n / 8 * 8);
    }
}

TEST_CASE("Loader: augmented images are those of the draws for their epoch and place") {
    const ImageSet set = numbered(20);
    const LoaderOptions options = training(set);
    const Loader<float> loader(set, options);
    const auto table = colour_table<float>(options.normalize, 3, 1);
    const auto batches = all(loader, 4);
    const Random random = Random(11, "augment").substream(4);
    Index moved = 0;
    for (Index i = 0; i < 20; ++i) {
        const Batch<float>& batch = batches[std::size_t(i / 8)];
        const Tensor<std::uint8_t> image = set.images.rows(batch.labels.at(i % 8), batch.labels.at(i % 8) + 1);
        Tensor<float> y({6, 6, 3});
        const Placement at = draw(options.augment, random, i, 6, 6);
        kernels::place_image(Cpu{}, view<3>(image.reshape({6, 6, 3})), view<2>(table), at, mutable_view<3>(y));
        CHECK(same_bits(batch.images.rows(i % 8, i % 8 + 1).reshape({6, 6, 3}).clone(), y));
        moved += at.top != 0 || at.left != 0 || at.flip == Flip::horizontal;
    }
    CHECK(moved > 0);
    CHECK_FALSE(same(batches, all(loader, 5)));
}

TEST_CASE("Loader: cutout blanks after crop and flip and changes nothing else") {
    const ImageSet set = numbered(50);
    LoaderOptions with = training(set), without = with;
    without.augment.cutout = 0;
    const auto a = all(Loader<float>(set, with), 1), b = all(Loader<float>(set, without), 1);
    CHECK(labels(a) == labels(b));
    Index blank = 0, other = 0;
    for (std::size_t batch = 0; batch < a.size(); ++batch)
        for (Index i = 0; i < a[batch].images.size(); ++i) {
            const float x = a[batch].images.data()[i], y = b[batch].images.data()[i];
            blank += x == 0.0f && y != 0.0f; // no pixel of the set has the mean colour
            other += x != y && x != 0.0f;
        }
    CHECK(other == 0);
    CHECK(blank > 0);
    with.augment.cutout = 100; // covers the image wherever its centre is
    for (const auto& batch : all(Loader<float>(set, with), 1))
        for (const float x : batch.images) REQUIRE(x == 0.0f);
}

TEST_CASE("Loader: blocks of pixels are averaged before anything else") {
    const ImageSet set = numbered(3);
    const Loader<double> loader(set, LoaderOptions{.downscale = 2, .device = device_under_test()}.for_evaluation());
    const auto x = all(loader, 0).at(0).images;
    REQUIRE(x.shape() == Shape{3, 3, 3, 3});
    for (Index n = 0; n < 3; ++n)
        for (Index h = 0; h < 3; ++h)
            for (Index w = 0; w < 3; ++w)
                for (Index c = 0; c < 3; ++c) {
                    double mean = 0;
                    for (Index r = 0; r < 4; ++r) mean += set.images.at(n, 2 * h + r / 2, 2 * w + r % 2, c) / 1020.0;
                    CHECK(std::abs(x.at(n, h, w, c) - mean) <= 1e-15); // four roundings of numbers below 1
                }
}

TEST_CASE_TEMPLATE("Loader: the same bits with and without prefetching, on one thread and on two", T, float, double) {
    const ImageSet set = numbered(60);
    const auto reference = all(Loader<T>(set, training(set, 0)), 3);
    for (const int threads : {1, 2}) {
        set_threads(threads);
        for (const Index prefetch : {0, 1, 2, 50})
            CHECK(same(reference, all(Loader<T>(set, training(set, prefetch)), 3)));
    }
    set_threads(0);
}

TEST_CASE("Loader: starting in mid-epoch gives the rest of the epoch") {
    const ImageSet set = numbered(60);
    for (const Index prefetch : {0, 2}) {
        const Loader<float> loader(set, training(set, prefetch));
        auto rest = all(loader, 2);
        for (Index first = 0; first <= loader.batches(); ++first) {
            CHECK(same(all(loader, 2, first), rest));
            if (!rest.empty()) rest.erase(rest.begin());
        }
    }
}

TEST_CASE("Loader: an epoch may be left at any batch and may outlive the loader") {
    const ImageSet set = numbered(60);
    auto loader = std::make_unique<Loader<float>>(set, training(set));
    const auto whole = all(*loader, 0);
    for (Index stop = 0; stop <= 3; ++stop) {
        Index seen = 0;
        for (auto& [images, numbers] : loader->epoch(0)) {
            CHECK(same_bits(images, whole[std::size_t(seen)].images));
            CHECK(same_bits(numbers, whole[std::size_t(seen)].labels));
            if (seen++ == stop) break;
        }
        const auto unused = loader->epoch(0);
    }
    auto epoch = loader->epoch(0);
    loader.reset();
    std::size_t seen = 0;
    for (auto& batch : epoch) CHECK(same_bits(batch.images, whole[seen++].images));
    CHECK(seen == whole.size());
}

TEST_CASE("Loader: two epochs may be iterated at the same time") {
    const ImageSet set = numbered(40);
    const Loader<float> loader(set, training(set));
    const auto a = all(loader, 0), b = all(loader, 1);
    auto first = loader.epoch(0), second = loader.epoch(1);
    auto x = first.begin();
    auto y = second.begin();
    for (std::size_t i = 0; i < a.size(); ++i, ++x, ++y) {
        REQUIRE((x != first.end() && y != second.end()));
        CHECK(same_bits(x->images, a[i].images));
        CHECK(same_bits(y->images, b[i].images));
    }
    CHECK((x == first.end() && y == second.end()));
}

TEST_CASE("Loader: the smallest set is one pixel") {
    const Loader<float> loader(
        numbered(1, 1, 1),
        {.size = 1, .augment = {.crop = 3, .flip = Flip::horizontal}, .device = device_under_test()});
    for (Index epoch = 0; epoch < 20; ++epoch) CHECK(all(loader, epoch).at(0).images.shape() == Shape{1, 1, 1, 1});
}

TEST_CASE("Loader: options that do not fit are errors") {
    const ImageSet set = numbered(10);
    using L = Loader<float>;
    CHECK_THROWS_WITH_AS(L(set, {.size = 0}), "Loader: expected a batch size of at least 1, got 0", ShapeError);
    CHECK_THROWS_WITH_AS(L(set, {.augment = {.crop = -1}}), "Loader: expected a crop of at least 0, got -1",
                         ShapeError);
    CHECK_THROWS_WITH_AS(L(set, {.augment = {.cutout = -1}}), "Loader: expected a cutout of at least 0, got -1",
                         ShapeError);
    CHECK_THROWS_WITH_AS(L(set, {.prefetch = -1}), "Loader: expected a prefetch of at least 0, got -1", ShapeError);
    for (const Index downscale : {-1, 0, 4, 12})
        CHECK_THROWS_WITH_AS(
            L(set, {.downscale = downscale}),
            join_text("Loader: expected a downscale that divides height and width of [10,6,6,3], got ", downscale)
                .c_str(),
            ShapeError);
    CHECK_THROWS_WITH_AS(L(set, {.normalize = {{0.5}, {0.5}}}), Contains("expected statistics of 3 channels"),
                         ShapeError);
    for (const Device device : {Device::cpu, device_under_test()})
        CHECK_THROWS_WITH_AS(L(ImageSet{}, {.device = device}), Contains("Loader: expected images [N,H,W,C]"),
                             ShapeError);
    const L loader(set, {.size = 4, .device = device_under_test()});
    CHECK_THROWS_WITH_AS(loader.epoch(0, 4),
                         "Loader::epoch: expected an epoch of at least 0 and a first batch of at most 3, got 0 and 4",
                         ShapeError);
    CHECK_THROWS_AS(loader.epoch(-1), ShapeError);
    CHECK_THROWS_AS(loader.epoch(0, -1), ShapeError);
}

TEST_CASE_TEMPLATE("Loader: a batch has the same bits on every device", T, float, double) {
    const auto check = [](const ImageSet& set, LoaderOptions options) {
        options.device = Device::cpu;
        const Loader<T> expected(set, options);
        options.device = device_under_test();
        const Loader<T> loader(set, options);
        CHECK(loader.options().for_evaluation().device == device_under_test());
        for (const Index first : {Index(0), loader.batches() - 1}) {
            auto epoch = expected.epoch(3, first);
            std::vector<Batch<T>> batches;
            for (auto& batch : epoch) batches.push_back(batch);
            CHECK(same(all(loader, 3, first), batches));
        }
    };
    // A row of numbers is shorter than a warp, longer, and longer than a block; the last batch is a smaller one.
    for (const Index channels : {1, 3, 70})
        for (const Index side : {6, 42})
            for (const Index downscale : {1, 3}) {
                if (side == 42 && channels == 70 && downscale == 1) continue; // slow where the GPU is emulated
                CAPTURE(channels);
                CAPTURE(side);
                CAPTURE(downscale);
                const ImageSet set = numbered(7, side, channels);
                LoaderOptions options{.size = 3, .downscale = downscale, .seed = 2};
                check(set, options);
                options.shuffle = Shuffle::none;
                options.normalize = measure(set);
                check(set, options);
                options.augment = {.crop = 3, .flip = Flip::horizontal, .cutout = 2};
                check(set, options);
                options.shuffle = Shuffle::each_epoch;
                options.last = LastBatch::drop;
                check(set, options);
            }
}

TEST_CASE("Loader: copies and epochs share what is on the device") {
    const MemoryPool& pool = MemoryPool::instance(device_under_test());
    const ImageSet set = numbered(60);
    const std::size_t before = pool.bytes_in_use();
    auto loader = std::make_unique<Loader<float>>(set, training(set, 0));
    const std::size_t one = pool.bytes_in_use();
    if (device_under_test() != Device::cpu) CHECK(one - before >= std::size_t(set.images.size() + 8 * set.size()));
    auto copy = std::make_unique<Loader<float>>(*loader);
    CHECK(pool.bytes_in_use() == one);
    {
        const auto first = copy->epoch(0), second = loader->epoch(1);
        CHECK(pool.bytes_in_use() - one <= 2 * 1024); // two orders of 60
        loader.reset();
        copy.reset();
        CHECK(pool.bytes_in_use() >= one); // an epoch may outlive its loader
    }
    CHECK(pool.bytes_in_use() == before);
}

TEST_CASE("Loader: a set is the CPU's, and a build without CUDA makes no batches on a GPU") {
    const ImageSet set = numbered(10);
    if (device_under_test() == Device::cpu) {
        if (!ESPALIER_CUDA)
            CHECK_THROWS_WITH_AS(Loader<float>(set, {.device = Device::cuda}), Contains("expected a build with CUDA"),
                                 DeviceError);
        return;
    }
    ImageSet there = set;
    there.images = to_device(set.images);
    CHECK_THROWS_WITH_AS(Loader<float>(there, {.device = device_under_test()}),
                         "Loader: expected a set on cpu, got images on cuda and labels on cpu", DeviceError);
}

#if ESPALIER_CUDA && !defined(__CUDACC__)
TEST_CASE("Loader: without room on the GPU there is an error with sizes, and later the same batches") {
    if (device_under_test() == Device::cpu) return;
    MemoryPool& pool = MemoryPool::instance(device_under_test());
    const ImageSet set = numbered(60, 16);
    const Loader<float> loader(set, training(set));
    const auto whole = all(loader, 0);
    auto epoch = loader.epoch(0);
    auto batch = epoch.begin();
    std::size_t& limit = emulation::Memory::instance().limit;
    const std::size_t in_use = pool.bytes_in_use(), roomy = std::exchange(limit, 0);
    pool.release_cached();
    CHECK_THROWS_WITH_AS(Loader<float>(set, training(set)), Contains("MemoryPool: expected room for"), Error);
    CHECK_THROWS_WITH_AS(loader.epoch(1), Contains("bytes on cuda, got none"), Error);
    CHECK_THROWS_WITH_AS(++batch, Contains("MemoryPool: expected room for"), Error);
    CHECK(pool.bytes_in_use() == in_use);
    limit = roomy;
    CHECK(same_bits(batch->images, whole[0].images));
    for (std::size_t i = 1; i < whole.size(); ++i) {
        ++batch;
        CHECK(same_bits(batch->images, whole[i].images));
        CHECK(same_bits(batch->labels, whole[i].labels));
    }
}
#endif
