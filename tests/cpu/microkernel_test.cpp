#include <espalier/cpu/microkernel.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("pack_panel: blocks side by side, columns that do not exist are zero", T, float, double) {
    const Index wide = kernels::block_width<T>, lanes = Simd<T>::lanes, columns = wide + 1, rows = 3;
    const auto w = random_tensor<T>({rows, columns}), turned = random_tensor<T>({columns, rows}, "turned");
    REQUIRE(kernels::panel_blocks<T>(columns) == 2);
    REQUIRE(kernels::panel_size<T>(rows, columns) == rows * (wide + lanes));
    for (const bool dense : {true, false}) {
        const View<const T, 2> from = dense ? view<2>(w) : View<const T, 2>(turned.data(), {rows, columns}, {1, rows});
        auto panel = Tensor<T>::full({rows * (wide + lanes)}, T(7));
        for (Index b = 0; b < 2; ++b) kernels::pack_panel(from, 0, rows, b, panel.mutable_data());
        for (Index i = 0; i < rows; ++i) {
            for (Index k = 0; k < wide; ++k) CHECK(panel.at(i * wide + k) == from(i, k));
            for (Index k = 0; k < lanes; ++k)
                CHECK(panel.at(rows * wide + i * lanes + k) == (k == 0 ? from(i, wide) : T(0)));
        }
    }
}

TEST_CASE_TEMPLATE("ProductTile: any number of pixels and outputs, every start, steps and several runs", T, float,
                   double) {
    const Index rows = 9;
    const std::vector<kernels::Run> runs{{2, 0, 5}, {20, 6, 3}}; // row 5 is in no run
    for (const Index step : {1, 3})
        for (Index width = 1; width <= kernels::block_width<T>; ++width)
            for (Index count = 0; count <= 20; ++count)
                for (const auto start : {kernels::Start::zero, kernels::Start::bias, kernels::Start::y}) {
                    const bool streams = start != kernels::Start::y && count % 2 == 1;
                    const auto x = random_tensor<T>({200}), w = random_tensor<T>({rows, width}, "w");
                    const auto b = random_tensor<T>({width}, "b");
                    auto y = random_tensor<T>({21, width + 1}, "y");
                    const auto before = y.clone();
                    Tensor<T> panel({kernels::panel_size<T>(rows, width)});
                    kernels::pack_panel(view<2>(w), 0, rows, 0, panel.mutable_data());
                    std::vector<Index> x_at, y_at;
                    for (Index i = 0; i < count; ++i) {
                        x_at.push_back(7 * i);
                        y_at.push_back((width + 1) * i);
                    }
                    kernels::ProductTile<T> tile{x.data(),         step,  runs, panel.data(), b.data(),
                                                 y.mutable_data(), width, start};
                    tile.streams = streams;
                    tile(x_at.data(), y_at.data(), count);
                    double worst = 0;
                    for (Index i = 0; i < 21; ++i)
                        for (Index k = 0; k <= width; ++k) {
                            double expected = static_cast<double>(before.at(i, k));
                            if (i < count && k < width) {
                                if (start == kernels::Start::zero) expected = 0;
                                if (start == kernels::Start::bias) expected = static_cast<double>(b.at(k));
                                for (const auto& run : runs)
                                    for (Index j = 0; j < run.count; ++j)
                                        expected += static_cast<double>(x.at(7 * i + run.from + j * step)) *
                                                    static_cast<double>(w.at(run.row + j, k));
                            }
                            worst = std::max(worst, std::abs(static_cast<double>(y.at(i, k)) - expected));
                        }
                    // At most nine roundings of sums below 9.
                    CHECK(worst <= 40 * static_cast<double>(std::numeric_limits<T>::epsilon()));
                }
}

TEST_CASE_TEMPLATE("ProductTile: rows of a panel that lie apart", T, float, double) {
    const Index rows = 9, count = 13, wide = kernels::block_width<T>, pitch = 2 * wide;
    const std::vector<kernels::Run> runs{{0, 0, 5}, {20, 6, 3}};
    const auto x = random_tensor<T>({200}), w = random_tensor<T>({rows, pitch}, "w");
    Tensor<T> dense({rows * wide}), expected({count, wide}), y({count, wide});
    kernels::pack_panel(View<const T, 2>(w.data() + wide, {rows, wide}, {pitch, 1}), 0, rows, 0, dense.mutable_data());
    std::vector<Index> x_at, y_at;
    for (Index i = 0; i < count; ++i) {
        x_at.push_back(7 * i);
        y_at.push_back(wide * i);
    }
    kernels::ProductTile<T> tile{
        x.data(), 1, runs, dense.data(), nullptr, expected.mutable_data(), wide, kernels::Start::zero};
    tile(x_at.data(), y_at.data(), count);
    tile.panel = w.data() + wide;
    tile.pitch = pitch;
    tile.y = y.mutable_data();
    tile(x_at.data(), y_at.data(), count);
    CHECK(same_bits(y, expected));
}
