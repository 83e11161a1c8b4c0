#include "support/check.hpp"

#include <espalier/data/augment.hpp>
#include <espalier/data/normalize.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// The definition: the image as block means, padded with enough zeros on all sides, cut, flipped.
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

TEST_CASE("draw: nothing is moved unless asked for") {
    const Random random(1, "augment");
    for (Index i = 0; i < 100; ++i) {
        const Placement at = draw({}, random, i), cropped = draw({.crop = 4}, random, i);
        CHECK((at.top == 0 && at.left == 0 && at.flip == Flip::none));
        CHECK(cropped.flip == Flip::none);
    }
}

TEST_CASE("draw: all places are equally likely, half is flipped, and the three are independent") {
    const Index n = 81 * 2 * 200;
    std::vector<double> count(81 * 2);
    for (Index i = 0; i < n; ++i) {
        const Placement at = draw({.crop = 4, .flip = Flip::horizontal}, Random(1, "augment"), i);
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
    const auto same = [](Placement a, Placement b) { return a.top == b.top && a.left == b.left && a.flip == b.flip; };
    const Augment augment{.crop = 1000, .flip = Flip::horizontal};
    const Random one = Random(1, "augment").substream(1), two = Random(1, "augment").substream(2);
    CHECK(same(draw(augment, one, 5), draw(augment, one, 5)));
    CHECK_FALSE(same(draw(augment, one, 5), draw(augment, one, 6)));
    CHECK_FALSE(same(draw(augment, one, 5), draw(augment, two, 5)));
}
