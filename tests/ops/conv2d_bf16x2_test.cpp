#include "conv2d_reference.hpp"

#include <espalier/ops/conv2d.hpp>

using namespace espalier;
using namespace espalier::test;

// The kernels on shapes of every kind, also on those for which the op would not choose them; without a matrix unit by
// loops, which are slow, so shapes are small.

namespace {

struct Case {
    Index batch, height, width, channels, filters, padding = 1, taps = 3;
};

using kernels::Bf16Order;
using Limits = kernels::Bf16WeightLimits;

/// Relative L2 error: a rounding by up to 2^-17 of both operands, and sums in float.
void check_l2(const Tensor<float>& got, const Tensor<double>& expected) {
    double error = 0, norm = 0;
    for (Index i = 0; i < expected.size(); ++i) {
        const double e = expected.data()[i], apart = static_cast<double>(got.data()[i]) - e;
        error += apart * apart;
        norm += e * e;
    }
    CHECK_MESSAGE(std::sqrt(error) <= 5e-6 * std::sqrt(norm), "relative L2 error of ", std::sqrt(error / norm));
}

/// What is not written shows up as NaN.
Tensor<float> scratch_of(Index size) { return Tensor<float>::full({size}, std::numeric_limits<float>::quiet_NaN()); }

/// y of x, w and b, or x's gradient of what takes its place.
Tensor<float> convolve(const Tensor<float>& x, const View<const float, 4>& taps, const Tensor<float>& b, Index padding,
                       Bf16Order order, bool windows_first, Tensor<float> y, bool adds = false) {
    const auto rows = kernels::map_rows(view<4>(x));
    auto plan = kernels::bf16_conv_plan(Cpu{}, rows, padding, taps.size(0), mutable_view<4>(y), order);
    plan.windows_first = windows_first;
    plan.adds = adds;
    Tensor<float> scratch = scratch_of(plan.scratch());
    kernels::conv2d_bf16x2(Cpu{}, plan, rows, taps, view<1>(b), mutable_flat(scratch), mutable_view<4>(y));
    return y;
}

/// The filters w [K,R,S,C] as [R,S,C,K].
View<const float, 4> taps_of(const Tensor<float>& w) {
    const auto v = view<4>(w);
    return {
        v.data(), {w.size(1), w.size(2), w.size(3), w.size(0)}, {v.stride(1), v.stride(2), v.stride(3), v.stride(0)}};
}

Tensor<float> weight_gradient(const Tensor<float>& x, const Tensor<float>& dy, const Shape& w, Index padding,
                              const Limits& limits = {}) {
    Tensor<float> dw(w);
    const auto x_rows = kernels::map_rows(view<4>(x)), dy_rows = kernels::map_rows(view<4>(dy));
    const auto plan = kernels::bf16_weight_plan(Cpu{}, x_rows, dy_rows, padding, w[1], limits);
    Tensor<float> scratch = scratch_of(plan.scratch());
    kernels::conv2d_bf16x2_weight_gradient(Cpu{}, plan, x_rows, dy_rows, mutable_flat(scratch), mutable_view<4>(dw));
    return dw;
}

struct Operands {
    Tensor<float> x, w, b, dy;
    Conv2dOptions options;

