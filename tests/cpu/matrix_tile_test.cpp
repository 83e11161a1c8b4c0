#include <espalier/cpu/matrix_tile.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

/// The first `rows` rows of the product with rows `pitch` and columns `step` apart, added to y or not.
template <class T>
Tensor<T> product(const Tensor<T>& x, Index pitch, Index step, const Tensor<T>& panel, Tensor<T> y, Index rows,
                  bool adds) {
    y = y.clone();
    const Index terms = panel.size(0), width = panel.size(1);
    kernels::MatrixTile<T>{x.data(), pitch, step, panel.data(), terms, y.mutable_data(), width, adds}(rows);
    return y;
}

} // namespace

TEST_CASE_TEMPLATE("MatrixTile: any number of rows and terms, rows or columns side by side, sums that go on", T, float,
                   double) {
    const Index most = 30;
    for (const Index width : {Simd<T>::lanes, kernels::block_width<T>})
        for (const Index terms : {0, 1, 2, 5, 9}) {
            const auto x = random_tensor<T>({(most + 2) * (terms + 3)}), panel = random_tensor<T>({terms, width}, "p");
            const auto before = random_tensor<T>({most, width}, "y");
            for (const bool columns_adjacent : {true, false})
                for (const bool adds : {true, false})
                    for (Index rows = 0; rows <= most; ++rows) {
                        const Index pitch = columns_adjacent ? terms + 3 : 1, step = columns_adjacent ? 1 : most + 2;
                        const auto y = product(x, pitch, step, panel, before, rows, adds);
                        double worst = 0;
                        for (Index i = 0; i < most; ++i)
                            for (Index k = 0; k < width; ++k) {
                                double expected = static_cast<double>(before.at(i, k));
                                if (i < rows) {
                                    if (!adds) expected = 0;
                                    for (Index j = 0; j < terms; ++j)
                                        expected += static_cast<double>(x.at(i * pitch + j * step)) *
                                                    static_cast<double>(panel.at(j, k));
                                }
                                const double error = std::abs(static_cast<double>(y.at(i, k)) - expected);
                                worst = error > worst || std::isnan(error) ? error : worst;
                            }
                        // At most ten roundings of sums below ten.
                        CHECK(worst <= 40 * static_cast<double>(std::numeric_limits<T>::epsilon()));
                    }
        }
}

TEST_CASE_TEMPLATE("MatrixTile: a row has the same bits however many share its tile", T, float, double) {
    const Index most = 30, terms = 13;
    for (const Index width : {Simd<T>::lanes, kernels::block_width<T>}) {
        const auto x = random_tensor<T>({most, terms}), panel = random_tensor<T>({terms, width}, "p");
        const auto zeros = Tensor<T>::zeros({most, width});
        const auto all = product(x, terms, Index(1), panel, zeros, most, false);
        for (Index rows = 1; rows <= most; ++rows) {
            const auto some = product(x, terms, Index(1), panel, zeros, rows, false);
            for (Index i = 0; i < rows; ++i)
                for (Index k = 0; k < width; ++k) REQUIRE(some.at(i, k) == all.at(i, k));
        }
    }
}
