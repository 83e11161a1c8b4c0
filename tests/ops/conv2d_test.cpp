#include "conv2d_reference.hpp"
#include "support/rule_text.hpp"

#include <espalier/ops/conv2d.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

struct Case {
    Shape x, w;
    Conv2dOptions options;
};

// Blocked sums of random signs stay far below eps per term; 8 allows for the few dozen roundings that line up.
constexpr double direct = 8;
// Outputs of one tile share the rounding of its transforms, whose factors reach 8 along each axis.
constexpr double transformed = 64;

template <class T> void check_case(const Case& c, double factor = direct) {
    CAPTURE(to_text(c.x));
    CAPTURE(to_text(c.w));
    CAPTURE(c.options.stride);
    CAPTURE(c.options.padding);
    CAPTURE(c.options.dilation);
    CAPTURE(c.options.groups);
    const auto x = random_tensor<T>(c.x), w = random_tensor<T>(c.w, "w"), b = random_tensor<T>({c.w[0]}, "b");
    const Var<T> xv = parameter_on_device(x), wv = parameter_on_device(w), bv = parameter_on_device(b);
    const Var<T> y = conv2d(xv, wv, bv, c.options);
    const Reference expected = reference(x, w, b, c.options);
    check_close(y.value(), expected.value, factor, expected.scale);
    const auto dy = random_tensor<T>(y.shape(), "dy");
    y.backward(to_device(dy));
    const auto [dx, dw] = reference_gradients(x, w, dy, c.options);
    check_close(xv.grad(), dx.value, factor, dx.scale);
    check_close(wv.grad(), dw.value, factor, dw.scale);

    const PathScope scope(Path::fixed_order);
    const Reference plain = reference(x, w, Tensor<T>(), c.options);
    // One sum from first to last may lose half an eps of its running value at each term.
    check_close(conv2d(xv, wv, c.options).value(), plain.value, 64, plain.scale);
}

} // namespace

TEST_CASE_TEMPLATE("conv2d: value and gradients for strides, paddings, dilations and maps of all kinds", T, float,
                   double) {
    for (const Index stride : {1, 2, 3})
        for (const Index padding : {0, 1, 2})
            for (const Index dilation : {1, 2})
                for (const Index taps : {1, 2, 3}) {
                    check_case<T>({{2, 7, 9, 5}, {11, taps, taps, 5}, {stride, padding, dilation}});
                    check_case<T>({{5, 5, 6, 3}, {17, taps, 3, 3}, {stride, padding, dilation}});
                }
}

TEST_CASE_TEMPLATE("conv2d: maps smaller than the filter, single pixels and many images", T, float, double) {
    for (Index extent = 1; extent <= 9; ++extent)
        check_case<T>({{7, extent, 1 + extent % 4, 4}, {9, 3, 3, 4}, {.padding = 1}});
    check_case<T>({{9, 2, 2, 3}, {5, 5, 5, 3}, {.padding = 2}});
    check_case<T>({{9, 1, 1, 3}, {5, 3, 3, 3}, {.stride = 2, .padding = 2}});
    check_case<T>({{1, 2, 3, 3}, {5, 1, 1, 3}, {.stride = 3, .padding = 4}});
    check_case<T>({{300, 1, 1, 3}, {5, 1, 1, 3}, {}});
    check_case<T>({{33, 4, 4, 8}, {8, 3, 3, 8}, {.stride = 2, .padding = 1}});
}

TEST_CASE_TEMPLATE("conv2d: channel counts that are no multiple of a vector", T, float, double) {
    for (const Index channels : {1, 3, 37, 49})
        for (const Index filters : {1, 2, 16, 37, 61})
            check_case<T>({{2, 4, 5, channels}, {filters, 3, 3, channels}, {.padding = 1}});
}

