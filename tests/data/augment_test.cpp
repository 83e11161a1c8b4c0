#include "support/check.hpp"

#include <espalier/data/augment.hpp>
#include <espalier/data/normalize.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// The definition: the image as block means, padded with enough zeros on all sides, cut, flipped, blanked.
template <class T>
Tensor<T> reference(const Tensor<std::uint8_t>& x, const ChannelStatistics& s, Placement at, Index B) {
    const Index P = x.size(0) / B, Q = x.size(1) / B, C = x.size(2), pad = 20;
    Tensor<T> padded = Tensor<T>::zeros({P + 2 * pad, Q + 2 * pad, C}), y({P, Q, C});
    for (Index h = 0; h < P; ++h)
        for (Index w = 0; w < Q; ++w)
            for (Index c = 0; c < C; ++c) {
                double sum = 0;
                for (Index r = 0; r < B; ++r)
                    for (Index q = 0; q < B; ++q) sum += x.at(h * B + r, w * B + q, c);
                const auto channel = static_cast<std::size_t>(c);
                padded.set(static_cast<T>((sum / double(255 * B * B) - s.mean[channel]) / s.deviation[channel]),
                           h + pad, w + pad, c);
            }
    for (Index h = 0; h < P; ++h)
        for (Index w = 0; w < Q; ++w)
            for (Index c = 0; c < C; ++c)
                y.set(padded.at(h + at.top + pad, w + at.left + pad, c), h, at.flip == Flip::horizontal ? Q - 1 - w : w,
                      c);
    const auto blank = [&](Index i, Index first) { return first <= i && i < first + at.cutout; };
    for (Index h = 0; h < P; ++h)
        for (Index w = 0; w < Q; ++w)
            for (Index c = 0; c < C; ++c)
                if (blank(h, at.cut_top) && blank(w, at.cut_left)) y.set(T(0), h, w, c);
    return y;
}

} // namespace

