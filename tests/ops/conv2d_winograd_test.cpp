#include "conv2d_reference.hpp"

#include <espalier/ops/conv2d_winograd_gradients.cpu.hpp>

using namespace espalier;
using namespace espalier::test;

// The kernels on shapes of every kind, also on those for which the op would not choose them.

namespace {

struct Case {
    Index batch, height, width, channels, filters, padding;
};

/// Relative L2 error in eps: 42 of float's are 5e-6. Transforms with factors up to 8, twice, lose some 5 bits.
template <class T> void check_l2(const Tensor<T>& got, const Tensor<double>& expected) {
    const double error = relative_error(got, expected) / static_cast<double>(std::numeric_limits<T>::epsilon());
    CHECK_MESSAGE(error <= 42, "relative L2 error of ", error, " eps");
}

template <class T> struct Results { Tensor<T> y, dx, dw; };

using Limits = kernels::WinogradWeightLimits;

/// The filters w [K,3,3,C] turned around: [3,3,K,C].
template <class T> View<const T, 4> turned(const Tensor<T>& w) {
    const auto wv = view<4>(w);
    return {wv.at(0, 2, 2), {3, 3, w.size(0), w.size(3)}, {-wv.stride(1), -wv.stride(2), wv.stride(0), wv.stride(3)}};
}

/// By the kernels.
template <class T>
Results<T> convolve(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& b, const Tensor<T>& dy, Index padding,
                    const Limits& limits = {}) {
    Results<T> all{Tensor<T>(dy.shape()), Tensor<T>(x.shape()), Tensor<T>(w.shape())};
    const Cpu on;
    const auto wv = view<4>(w);
    const auto x_rows = kernels::map_rows(view<4>(x)), dy_rows = kernels::map_rows(view<4>(dy));
    const auto plan = kernels::winograd_plan(on, x_rows, padding, mutable_view<4>(all.y));
    // What is not written shows up as NaN.
    Tensor<T> scratch = Tensor<T>::full({plan.scratch()}, std::numeric_limits<T>::quiet_NaN());
    kernels::conv2d_winograd(on, plan, x_rows,
                             View<const T, 4>(wv.data(), {3, 3, w.size(3), w.size(0)},
                                              {wv.stride(1), wv.stride(2), wv.stride(3), wv.stride(0)}),
                             view<1>(b), mutable_flat(scratch), mutable_view<4>(all.y));
    const auto back = kernels::winograd_plan(on, dy_rows, 2 - padding, mutable_view<4>(all.dx));
    scratch = Tensor<T>::full({back.scratch()}, std::numeric_limits<T>::quiet_NaN());
    kernels::conv2d_winograd(on, back, dy_rows, turned(w), View<const T, 1>(nullptr, {0}), mutable_flat(scratch),
                             mutable_view<4>(all.dx));
    const auto weights = kernels::winograd_weight_plan(on, x_rows, dy_rows, padding, limits);
    scratch = Tensor<T>::full({weights.scratch()}, std::numeric_limits<T>::quiet_NaN());
    kernels::conv2d_winograd_weight_gradient(on, weights, x_rows, dy_rows, mutable_flat(scratch),
                                             mutable_view<4>(all.dw));
    return all;
}

/// {dx, dw} from one reading of dy, for a padding of 1.
template <class T>
std::vector<Tensor<T>> gradients_together(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& dy) {
    const auto x_rows = kernels::map_rows(view<4>(x)), dy_rows = kernels::map_rows(view<4>(dy));
    Tensor<T> dx(x.shape()), dw(w.shape());
    const auto plan = kernels::winograd_gradients_plan(Cpu{}, x_rows, dy_rows, mutable_view<4>(dx));
    Tensor<T> scratch = Tensor<T>::full({plan.scratch()}, std::numeric_limits<T>::quiet_NaN());
    kernels::conv2d_winograd_gradients(Cpu{}, plan, x_rows, dy_rows, turned(w), mutable_flat(scratch),
                                       mutable_view<4>(dw), mutable_view<4>(dx));
    return {dx, dw};
}

template <class T> void check_case(const Case& c, const Limits& limits = {}) {
    CAPTURE(c.batch);
    CAPTURE(c.height);
    CAPTURE(c.width);
    CAPTURE(c.channels);
    CAPTURE(c.filters);
    CAPTURE(c.padding);
    const Conv2dOptions options{.padding = c.padding};
    const auto x = random_tensor<T>({c.batch, c.height, c.width, c.channels});
    const auto w = random_tensor<T>({c.filters, 3, 3, c.channels}, "w"), b = random_tensor<T>({c.filters}, "b");
    const auto dy =
        random_tensor<T>({c.batch, options.output(c.height, 3), options.output(c.width, 3), c.filters}, "dy");
    const auto got = convolve(x, w, b, dy, c.padding, limits);
    check_l2(got.y, reference(x, w, b, options).value);
    const auto [dx, dw] = reference_gradients(x, w, dy, options);
    check_l2(got.dx, dx.value);
    check_l2(got.dw, dw.value);
}

} // namespace