TEST_CASE_TEMPLATE("conv2d: maps in several bands and channels in several chunks", T, float, double) {
    check_case<T>({{2, 40, 33, 3}, {4, 3, 3, 3}, {.padding = 1}});
    check_case<T>({{1, 30, 70, 33}, {3, 3, 2, 33}, {.padding = 1}});
    check_case<T>({{1, 31, 70, 33}, {3, 3, 3, 33}, {.stride = 2, .padding = 1}});
    check_case<T>({{1, 40, 130, 12}, {3, 3, 3, 12}, {.dilation = 3}});
    check_case<T>({{1, 33, 29, 3}, {37, 3, 3, 3}, {.padding = 1}});
    check_case<T>({{1, 37, 35, 16}, {40, 3, 2, 16}, {.stride = 2, .padding = 1, .dilation = 2}});
    check_case<T>({{2, 51, 69, 3}, {35, 3, 3, 3}, {.stride = 3, .padding = 1}}); // bands and phases of unequal heights
    check_case<T>({{1, 83, 81, 2}, {64, 3, 3, 2}, {.stride = 2, .padding = 1}});
}

TEST_CASE_TEMPLATE("conv2d: outputs so large that they are written past the caches", T, float, double) {
    check_case<T>({{2, 68, 61, 3}, {64, 3, 3, 3}, {.padding = 1}});
    check_case<T>({{9, 64, 63, 16}, {2, 3, 3, 16}, {.stride = 2, .padding = 1}}); // the gradient of x
}

TEST_CASE_TEMPLATE("conv2d: groups and depthwise", T, float, double) {
    for (const Index stride : {1, 2})
        for (const Index dilation : {1, 2}) {
            check_case<T>({{2, 6, 7, 6}, {4, 3, 3, 3}, {stride, 1, dilation, 2}});
            check_case<T>({{5, 4, 4, 12}, {24, 3, 3, 3}, {stride, 2, dilation, 4}});
            check_case<T>({{5, 6, 5, 11}, {11, 3, 3, 1}, {stride, 1, dilation, 11}});
            check_case<T>({{2, 6, 5, 3}, {6, 3, 2, 1}, {stride, 1, dilation, 3}});
        }
}

TEST_CASE_TEMPLATE("conv2d: maps that go Winograd's way", T, float, double) {
    if (device_under_test() != Device::cpu) return;
    check_case<T>({{3, 16, 15, 24}, {40, 3, 3, 24}, {.padding = 1}}, transformed);
    check_case<T>({{4, 14, 14, 40}, {34, 3, 3, 20}, {.padding = 1, .groups = 2}}, transformed);
    check_case<T>({{64, 2, 2, 48}, {40, 3, 3, 48}, {.padding = 1}}, transformed);
    for (const Shape& shape : {Shape{3, 16, 15, 24}, Shape{64, 2, 2, 24}}) {
        const auto x = random_tensor<T>(shape), w = random_tensor<T>({40, 3, 3, 24}, "w");
        const auto on = [&](Path path) {
            const PathScope scope(path);
            return forward_and_gradients<T>([](auto& v) { return conv2d(v[0], v[1], {.padding = 1}); }, {x, w});
        };
        const auto fast = on(Path::fast), precise = on(Path::precise);
        for (std::size_t i = 0; i < fast.size(); ++i) CHECK_FALSE(same_bits(fast[i], precise[i]));
    }
}

TEST_CASE_TEMPLATE("conv2d: the gradient of the data is added to one that is there", T, float, double) {
    for (const Case& c : {Case{{3, 16, 15, 24}, {14, 3, 3, 24}, {.padding = 1}}, // both gradients from one reading
                          Case{{2, 8, 8, 128}, {130, 3, 3, 128}, {.padding = 1}},
                          Case{{3, 9, 9, 24}, {24, 3, 3, 24}, {}}, Case{{64, 2, 2, 48}, {40, 3, 3, 48}, {.padding = 1}},
                          Case{{2, 9, 8, 5}, {7, 3, 3, 5}, {.stride = 2, .padding = 1}},
                          Case{{2, 6, 5, 11}, {11, 3, 3, 1}, {.padding = 1, .groups = 11}}}) {
        CAPTURE(to_text(c.x));
        const auto x = random_tensor<T>(c.x), w = random_tensor<T>(c.w, "w"), before = random_tensor<T>(c.x, "before");
        const auto gradients = [&](bool adds) {
            const Var<T> xv = parameter_on_device(x), wv = parameter_on_device(w);
            if (adds) xv.node()->add_grad(to_device(before.clone()));
            const Var<T> y = conv2d(xv, wv, c.options);
            y.backward(to_device(random_tensor<T>(y.shape(), "dy")));
            return std::vector<Tensor<T>>{xv.grad(), wv.grad()};
        };
        const auto alone = gradients(false), added = gradients(true);
        Tensor<T> expected = before.clone();
        const Tensor<T> dx = alone[0].to(Device::cpu);
        for (Index i = 0; i < expected.size(); ++i) expected.mutable_data()[i] += dx.data()[i];
        CHECK(same_bits(added[0], expected));
        CHECK(same_bits(added[1], alone[1]));
    }
}

