#include "conv2d_reference.hpp"

#include <espalier/ops/conv2d.hpp>

using namespace espalier;
using namespace espalier::test;

// The kernel on shapes of every kind, also on those for which the op would not choose it.

namespace {

template <class T>
Tensor<T> convolve(const Tensor<T>& x, const Tensor<T>& w, const Tensor<T>& b, const Conv2dOptions& o) {
    Tensor<T> y({x.size(0), o.output(x.size(1), w.size(1)), o.output(x.size(2), w.size(2)), w.size(0)});
    y.fill(std::numeric_limits<T>::quiet_NaN()); // what is not written shows up
    const auto plan = kernels::few_pixels_plan(Cpu{}, view<4>(w), mutable_view<4>(y));
    Tensor<T> scratch = Tensor<T>::full({plan.scratch()}, std::numeric_limits<T>::quiet_NaN());
    kernels::conv2d_few_pixels(Cpu{}, plan, view<4>(x), view<4>(w), view<1>(b), o, mutable_flat(scratch),
                               mutable_view<4>(y));
    return y;
}

template <class T>
void check_case(const Shape& map, const Shape& filters, const Conv2dOptions& o = {.stride = 1, .padding = 1}) {
    CAPTURE(map);
    CAPTURE(filters);
    const auto x = random_tensor<T>(map), w = random_tensor<T>(filters, "w"), b = random_tensor<T>({filters[0]}, "b");
    const Tensor<T> none({0});
    // As many terms a sum as these have lose no more than this, whatever the order.
    const double factor = 4 + std::sqrt(static_cast<double>(filters.product(1, 4))) / 4;
    const auto plain = reference(x, w, Tensor<T>(), o), biased = reference(x, w, b, o);
    check_close(convolve(x, w, none, o), plain.value, factor, plain.scale);
    check_close(convolve(x, w, b, o), biased.value, factor, biased.scale);
    check_repeatable([&] { return std::vector<Tensor<T>>{convolve(x, w, b, o)}; });
}

} // namespace

TEST_CASE_TEMPLATE("conv2d_few_pixels: every number of pixels and of filters that a tile has", T, float, double) {
    for (Index width = 1; width <= 14; ++width) check_case<T>({1, 1, width, 5}, {6, 3, 3, 5});
    for (Index filters = 1; filters <= 9; ++filters) check_case<T>({1, 2, 2, 4}, {filters, 3, 3, 4});
    check_case<T>({1, 8, 8, 3}, {5, 3, 3, 3}); // as many pixels as it takes
    check_case<T>({16, 2, 2, 3}, {5, 3, 3, 3});
}

TEST_CASE_TEMPLATE("conv2d_few_pixels: rows of terms of any length, in one stretch and in several", T, float, double) {
    for (const Index channels : {1, 2, 7, 8, 15, 16, 17, 31, 33})
        check_case<T>({1, 2, 3, channels}, {3, 1, 1, channels}, {});
    for (const Index channels : {113, 114, 120, 227, 228, 341, 342})
        check_case<T>({2, 2, 1, channels}, {5, 3, 3, channels});
}

TEST_CASE_TEMPLATE("conv2d_few_pixels: steps, padding, dilation and filters of any shape", T, float, double) {
    check_case<T>({2, 5, 6, 4}, {4, 3, 3, 4}, {.stride = 2, .padding = 1});
    check_case<T>({1, 7, 5, 3}, {7, 2, 4, 3}, {.stride = 3, .padding = 2});
    check_case<T>({1, 7, 7, 6}, {4, 3, 3, 6}, {.stride = 1, .padding = 2, .dilation = 2});
    check_case<T>({3, 4, 4, 9}, {8, 4, 4, 9}, {});
    check_case<T>({2, 1, 1, 40}, {10, 1, 1, 40}, {});
}

TEST_CASE_TEMPLATE("conv2d: a single image's wide layers have the answers of the fixed order", T, float, double) {
    for (const Index width : {1, 2, 4}) {
        const Var<T> x(random_tensor<T>({1, width, width, 128})), w(random_tensor<T>({128, 3, 3, 128}, "w"));
        CHECK(kernels::has_few_pixels<T>({1, width, width, 128}, w.shape()));
        const auto fast = conv2d(x, w, Var<T>(), {.padding = 1}).value();
        const PathScope path(Path::fixed_order);
        const auto expected = conv2d(x, w, Var<T>(), {.padding = 1}).value();
        check_close(fast, expected.template cast<double>(), 16);
    }
    CHECK_FALSE(kernels::has_few_pixels<T>({1, 1, 65, 512}, {512, 3, 3, 512}));
    CHECK_FALSE(kernels::has_few_pixels<T>({1, 1, 4, 16}, {16, 3, 3, 16}));
}