TEST_CASE_TEMPLATE("winograd: maps of 1x1 to 17x17 and every padding", T, float, double) {
    for (Index extent = 1; extent <= 9; ++extent) check_case<T>({2, extent, 10 - extent, 9, 17, 1});
    for (const Index padding : {0, 1, 2}) check_case<T>({2, 5, 7, 8, 8, padding});
    check_case<T>({1, 17, 16, 8, 16, 1});
    check_case<T>({1, 1, 1, 1, 1, 1});
    check_case<T>({1, 3, 3, 2, 3, 0});
}

TEST_CASE_TEMPLATE("winograd: maps of 2x2 between zeros", T, float, double) {
    const Tensor<T> x({5, 2, 2, 8}), y({5, 2, 2, 8}), wider({5, 2, 3, 8});
    const auto rows = kernels::map_rows(view<4>(x));
    CHECK(kernels::winograd_plan(Cpu{}, rows, 1, View<T, 4>(nullptr, {5, 2, 2, 8})).tiles.outputs == 2);
    CHECK(kernels::winograd_weight_plan(Cpu{}, rows, kernels::map_rows(view<4>(y)), 1).tiles.outputs == 2);
    CHECK(kernels::winograd_weight_plan(Cpu{}, rows, kernels::map_rows(view<4>(wider)), 1).tiles.outputs == 4);
    for (const Index channels : {1, 8, 37})
        for (const Index filters : {3, 16, 49}) check_case<T>({7, 2, 2, channels, filters, 1});
    check_case<T>({150, 2, 2, 9, 10, 1});
    check_case<T>({150, 2, 2, 19, 21, 1}, {.narrow = 0, .wide = 1}); // chunks of the gradient of the weights
    check_case<T>({3, 2, 2, 130, 140, 1});                           // tiles first
}

TEST_CASE_TEMPLATE("winograd: channels and filters that fill no vector", T, float, double) {
    for (const Index channels : {3, 16, 37, 49})
        for (const Index filters : {1, 7, 16, 24, 61}) check_case<T>({2, 6, 6, channels, filters, 1});
}

TEST_CASE_TEMPLATE("winograd: many tiles, many filters", T, float, double) {
    check_case<T>({6, 32, 32, 9, 10, 1});  // several blocks of tiles
    check_case<T>({150, 4, 4, 16, 20, 1}); // several runs of the gradient of the weights
    check_case<T>({1, 5, 4, 130, 140, 1}); // tiles first
    check_case<T>({1, 64, 64, 8, 9, 1});
    check_case<T>({1, 3, 140, 5, 4, 1}); // a row of tiles in several passes
}

TEST_CASE_TEMPLATE("winograd: parts and chunks of the gradient of the weights", T, float, double) {
    const Case c{150, 4, 4, 7, 5, 1};
    const Tensor<T> x({c.batch, c.height, c.width, c.channels}), dy({c.batch, c.height, c.width, c.filters});
    const auto x_rows = kernels::map_rows(view<4>(x)), dy_rows = kernels::map_rows(view<4>(dy));
    const Limits wide{.narrow = 0, .wide = 1}; // no layer is narrow, and chunks have the fewest tiles
    CHECK(kernels::winograd_weight_plan(Cpu{}, x_rows, dy_rows, 1).parts == 4);
    CHECK(kernels::winograd_weight_plan(Cpu{}, x_rows, dy_rows, 1, wide).chunks() == 3);
    check_case<T>(c);
    check_case<T>(c, wide);
    check_case<T>({3, 13, 14, 19, 37, 1}, wide);
    check_case<T>({1, 6, 6, 60, 7, 0}, wide); // several slabs
}