TEST_CASE_TEMPLATE("conv2d: both gradients, made side by side, have the bits of each alone", T, float, double) {
    if (device_under_test() != Device::cuda) return; // the CPU has a kernel for both
    for (const Case& c : {Case{{2, 9, 8, 5}, {7, 3, 3, 5}, {.stride = 2, .padding = 1}},
                          Case{{3, 8, 8, 33}, {34, 3, 3, 33}, {.padding = 1}}, Case{{2, 6, 6, 16}, {20, 1, 1, 16}, {}},
                          Case{{2, 9, 9, 4}, {6, 3, 3, 2}, {.stride = 3, .padding = 1, .groups = 2}},
                          Case{{5, 6, 5, 11}, {11, 3, 3, 1}, {.padding = 1, .groups = 11}}}) {
        CAPTURE(to_text(c.x));
        const auto x = random_tensor<T>(c.x), w = random_tensor<T>(c.w, "w");
        const auto gradients = [&](bool of_x, bool of_w, bool adds) {
            const Var<T> xv = of_x ? parameter_on_device(x) : on_device(x);
            const Var<T> wv = of_w ? parameter_on_device(w) : on_device(w);
            if (adds) {
                xv.node()->add_grad(to_device(random_tensor<T>(c.x, "before")));
                wv.node()->add_grad(to_device(random_tensor<T>(c.w, "before")));
            }
            const Var<T> y = conv2d(xv, wv, c.options);
            y.backward(to_device(random_tensor<T>(y.shape(), "dy")));
            return std::pair(xv.grad(), wv.grad());
        };
        for (const bool adds : {false, true}) {
            const auto both = gradients(true, true, adds);
            CHECK(same_bits(both.first, gradients(true, false, adds).first));
            CHECK(same_bits(both.second, gradients(false, true, adds).second));
        }
    }
    const auto x = random_tensor<T>({3, 3, 3, 3}); // image and filters in one
    const Var<T> twice = parameter_on_device(x), xv = parameter_on_device(x), wv = parameter_on_device(x);
    conv2d(twice, twice, {.padding = 1}).backward(to_device(random_tensor<T>({3, 3, 3, 3}, "dy")));
    conv2d(xv, wv, {.padding = 1}).backward(to_device(random_tensor<T>({3, 3, 3, 3}, "dy")));
    Tensor<T> sum = xv.grad().to(Device::cpu).clone();
    const Tensor<T> dw = wv.grad().to(Device::cpu);
    for (Index i = 0; i < sum.size(); ++i) sum.mutable_data()[i] += dw.data()[i];
    CHECK(same_bits(twice.grad(), sum));
}

