#include "support/check.hpp"

#include <espalier/cpu/bf16_tile.hpp>

#include <cmath>
#include <vector>

using namespace espalier;
using namespace espalier::test;
using namespace espalier::kernels;

namespace {

/// Numbers split in halves: all upper ones, then all lower ones.
std::vector<Bf16> split(const std::vector<float>& x) {
    std::vector<Bf16> to(2 * x.size());
    Bf16 lanes[Simd<float>::lanes];
    for (std::size_t i = 0; i < x.size(); ++i) {
        const Bf16Pair pair(Simd<float>::broadcast(x[i]));
        Bf16Pair::store(lanes, pair.upper);
        to[i] = lanes[0];
        Bf16Pair::store(lanes, pair.lower);
        to[x.size() + i] = lanes[0];
    }
    return to;
}

} // namespace

TEST_CASE("Bf16Product: every count of tiles, by the matrix unit where there is one and by loops") {
    MESSAGE("matrix unit: ", has_bf16_tiles());
    constexpr Index rows = Bf16Tile::rows, columns = Bf16Tile::columns, terms = Bf16Tile::terms;
    const Index steps[] = {2, 1, 3}, row = 4 * terms; // of A, overlapping from step to step of the first loop
    const Index shift = 5;
    const Index all = steps[0] * steps[2];
    const auto a = random_tensor<float>({4 * rows * row + steps[0] * shift}),
               b = random_tensor<float>({2, all, terms, columns}, "b");
    const auto start = random_tensor<float>({4, 2, rows, columns}, "y");
    const std::vector<Bf16> left = split({a.begin(), a.end()});
    std::vector<Bf16> right;
    for (Index j = 0; j < 2; ++j)
        for (Index t = 0; t < all; ++t) {
            std::vector<float> tile;
            for (Index k = 0; k < terms; k += 2)
                for (Index c = 0; c < columns; ++c)
                    for (Index odd = 0; odd < 2; ++odd) tile.push_back(b.at(j, t, k + odd, c));
            for (const Bf16 half : split(tile)) right.push_back(half);
        }
    for (const auto& tiles : {std::pair{1, 1}, {2, 1}, {3, 1}, {4, 1}, {1, 2}, {2, 2}})
        for (const bool adds : {false, true})
            for (const bool by_loops : {false, true}) {
                const int m = tiles.first, n = tiles.second;
                CAPTURE(m);
                CAPTURE(n);
                CAPTURE(adds);
                CAPTURE(by_loops);
                Tensor<float> y = start.clone();
                Bf16Product product{.m = m, .n = n, .row = row, .low = a.size(), .adds = adds};
                for (int i = 0; i < m; ++i) {
                    product.a[i] = left.data() + i * rows * row;
                    for (int j = 0; j < n; ++j) product.y[i][j] = y.mutable_data() + (2 * i + j) * Bf16Tile::results;
                }
                for (int j = 0; j < n; ++j) product.b[j] = right.data() + j * all * Bf16Tile::both;
                const Bf16Steps where{
                    {steps[0], steps[1], steps[2]}, {shift, 0, terms}, {steps[2] * Bf16Tile::both, 0, Bf16Tile::both}};
                const Bf16TileScope scope;
                by_loops ? product.by_loops(where) : product(where);
                double worst = 0;
                for (int i = 0; i < 4; ++i)
                    for (int j = 0; j < 2; ++j)
                        for (Index r = 0; r < rows; ++r)
                            for (Index c = 0; c < columns; ++c) {
                                double expected = double(start.at(i, j, r, c));
                                if (i < m && j < n) {
                                    if (!adds) expected = 0;
                                    for (Index s = 0; s < steps[0]; ++s)
                                        for (Index u = 0; u < steps[2]; ++u)
                                            for (Index k = 0; k < terms; ++k)
                                                expected +=
                                                    double(a.at((i * rows + r) * row + s * shift + u * terms + k)) *
                                                    double(b.at(j, s * steps[2] + u, k, c));
                                }
                                const double apart = std::abs(double(y.at(i, j, r, c)) - expected);
                                worst = apart <= worst ? worst : apart; // NaN stays
                            }
                CHECK(worst <= 2e-4); // of 192 terms of up to 2^-16 each
            }
}