TEST_CASE_TEMPLATE("winograd: no images, no channels", T, float, double) {
    const auto none =
        convolve(Tensor<T>({0, 6, 6, 5}), random_tensor<T>({7, 3, 3, 5}), Tensor<T>({0}), Tensor<T>({0, 6, 6, 7}), 1);
    for (const T v : none.dw) CHECK(v == 0);
    const auto empty =
        convolve(Tensor<T>({2, 6, 6, 0}), Tensor<T>({7, 3, 3, 0}), Tensor<T>({0}), random_tensor<T>({2, 6, 6, 7}), 1);
    for (const T v : empty.y) CHECK(v == 0);
    const auto nothing =
        convolve(random_tensor<T>({2, 6, 6, 5}), Tensor<T>({0, 3, 3, 5}), Tensor<T>({0}), Tensor<T>({2, 6, 6, 0}), 1);
    for (const T v : nothing.dx) CHECK(v == 0);
}

TEST_CASE_TEMPLATE("winograd: same bits for 1 and 2 threads", T, float, double) {
    for (const Case& c : {Case{5, 13, 14, 19, 37, 1}, Case{140, 4, 4, 16, 16, 1}, Case{2, 4, 4, 140, 150, 1},
                          Case{70, 2, 2, 40, 50, 1}}) {
        const auto x = random_tensor<T>({c.batch, c.height, c.width, c.channels});
        const auto w = random_tensor<T>({c.filters, 3, 3, c.channels}, "w"), b = random_tensor<T>({c.filters}, "b");
        const auto dy = random_tensor<T>({c.batch, c.height, c.width, c.filters}, "dy");
        check_repeatable([&] {
            const auto narrow = convolve(x, w, b, dy, 1), wide = convolve(x, w, b, dy, 1, {.narrow = 0, .wide = 1});
            return std::vector<Tensor<T>>{narrow.y, narrow.dx, narrow.dw, wide.dw};
        });
    }
}

TEST_CASE_TEMPLATE("winograd: gradients from one reading of dy have the bits of one after the other", T, float,
                   double) {
    for (const Case& c : {Case{5, 13, 14, 19, 37, 1}, Case{70, 4, 4, 16, 16, 1}, Case{1, 1, 1, 3, 2, 1},
                          Case{3, 32, 32, 9, 14, 1}, Case{2, 5, 2, 40, 33, 1}, Case{17, 8, 8, 1, 20, 1}}) {
        CAPTURE(c.height);
        CAPTURE(c.channels);
        const auto x = random_tensor<T>({c.batch, c.height, c.width, c.channels});
        const auto w = random_tensor<T>({c.filters, 3, 3, c.channels}, "w");
        const auto dy = random_tensor<T>({c.batch, c.height, c.width, c.filters}, "dy");
        const auto apart = convolve(x, w, Tensor<T>::zeros({c.filters}), dy, 1);
        const auto together = gradients_together(x, w, dy);
        CHECK(same_bits(together[0], apart.dx));
        CHECK(same_bits(together[1], apart.dw));
        check_repeatable([&] { return gradients_together(x, w, dy); });
    }
    CHECK(kernels::winograd_gradients_together<T>({2, 8, 8, 16}, {16, 3, 3, 16}, 1));
    CHECK_FALSE(kernels::winograd_gradients_together<T>({2, 8, 8, 16}, {16, 3, 3, 16}, 0));    // another grid of tiles
    CHECK_FALSE(kernels::winograd_gradients_together<T>({2, 2, 2, 16}, {16, 3, 3, 16}, 1));    // `PaddedPair`
    CHECK_FALSE(kernels::winograd_gradients_together<T>({2, 8, 8, 128}, {128, 3, 3, 128}, 1)); // wide
}