TEST_CASE("conv2d: tensor cores add what they should, whatever the shape") {
    if (device_under_test() != Device::cuda) return;
    for (const MatmulPrecision precision : {MatmulPrecision::tf32, MatmulPrecision::bf16}) {
        const MatmulPrecisionScope scope(precision);
        for (const Case& c :
             {Case{{2, 7, 9, 5}, {11, 3, 3, 5}, {2, 1, 1}}, Case{{2, 7, 9, 8}, {12, 3, 2, 8}, {3, 2, 2}},
              Case{{1, 6, 5, 37}, {49, 3, 3, 37}, {.padding = 1}}, Case{{2, 5, 5, 36}, {68, 3, 3, 36}, {.padding = 1}},
              Case{{3, 9, 8, 64}, {64, 3, 3, 64}, {.padding = 1}}, Case{{2, 6, 6, 70}, {35, 1, 1, 70}, {.stride = 2}},
              Case{{2, 6, 7, 8}, {8, 3, 3, 4}, {2, 1, 1, 2}}, Case{{1, 33, 29, 3}, {37, 3, 3, 3}, {.padding = 1}},
              Case{{2, 5, 6, 4}, {4, 1, 1, 4}, {}}, Case{{2, 6, 5, 11}, {11, 3, 3, 1}, {.padding = 1, .groups = 11}}}) {
            CAPTURE(to_text(c.x));
            CAPTURE(to_text(c.w));
            const auto x = whole_numbers(c.x, "x"), w = whole_numbers(c.w, "w"), b = whole_numbers({c.w[0]}, "b");
            const Var<float> xv = parameter_on_device(x), wv = parameter_on_device(w), bv = parameter_on_device(b);
            const auto before = whole_numbers(c.x, "before");
            xv.node()->add_grad(to_device(before.clone()));
            const Var<float> y = conv2d(xv, wv, bv, c.options);
            check_close(y.value(), reference(x, w, b, c.options).value, 0); // sums of such numbers are exact
            const auto dy = whole_numbers(y.shape(), "dy");
            y.backward(to_device(dy));
            auto [dx, dw] = reference_gradients(x, w, dy, c.options);
            for (Index i = 0; i < before.size(); ++i)
                dx.value.mutable_data()[i] += static_cast<double>(before.data()[i]);
            check_close(xv.grad(), dx.value, 0);
            check_close(wv.grad(), dw.value, 0);
        }
        for (const Index filters : {33, 72}) { // enough pixels for tall tiles, and for wide ones
            const auto x = whole_numbers({1, 183, 185, 1}, "x"), w = whole_numbers({filters, 1, 1, 1}, "w");
            check_close(conv2d(on_device(x), on_device(w), {}).value(), reference(x, w, Tensor<float>(), {}).value, 0);
        }
    }
}

TEST_CASE("conv2d: tensor cores add gradients of large filters") { // in their largest tiles
    if (device_under_test() != Device::cuda) return;
    const MatmulPrecisionScope scope(MatmulPrecision::bf16);
    const auto x = whole_numbers({1, 2, 3, 1408}, "x"), dy = whole_numbers({1, 2, 3, 1530}, "dy");
    const Var<float> xv = on_device(x), wv = parameter_on_device(Tensor<float>::zeros({1530, 1, 1, 1408})),
                     y = conv2d(xv, wv, {});
    y.backward(to_device(dy));
    const Tensor<float> dw = wv.grad().to(Device::cpu);
    Index wrong = 0;
    for (Index k = 0; k < 1530; ++k)
        for (Index c = 0; c < 1408; ++c) {
            float sum = 0;
            for (Index p = 0; p < 6; ++p) sum += dy.data()[p * 1530 + k] * x.data()[p * 1408 + c];
            wrong += !(dw.data()[k * 1408 + c] == sum);
        }
    CHECK(wrong == 0);
}

TEST_CASE("conv2d: operands are rounded as far as was asked, and nowhere else") {
    if (device_under_test() != Device::cuda) return;
    const Shape shape{2, 9, 8, 24}, filters{20, 3, 3, 24};
    const Conv2dOptions options{.padding = 1};
    const auto x = random_tensor<float>(shape), w = random_tensor<float>(filters, "w");
    const auto dy = random_tensor<float>({2, 9, 8, 20}, "dy");
    const auto passes = [&](Path path, MatmulPrecision precision) {
        const PathScope path_scope(path);
        const MatmulPrecisionScope scope(precision);
        const Var<float> xv = parameter_on_device(x), wv = parameter_on_device(w);
        const Var<float> y = conv2d(xv, wv, options);
        y.backward(to_device(dy));
        return std::vector<Tensor<float>>{y.value(), xv.grad(), wv.grad()};
    };
    const auto [dx, dw] = reference_gradients(x, w, dy, options);
    const Tensor<double> expected[]{reference(x, w, Tensor<float>(), options).value, dx.value, dw.value};
    // Rounding to m bits of mantissa errs by at most u = 2^-(m + 1), so a product of two operands by about 2 u and, the
    // errors being independent, by sqrt(2) u in the mean square at most: 7e-4 for tf32, m = 10, and 5.5e-3 for bf16,
    // m = 7. Errors of the terms are independent, too, so the sums err no more. Rounded at random they err by 0.4 u
    // each; a tenth of the bound is less than that.
    for (const auto& [precision, bound] :
         {std::pair(MatmulPrecision::tf32, 1e-3), std::pair(MatmulPrecision::bf16, 8e-3)}) {
        const auto rounded = passes(Path::fast, precision);
        for (std::size_t i = 0; i < rounded.size(); ++i) {
            const double error = relative_error(rounded[i], expected[i]);
            CHECK_MESSAGE((error < bound && error > bound / 10), "pass ", i, ": ", error);
        }
        const auto plain = passes(Path::precise, MatmulPrecision::fp32), precise = passes(Path::precise, precision);
        for (std::size_t i = 0; i < plain.size(); ++i) CHECK(same_bits(plain[i], precise[i]));
        const auto in_order = passes(Path::fixed_order, MatmulPrecision::fp32),
                   still = passes(Path::fixed_order, precision);
        CHECK(same_bits(in_order[0], still[0]));
        const auto doubles = [&](MatmulPrecision of_doubles) {
            const MatmulPrecisionScope scope(of_doubles);
            return conv2d(on_device(x.cast<double>()), on_device(w.cast<double>()), options).value();
        };
        CHECK(same_bits(doubles(MatmulPrecision::fp32), doubles(precision)));
    }
    CHECK(current_matmul_precision() == MatmulPrecision::fp32);
}