    explicit Operands(const Case& c)
        : x(random_tensor<float>({c.batch, c.height, c.width, c.channels})),
          w(random_tensor<float>({c.filters, c.taps, c.taps, c.channels}, "w")),
          b(random_tensor<float>({c.filters}, "b")), options{.padding = c.padding} {
        dy = random_tensor<float>(
            {c.batch, options.output(c.height, c.taps), options.output(c.width, c.taps), c.filters}, "dy");
    }
};

void check_case(const Case& c) {
    CAPTURE(c.batch);
    CAPTURE(c.height);
    CAPTURE(c.width);
    CAPTURE(c.channels);
    CAPTURE(c.filters);
    CAPTURE(c.padding);
    CAPTURE(c.taps);
    const Operands o(c);
    const auto y = reference(o.x, o.w, o.b, o.options).value;
    const auto [dx, dw] = reference_gradients(o.x, o.w, o.dy, o.options);
    for (const Bf16Order order : {Bf16Order::rows, Bf16Order::run, Bf16Order::images})
        for (const bool windows_first : {false, true}) {
            CAPTURE(static_cast<int>(order));
            CAPTURE(windows_first);
            check_l2(convolve(o.x, taps_of(o.w), o.b, c.padding, order, windows_first, Tensor<float>(o.dy.shape())), y);
            check_l2(convolve(o.dy, detail::turned_filters(o.w), Tensor<float>({0}), c.taps - 1 - c.padding, order,
                              windows_first, Tensor<float>(o.x.shape())),
                     dx.value);
        }
    for (const Limits& limits : {Limits{}, Limits{.narrow = 0}, Limits{.narrow = 0, .chunk = 1}})
        check_l2(weight_gradient(o.x, o.dy, o.w.shape(), c.padding, limits), dw.value);
}

} // namespace

TEST_CASE("bf16x2: maps of 1x1 to 9x9, every padding and extent of a filter") {
    for (Index extent = 1; extent <= 9; extent += 2) check_case({2, extent, 10 - extent, 9, 17});
    for (const Index padding : {0, 1, 2}) check_case({3, 5, 7, 8, 8, padding});
    check_case({2, 3, 3, 5, 4, 0, 1});
    check_case({2, 6, 5, 5, 4, 2, 5});
    check_case({1, 1, 1, 1, 1});
}

TEST_CASE("bf16x2: channels and filters that fill no tile") {
    for (const Index channels : {1, 16, 33})
        for (const Index filters : {1, 16, 33, 49}) check_case({2, 4, 4, channels, filters});
    check_case({1, 3, 3, 64, 32}); // whole tiles only
}

TEST_CASE("bf16x2: batches that fill no tile, rows that fill several") {
    for (const Index batch : {1, 16, 17, 33}) check_case({batch, 2, 3, 4, 5});
    check_case({1, 3, 32, 3, 4});
    check_case({1, 18, 33, 2, 2}); // several bands of an image
}

TEST_CASE("bf16x2: a result is added to what is there") {
    const Operands o({3, 4, 5, 6, 20});
    const Tensor<float> none = Tensor<float>::zeros({0}), before = random_tensor<float>(o.dy.shape(), "before");
    for (const Bf16Order order : {Bf16Order::rows, Bf16Order::run, Bf16Order::images}) {
        const auto y = convolve(o.x, taps_of(o.w), none, 1, order, false, Tensor<float>(o.dy.shape()));
        const auto sum = convolve(o.x, taps_of(o.w), none, 1, order, false, before.clone(), true);
        for (Index i = 0; i < y.size(); ++i) CHECK(sum.data()[i] == before.data()[i] + y.data()[i]);
    }
}

TEST_CASE("bf16x2: no images, no channels") {
    for (const Limits& limits : {Limits{}, Limits{.narrow = 0}})
        for (const float v :
             weight_gradient(Tensor<float>({0, 4, 4, 3}), Tensor<float>({0, 4, 4, 5}), {5, 3, 3, 3}, 1, limits))
            CHECK(v == 0);
    const Tensor<float> w({5, 3, 3, 0});
    for (const Bf16Order order : {Bf16Order::rows, Bf16Order::run, Bf16Order::images})
        for (const float v : convolve(Tensor<float>({2, 4, 4, 0}), taps_of(w), Tensor<float>({0}), 1, order, false,
                                      Tensor<float>({2, 4, 4, 5})))
            CHECK(v == 0);
}