TEST_CASE_TEMPLATE("place_image: every placement of every block size is exactly the definition", T, float, double) {
    for (const Index C : {1, 3}) {
        for (const Index B : {1, 2, 3}) {
            Tensor<std::uint8_t> x({4 * B, 5 * B, C});
            for (Index i = 0; i < x.size(); ++i)
                x.mutable_data()[i] = static_cast<std::uint8_t>(Random(1, "x").below(256, std::uint64_t(i)));
            const ChannelStatistics s{std::vector<double>(std::size_t(C), 0.3),
                                      std::vector<double>(std::size_t(C), 0.2)};
            const auto table = colour_table<T>(s, C, B * B);
            Index wrong = 0;
            for (Index top = -5; top <= 5; ++top) // from all padding to all padding
                for (Index left = -6; left <= 6; ++left)
                    for (const Flip flip : {Flip::none, Flip::horizontal}) {
                        auto y = Tensor<T>::full({4, 5, C}, T(99));
                        kernels::place_image(Cpu{}, view<3>(x), view<2>(table), {top, left, flip}, mutable_view<3>(y));
                        wrong += !same_bits(y, reference<T>(x, s, {top, left, flip}, B));
                    }
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE_TEMPLATE("place_image: every cutout is exactly the definition, also one beyond a border", T, float, double) {
    for (const Index C : {1, 3}) {
        Tensor<std::uint8_t> x({4, 5, C});
        for (Index i = 0; i < x.size(); ++i)
            x.mutable_data()[i] = static_cast<std::uint8_t>(Random(2, "x").below(256, std::uint64_t(i)));
        const ChannelStatistics s{std::vector<double>(std::size_t(C), 0.3), std::vector<double>(std::size_t(C), 0.2)};
        const auto table = colour_table<T>(s, C, 1);
        Index wrong = 0;
        for (Index cutout = 0; cutout <= 6; ++cutout)
            for (Index top = -7; top <= 5; ++top) // from all above the image to all below it
                for (Index left = -7; left <= 6; ++left)
                    for (const Flip flip : {Flip::none, Flip::horizontal}) {
                        const Placement at{1, -1, flip, cutout, top, left};
                        auto y = Tensor<T>::full({4, 5, C}, T(99));
                        kernels::place_image(Cpu{}, view<3>(x), view<2>(table), at, mutable_view<3>(y));
                        wrong += !same_bits(y, reference<T>(x, s, at, 1));
                    }
        CHECK(wrong == 0);
    }
}

TEST_CASE_TEMPLATE("place_images: a batch is its images one by one, each as drawn, on every device", T, float, double) {
    const Index N = 5, C = 3;
    const Augment augment{.crop = 2, .flip = Flip::horizontal, .cutout = 2};
    const Random random(3, "augment");
    const auto order = Tensor<Index>::from({4}, {3, 0, 4, 2}), labels = Tensor<Index>::from({N}, {7, 8, 9, 10, 11});
    for (const Index B : {1, 2}) {
        Tensor<std::uint8_t> x({N, 4 * B, 5 * B, C});
        for (Index i = 0; i < x.size(); ++i)
            x.mutable_data()[i] = static_cast<std::uint8_t>(Random(3, "x").below(256, std::uint64_t(i)));
        const ChannelStatistics s{{0.3, 0.4, 0.5}, {0.2, 0.3, 0.4}};
        const auto table = colour_table<T>(s, C, B * B);
        const auto images = to_device(x);
        const auto colours = to_device(table);
        const auto there = to_device(order), classes = to_device(labels);
        for (const Index ordered : {0, 4}) { // without an order, samples are images 1, 2, 3
            auto y = to_device(Tensor<T>::full({3, 4, 5, C}, T(99)));
            auto got = to_device(Tensor<Index>::full({3}, -1));
            const kernels::Samples<T> samples{view<4>(images),
                                              flat(classes),
                                              view<2>(colours),
                                              View<const Index, 1>(there.data(), {ordered}),
                                              augment,
                                              random,
                                              1};
            dispatch(device_under_test(),
                     [&](auto on) { kernels::place_images(on, samples, mutable_view<4>(y), mutable_flat(got)); });
            for (Index i = 0; i < 3; ++i) {
                const Index image = ordered > 0 ? order.at(i + 1) : i + 1;
                const Placement at = draw(augment, random, i + 1, 4, 5);
                CHECK(got.at(i) == labels.at(image));
                CHECK(same_bits(y.rows(i, i + 1).reshape({4, 5, C}).clone(),
                                reference<T>(x.rows(image, image + 1).reshape({4 * B, 5 * B, C}), s, at, B)));
            }
        }
    }
}

TEST_CASE("draw: nothing is moved or blanked unless asked for") {
    const Random random(1, "augment");
    for (Index i = 0; i < 100; ++i) {
        const Placement at = draw({}, random, i, 32, 32), cropped = draw({.crop = 4}, random, i, 32, 32);
        CHECK((at.top == 0 && at.left == 0 && at.flip == Flip::none && at.cutout == 0));
        CHECK((cropped.flip == Flip::none && cropped.cutout == 0));
    }
}

TEST_CASE("draw: crop and flip are the first numbers of the stream, with and without cutout") {
    const Random random(1, "augment");
    for (Index i = 0; i < 100; ++i)
        for (const Index cutout : {0, 8}) {
            const Placement at =
                draw({.crop = 4, .flip = Flip::horizontal, .cutout = cutout}, random, i, 32 + cutout, 32);
            const auto number = static_cast<std::uint64_t>(3 * i);
            CHECK(at.top == random.below(9, number) - 4);
            CHECK(at.left == random.below(9, number + 1) - 4);
            CHECK((at.flip == Flip::horizontal) == (random.below(2, number + 2) == 1));
        }
}

TEST_CASE("draw: the centre of the cutout is any pixel with the same probability, apart from crop and flip") {
    const Index H = 5, W = 7, n = H * W * 2 * 200;
    for (const Index cutout : {1, 4, 5, 100}) {
        std::vector<double> count(std::size_t(H * W * 2));
        for (Index i = 0; i < n; ++i) {
            const Placement at = draw({.flip = Flip::horizontal, .cutout = cutout}, Random(1, "augment"), i, H, W);
            const Index h = at.cut_top + cutout / 2, w = at.cut_left + cutout / 2;
            REQUIRE((at.cutout == cutout && h >= 0 && h < H && w >= 0 && w < W));
            ++count[std::size_t((h * W + w) * 2 + (at.flip == Flip::horizontal))];
        }
        double chi_square = 0;
        for (const double c : count) chi_square += (c - 200) * (c - 200) / 200;
        // 69 degrees of freedom: mean 69, standard deviation sqrt(138) = 11.7; five of them on either side.
        CHECK(chi_square > 69 - 59);
        CHECK(chi_square < 69 + 59);
    }
}

TEST_CASE("draw: all places are equally likely, half is flipped, and the three are independent") {
    const Index n = 81 * 2 * 200;
    std::vector<double> count(81 * 2);
    for (Index i = 0; i < n; ++i) {
        const Placement at = draw({.crop = 4, .flip = Flip::horizontal}, Random(1, "augment"), i, 32, 32);
        REQUIRE((std::abs(at.top) <= 4 && std::abs(at.left) <= 4));
        const Index cell = ((at.top + 4) * 9 + at.left + 4) * 2 + (at.flip == Flip::horizontal);
        ++count[static_cast<std::size_t>(cell)];
    }
    double chi_square = 0;
    for (const double c : count) chi_square += (c - 200) * (c - 200) / 200;
    // 161 degrees of freedom: mean 161, standard deviation sqrt(322) = 17.9; five of them on either side.
    CHECK(chi_square > 161 - 90);
    CHECK(chi_square < 161 + 90);
}

TEST_CASE("draw: depends on stream and sample alone") {
    const auto numbers = [](const Random& stream, Index sample) {
        const Placement at =
            draw({.crop = 1000, .flip = Flip::horizontal, .cutout = 2}, stream, sample, Index(1) << 20, Index(1) << 20);
        return std::vector<Index>{at.top, at.left, at.cut_top, at.cut_left};
    };
    const Random one = Random(1, "augment").substream(1), two = Random(1, "augment").substream(2);
    CHECK(numbers(one, 5) == numbers(one, 5));
    for (const auto& other : {numbers(one, 6), numbers(two, 5)})
        for (std::size_t i = 0; i < 4; ++i) CHECK(numbers(one, 5)[i] != other[i]);
}