TEST_CASE("conv2d: gradients agree with differences") {
    const auto check = [](const Case& c) {
        check_gradient(
            [&](auto& v) { return conv2d(v[0], v[1], v[2], c.options); },
            {random_tensor<double>(c.x), random_tensor<double>(c.w, "w"), random_tensor<double>({c.w[0]}, "b")});
    };
    check({{2, 4, 5, 2}, {3, 3, 3, 2}, {.padding = 1}});
    check({{4, 4, 3, 2}, {3, 3, 2, 2}, {.stride = 2, .padding = 1, .dilation = 2}});
    check({{1, 4, 4, 4}, {4, 2, 2, 2}, {.groups = 2}});
    check({{2, 4, 4, 3}, {3, 3, 3, 1}, {.stride = 2, .padding = 1, .groups = 3}});
}

TEST_CASE_TEMPLATE("conv2d: same bits for 1 and 2 threads", T, float, double) {
    for (const Case& c :
         {Case{{9, 12, 12, 16}, {32, 3, 3, 16}, {.padding = 1}},
          Case{{3, 40, 40, 5}, {7, 3, 3, 5}, {.stride = 2, .padding = 1}},
          Case{{1, 41, 43, 3}, {50, 3, 3, 3}, {.stride = 2, .padding = 1}},
          Case{{3, 33, 31, 3}, {37, 3, 3, 3}, {.padding = 1}}, Case{{2, 68, 61, 3}, {64, 3, 3, 3}, {.padding = 1}},
          Case{{40, 2, 2, 70}, {33, 3, 3, 70}, {.padding = 1}}, Case{{9, 14, 13, 34}, {50, 3, 3, 34}, {.padding = 1}},
          Case{{24, 8, 8, 64}, {48, 3, 3, 64}, {.padding = 1}},
          Case{{9, 8, 8, 20}, {20, 3, 3, 1}, {.padding = 1, .groups = 20}}})
        check_repeatable([&] {
            return forward_and_gradients<T>(
                [&](auto& v) { return conv2d(v[0], v[1], v[2], c.options); },
                {random_tensor<T>(c.x), random_tensor<T>(c.w, "w"), random_tensor<T>({c.w[0]}, "b")});
        });
}