TEST_CASE("bf16x2: same bits for 1 and 2 threads") {
    for (const Case& c : {Case{5, 13, 4, 19, 37}, Case{70, 2, 2, 16, 20}}) {
        const Operands o(c);
        check_repeatable([&] {
            std::vector<Tensor<float>> all{weight_gradient(o.x, o.dy, o.w.shape(), 1),
                                           weight_gradient(o.x, o.dy, o.w.shape(), 1, {.narrow = 0, .chunk = 1})};
            for (const Bf16Order order : {Bf16Order::rows, Bf16Order::run, Bf16Order::images})
                for (const bool windows_first : {false, true})
                    all.push_back(
                        convolve(o.x, taps_of(o.w), o.b, 1, order, windows_first, Tensor<float>(o.dy.shape())));
            return all;
        });
    }
}

TEST_CASE("bf16x2: a NaN reaches the outputs that read it, and no finite pixel becomes one") {
    Operands o({2, 6, 6, 16, 4});
    o.x.mutable_data()[(2 * 6 + 3) * 16] = std::numeric_limits<float>::quiet_NaN(); // of image 0, row 2, column 3
    for (const Bf16Order order : {Bf16Order::rows, Bf16Order::run, Bf16Order::images}) {
        const auto y = convolve(o.x, taps_of(o.w), o.b, 1, order, false, Tensor<float>(o.dy.shape()));
        for (Index p = 0; p < 6; ++p)
            for (Index q = 0; q < 6; ++q) {
                if (p >= 1 && p <= 3 && q >= 2 && q <= 4) CHECK(std::isnan(y.at(0, p, q, 0)));
                if (p == 5 || p == 0 || q == 0) CHECK(std::isfinite(y.at(0, p, q, 0)));
                CHECK(std::isfinite(y.at(1, p, q, 0)));
            }
    }
}

TEST_CASE("bf16x2: who takes it") {
    using enum kernels::ConvPass;
    const Shape x{32, 16, 16, 128}, w{128, 3, 3, 128};
    const Conv2dOptions o{.padding = 1};
    CHECK(kernels::bf16_pays<float>(x, w, o, forward) == kernels::has_bf16_tiles());
    CHECK(kernels::bf16_pays<float>(x, w, o, weight_gradient) == kernels::has_bf16_tiles());
    CHECK_FALSE(kernels::bf16_pays<double>(x, w, o, forward));
    CHECK_FALSE(kernels::bf16_pays<float>(x, w, {.stride = 2, .padding = 1}, forward));
    CHECK_FALSE(kernels::bf16_pays<float>({32, 16, 16, 16}, {16, 3, 3, 16}, o, forward));
    CHECK_FALSE(kernels::bf16_pays<float>({23, 16, 16, 128}, w, o, forward));
    CHECK_FALSE(kernels::bf16_pays<float>({23, 16, 16, 128}, w, o, weight_gradient));
    CHECK(kernels::bf16_pays<float>({1, 16, 16, 128}, w, o, data_gradient) == kernels::has_bf16_tiles());
    if (!kernels::has_bf16_tiles()) return;
    const PathScope precise(Path::precise);
    CHECK_FALSE(detail::takes_bf16<float>(x, w, o, forward));
}

TEST_CASE("bf16x2: conv2d takes it in training, and gives the same answer as ever without gradients") {
    const Operands o({24, 2, 2, 64, 64});
    const auto expected = reference(o.x, o.w, o.b, o.options).value;
    const Var<float> x = parameter(o.x), w = parameter(o.w), b(o.b);
    const Var<float> trained = conv2d(x, w, b, o.options),
                     constant = conv2d(Var<float>(o.x), Var<float>(o.w), b, o.options);
    const Tensor<float> answer = [&] {
        const NoGrad no_grad;
        return conv2d(x, w, b, o.options).value();
    }();
    check_l2(trained.value(), expected);
    check_l2(answer, expected);
    CHECK(same_bits(constant.value(), answer));
    CHECK(same_bits(trained.value(), answer) == !kernels::has_bf16_tiles());
    trained.backward(o.dy);
    const auto [dx, dw] = reference_gradients(o.x, o.w, o.dy, o.options);
    check_l2(x.grad(), dx.value);
    check_l2(w.grad(), dw.value);
}
