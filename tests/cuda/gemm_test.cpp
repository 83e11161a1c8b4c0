#include <espalier/cpu/gemm.hpp>
#include <espalier/cuda/gemm.cuh>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

struct Case {
    Index m, c, k, step, gap; // x [m,c], w [c,k], whose columns lie `step` apart; y's rows lie `gap` apart
    bool turned_x, turned_w, biased;
};

template <class T> void check_case(const Case& t) {
    CAPTURE(t.m);
    CAPTURE(t.c);
    CAPTURE(t.k);
    CAPTURE(t.step);
    CAPTURE(t.gap);
    CAPTURE(t.turned_x);
    CAPTURE(t.turned_w);
    const auto x_there = random_tensor<T>({t.m * t.c * t.step}), w_there = random_tensor<T>({t.c * t.k * t.step}, "w");
    const auto b = random_tensor<T>({t.biased ? t.k : 0}, "b");
    const auto matrix = [&](const Tensor<T>& there, Index rows, Index columns, bool turned) {
        const View<const T, 2> rows_first(there.data(), {rows, columns}, {columns * t.step, t.step});
        const View<const T, 2> columns_first(there.data(), {columns, rows}, {rows * t.step, t.step});
        return turned ? transposed(columns_first) : rows_first;
    };
    const auto x = matrix(x_there, t.m, t.c, t.turned_x), w = matrix(w_there, t.c, t.k, t.turned_w);
    Tensor<double> expected({t.m, t.k}), scale({t.m, t.k});
    for (Index i = 0; i < t.m; ++i)
        for (Index j = 0; j < t.k; ++j) {
            double sum = t.biased ? static_cast<double>(b.at(j)) : 0, size = std::abs(sum);
            for (Index c = 0; c < t.c; ++c) {
                const double term = static_cast<double>(x(i, c)) * static_cast<double>(w(c, j));
                sum += term;
                size += std::abs(term);
            }
            expected.set(sum, i, j);
            scale.set(size, i, j);
        }

    const Cuda on{current_stream()};
    const auto xd = x_there.to(Device::cuda), wd = w_there.to(Device::cuda), bd = b.to(Device::cuda);
    const auto xv = matrix(xd, t.m, t.c, t.turned_x), wv = matrix(wd, t.c, t.k, t.turned_w);
    const auto check = [&](const auto& run) {
        Tensor<T> wide = Tensor<T>::full({t.m, t.k + t.gap}, T(7), Device::cuda), y({t.m, t.k});
        run(View<T, 2>(wide.mutable_data(), {t.m, t.k}, {t.k + t.gap, 1}));
        const auto all = wide.to(Device::cpu);
        for (Index i = 0; i < t.m; ++i)
            for (Index j = 0; j < t.k + t.gap; ++j)
                if (j < t.k)
                    y.set(all.at(i, j), i, j);
                else
                    CHECK(all.at(i, j) == T(7));
        check_close(y, expected, 16, scale); // one rounding a term of random sign; 16 for those that line up
    };
    check([&](View<T, 2> y) {
        const auto plan = kernels::gemm_plan(on, xv, y);
        Tensor<T> scratch({plan.scratch()}, Device::cuda);
        kernels::gemm(on, plan, xv, wv, view<1>(bd), mutable_flat(scratch), y);
    });
    check([&](View<T, 2> y) {
        CHECK(kernels::gemm_fixed_order_scratch(on, wv) == 0);
        kernels::gemm_fixed_order(on, xv, wv, view<1>(bd), View<T, 1>(nullptr, {0}), y);
    });
}

} // namespace

TEST_CASE_TEMPLATE("gemm on a GPU: operands of any strides, sums in one range and in several", T, float, double) {
    if (device_under_test() == Device::cpu) return;
    for (const bool turned_x : {false, true})
        for (const bool turned_w : {false, true}) {
            check_case<T>({5, 31, 9, 1, 0, turned_x, turned_w, true});
            check_case<T>({8, 32, 12, 1, 3, turned_x, turned_w, false}); // quads
            check_case<T>({7, 23, 66, 2, 1, turned_x, turned_w, true});
            check_case<T>({68, 1100, 4, 1, 0, turned_x, turned_w, true}); // quads, four ranges of terms
            check_case<T>({3, 515, 2, 1, 2, turned_x, turned_w, true});
        }
}

TEST_CASE("gemm on a GPU: ranges of terms by extents alone, with scratch for each") {
    const auto splits = [](Index m, Index k, Index c) { return kernels::product_plan(m, k, c, 1, m * k).splits; };
    CHECK(splits(64, 64, 511) == 1);
    CHECK(splits(64, 64, 512) == 2);
    CHECK(splits(64, 64, 1 << 20) == 128);
    CHECK(splits(64 * 132, 64, 1 << 20) == 2);
    CHECK(splits(64 * 300, 64, 1 << 20) == 1);
    CHECK(kernels::product_plan(64, 64, 512, 1, 64 * 64).scratch() == 2 * 64 * 64);
    CHECK(kernels::product_plan(64, 64, 511, 1, 64 * 64).scratch() == 0);
}