TEST_CASE_TEMPLATE("conv2d: on the fixed-order path channels that are zero can go without changing a bit", T, float,
                   double) {
    const std::vector<Index> kept{0, 3, 4, 8, 9, 10, 17};
    const Index C = 19, K = 21;
    auto x = random_tensor<T>({2, 6, 5, C}), w = random_tensor<T>({K, 3, 3, C}, "w");
    const auto b = random_tensor<T>({K}, "b");
    Tensor<T> thin_x({2, 6, 5, static_cast<Index>(kept.size())}), thin_w({K, 3, 3, static_cast<Index>(kept.size())});
    const auto thin = [&](Tensor<T>& wide, Tensor<T>& narrow) {
        for (Index m = 0; m < wide.size() / C; ++m)
            for (Index c = 0, next = 0; c < C; ++c) {
                if (std::find(kept.begin(), kept.end(), c) == kept.end())
                    wide.mutable_data()[m * C + c] = 0;
                else
                    narrow.mutable_data()[m * narrow.size(-1) + next++] = wide.data()[m * C + c];
            }
    };
    thin(x, thin_x);
    w = w.clone();
    thin(w, thin_w);
    const PathScope scope(Path::fixed_order);
    const Conv2dOptions options{.padding = 1};
    const auto whole = conv2d(on_device(x), on_device(w), on_device(b), options).value().to(Device::cpu);
    CHECK(same_bits(whole, conv2d(on_device(thin_x), on_device(thin_w), on_device(b), options).value()));

    // Filters are independent of each other: the first 9 alone give the same bits.
    const auto some =
        conv2d(on_device(x), on_device(w.rows(0, 9)), on_device(b.rows(0, 9)), options).value().to(Device::cpu);
    bool same = true;
    for (Index m = 0; m < some.size() / 9; ++m)
        for (Index k = 0; k < 9; ++k) same = same && some.data()[m * 9 + k] == whole.data()[m * K + k];
    CHECK(same);
}

TEST_CASE_TEMPLATE("conv2d: no images, no channels, no filters", T, float, double) {
    for (const Path path : {Path::fast, Path::fixed_order}) {
        const PathScope scope(path);
        const auto run = [&](const Shape& x, const Shape& w, Index groups) {
            const Var<T> xv = parameter_on_device(Tensor<T>::ones(x)), wv = parameter_on_device(Tensor<T>::ones(w));
            const Var<T> bv = parameter_on_device(Tensor<T>::full({w[0]}, T(2)));
            const Var<T> y = conv2d(xv, wv, bv, {.padding = 1, .groups = groups});
            y.backward(Tensor<T>::ones(y.shape(), y.device()));
            for (const T v : xv.grad().to_vector()) CHECK(v == T(0));
            for (const T v : wv.grad().to_vector()) CHECK(v == T(0));
            CHECK(xv.grad().shape() == x);
            CHECK(wv.grad().shape() == w);
            return y.value();
        };
        CHECK(run({0, 4, 4, 3}, {2, 3, 3, 3}, 1).shape() == Shape{0, 4, 4, 2});
        CHECK(run({2, 4, 4, 3}, {0, 3, 3, 3}, 1).shape() == Shape{2, 4, 4, 0});
        CHECK(run({2, 4, 4, 4}, {0, 3, 3, 2}, 2).shape() == Shape{2, 4, 4, 0});
        const auto y = run({2, 4, 4, 0}, {3, 3, 3, 0}, 1);
        CHECK(y.shape() == Shape{2, 4, 4, 3});
        for (const T v : y.to_vector()) CHECK(v == T(2));
    }
}

TEST_CASE("conv2d: what does not fit is refused") {
    const auto x = on_device(Tensor<float>::ones({1, 4, 4, 6})), w = on_device(Tensor<float>::ones({4, 3, 3, 6}));
    const auto refused = [&](const Var<float>& wrong, const Conv2dOptions& o, const char* text) {
        CHECK_THROWS_WITH_AS(conv2d(x, wrong, o), doctest::Contains(text), ShapeError);
    };
    const auto filters = [](const Shape& shape) { return on_device(Tensor<float>::ones(shape)); };
    refused(filters({4, 3, 3}), {}, "expected x [N,H,W,C] and w [K,R,S,C/groups], got x [1,4,4,6] and w [4,3,3]");
    refused(filters({4, 3, 3, 5}), {}, "expected filters [K,R,S,6] for x [1,4,4,6] in 1 group, got [4,3,3,5]");
    refused(filters({4, 3, 3, 6}), {.groups = 2}, "expected filters [K,R,S,3] for x [1,4,4,6] in 2 groups");
    refused(filters({4, 3, 3, 6}), {.groups = 4}, "divisible by 4 groups");
    refused(filters({4, 7, 1, 6}), {.padding = 1}, "expected filters that fit the padded input, got filters [4,7,1,6]");
    refused(filters({4, 3, 3, 6}), {.dilation = 2}, "with dilation 2");
    refused(filters({4, 0, 3, 6}), {}, "at least one tap");
    for (const Conv2dOptions& o : {Conv2dOptions{.stride = 0}, Conv2dOptions{.padding = -1},
                                   Conv2dOptions{.dilation = 0}, Conv2dOptions{.groups = 0}})
        refused(w, o, "expected stride, dilation and groups of at least 1");
    CHECK_THROWS_WITH_AS(conv2d(x, w, filters({3}), {}), doctest::Contains("expected a bias [4], got [3]"), ShapeError);
}

TEST_CASE("conv2d: operands are on one device") {
    if (device_under_test() == Device::cpu) return;
    const Tensor<float> x = Tensor<float>::ones({1, 4, 4, 6}), w = Tensor<float>::ones({4, 3, 3, 6});
    CHECK_THROWS_WITH_AS(conv2d(on_device(x), Var<float>(w), {}), doctest::Contains("conv2d: expected operands on one"),
                         DeviceError);
    CHECK_THROWS_AS(conv2d(on_device(x), on_device(w), Var<float>(Tensor<float>::ones({4})), {}), DeviceError);
}

#if ESPALIER_CUDA
TEST_CASE("conv2d: what a GPU can't count in 32 bits is refused") {
    const Index many = Index(1) << 31;
    CHECK_NOTHROW(detail::expect_countable({1000, 1000, 1000, 4}, {4, 3, 3, 4}, {1000, 1000, 1000, 4}));
    CHECK_THROWS_WITH_AS(detail::expect_countable({many, 1, 1, 4}, {4, 1, 1, 4}, {many, 1, 1, 4}),
                         doctest::Contains("fewer than 2^31 pixels"), ShapeError);
    CHECK_THROWS_AS(detail::expect_countable({1, 32768, 32768, 4}, {1, 1, 1, 4}, {1, 32768, 32768, 1}), ShapeError);
    CHECK_THROWS_AS(detail::expect_countable({1, 8, 8, 32768}, {65536, 1, 1, 32768}, {1, 8, 8, 65536}), ShapeError);
}
#endif

TEST_CASE("conv2d: the channel rule") {
    const auto rule = [](const Shape& x, const Shape& w, Index groups) {
        const Var<float> xv = parameter_on_device(Tensor<float>::ones(x)),
                         wv = parameter_on_device(Tensor<float>::ones(w));
        return conv2d(xv, wv, parameter_on_device(Tensor<float>::ones({w[0]})), {.padding = 1, .groups = groups})
            .node()
            ->rule;
    };
    const ChannelRule plain = rule({2, 4, 5, 6}, {4, 3, 3, 6}, 1);
    CHECK(plain.weight() == 1);
    CHECK(plain.positions() == 2 * 4 * 5);
    REQUIRE(plain.links().size() == 3);
    CHECK(plain.links()[0].role == ChannelRole::makes);
    CHECK(plain.links()[0].axis == 0);
    CHECK(plain.links()[1].role == ChannelRole::eats);
    CHECK(plain.links()[1].axis == 3);
    CHECK(plain.links()[1].other == 0);
    CHECK(plain.links()[2].role == ChannelRole::shifts);
    const ChannelRule depthwise = rule({2, 4, 5, 6}, {6, 3, 3, 1}, 6);
    REQUIRE(depthwise.links().size() == 3);
    CHECK(depthwise.links()[0].operand == 0);
    CHECK(depthwise.links()[0].other == ChannelRule::output);
    CHECK(depthwise.links()[1].role == ChannelRole::makes);
    const ChannelRule grouped = rule({2, 4, 5, 6}, {4, 3, 3, 3}, 2);
    // channels 0 and 3 are eaten by entry 0 of the last axis; filters 0 and 2 go together, and 1 and 3
    CHECK(rule_text(grouped) == "declared 1.0 makes y.-1 1.3[0+3] eats 0.-1 1.3[0+3] eats 0.-1[3] y.-1=y.-1%2 "
                                "2.0=y.-1");
    const ChannelRule doubled = rule({2, 4, 5, 2}, {4, 3, 3, 1}, 2); // a channel takes the filters of its group along
    CHECK(rule_text(doubled) == "declared 1.0 makes y.-1 y.-1[0+2]=0.-1%1 y.-1[2+2]=0.-1[1]%1 2.0=y.-1");
    CHECK(grouped.weight() == 1);
}
