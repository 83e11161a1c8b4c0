#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/bf16_tile.hpp>
#include <espalier/cpu/gather.hpp>
#include <espalier/cpu/map_rows.hpp>
#include <espalier/cpu/transpose.hpp>

// The gradient of a convolution with respect to its weights by the matrix unit: for each tap, the channels of x times
// the filters of dy, added over pixels. The 32 terms of a tile are one pixel of 32 images, so that each tap is whole
// tiles away from the next, and those that lie outside the map are left out. A is x with channels as rows and images
// side by side, B is dy with images in pairs.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// What `bf16_weight_plan` keeps to.
struct Bf16WeightLimits {
    Index narrow = Index(640) << 10; ///< bytes of a narrow layer's sums, at most
    Index chunk = 4096;              ///< terms of a chunk of a wide layer, about
};

/// How the gradient is cut up, worked out from shapes alone, so the order of addition is the same for any number of
/// threads.
///
/// A band is some rows of dy of 32 images, with the rows of x that they read. Narrow layers, whose sums fit a
/// second-level cache: `parts` parts of the batch add up sums of their own, band by band, some rows at a time, which
/// are added at the end. Wide ones: chunks of bands are split one after another; of each, every pair of blocks of
/// filters with every pair of blocks of channels adds the products to its sums.
struct Bf16WeightPlan {
    static constexpr Index images = Bf16Tile::terms; ///< of a band

    Index batch = 0, height = 0, width = 0; ///< of x
    Index down = 0, across = 0;             ///< rows and columns of dy
    Index padding = 0, taps = 1;            ///< zeros around x; taps along an axis
    Index x_pitch = 0, dy_pitch = 0;        ///< floats from pixel to pixel
    Index x_blocks = 0, dy_blocks = 0;      ///< of 16 channels, of 16 filters
    Index rows = 1;                         ///< of dy in a band
    Index x_rows = 1, dy_rows = 1;          ///< of a band that are split at a time
    Index parts = 0;                        ///< of a narrow layer's batch; 0 for a wide layer
    Index chunk = 1;                        ///< bands of a chunk
    Index terms = 0;                        ///< numbers from one channel of a split chunk to the next

    /// Bands of 32 images, and of the batch.
    /// @{
    Index strips() const { return (down + rows - 1) / rows; }
    Index bands() const { return (batch + images - 1) / images * strips(); }
    /// @}
    /// First image and first row of a band, and the row behind its last.
    /// @{
    Index image(Index band) const { return band / strips() * images; }
    Index begin(Index band) const { return band % strips() * rows; }
    Index end(Index band) const { return std::min(begin(band) + rows, down); }
    /// @}
    /// Rows [x_begin, x_end) of x are those that rows [begin, end) of dy read.
    /// @{
    Index x_begin(Index begin) const { return std::max<Index>(0, begin - padding); }
    Index x_end(Index end) const { return std::min(height, end + taps - 1 - padding); }
    /// @}
    /// Floats of a row of pixels; of a chunk of x and of dy, two numbers in one; of all sums.
    /// @{
    Index pixels() const { return images * std::max(width * x_pitch, across * dy_pitch); }
    Index split_x() const { return x_blocks * Bf16Tile::rows * terms; }
    Index split_dy() const { return dy_blocks * chunk * dy_rows * across * Bf16Tile::half; }
    Index sums() const { return dy_blocks * taps * taps * x_blocks * Bf16Tile::results; }
    /// @}
    /// Floats that each thread has to itself.
    Index own() const { return pixels() + (parts ? split_x() + split_dy() : 0); }
    /// Floats of scratch memory.
    Index scratch() const { return (parts ? parts * sums() : sums() + split_x() + split_dy()) + threads() * own(); }
};

/// Plan of `conv2d_bf16x2_weight_gradient` for x [N,H,W,C], `padding` zeros around it, filters of `taps` by `taps`,
/// more than that padding, and dy [N,P,Q,K].
Bf16WeightPlan bf16_weight_plan(Cpu, const MapRows<float>& x, const MapRows<float>& dy, Index padding, Index taps,
                                const Bf16WeightLimits& limits = {});

/// dw[k,r,s,c] = sum over n, p, q of dy[n,p,q,k] * x[n, p + r - padding, q + s - padding, c]: the gradient of
/// `conv2d_bf16x2`. The last axis of dw is contiguous.
/// @param scratch  plan.scratch() elements
void conv2d_bf16x2_weight_gradient(Cpu, const Bf16WeightPlan& plan, const MapRows<float>& x, const MapRows<float>& dy,
                                   View<float, 1> scratch, View<float, 4> dw);

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY kernels::Bf16WeightPlan kernels::bf16_weight_plan(Cpu, const MapRows<float>& x, const MapRows<float>& dy,
                                                                Index padding, Index taps,
                                                                const Bf16WeightLimits& limits) {
    Bf16WeightPlan plan{.batch = x.batch, .height = x.height, .width = x.width, .down = dy.height, .across = dy.width};
    plan.padding = padding, plan.taps = taps;
    plan.x_pitch = whole_vectors<float>(x.channels), plan.dy_pitch = whole_vectors<float>(dy.channels);
    plan.x_blocks = (x.channels + 15) / 16, plan.dy_blocks = (dy.channels + 15) / 16;
    const Index row = plan.images * plan.width; // terms of a row of x
    if (4 * plan.sums() <= limits.narrow) {
        const bool whole = plan.down * plan.across <= 64; // small maps at once, others row by row
        plan.rows = whole ? plan.down : std::min<Index>(plan.down, 8);
        plan.dy_rows = whole ? plan.down : 1;
        plan.x_rows = whole ? plan.height : taps;
        plan.parts = std::clamp<Index>(plan.bands(), 1, 16);
    } else {
        plan.rows = std::clamp<Index>(limits.chunk / std::max<Index>(1, row), 1, std::max<Index>(1, plan.down));
        plan.dy_rows = plan.rows;
        plan.x_rows = std::min(plan.height, plan.rows + taps - 1);
        if (plan.rows >= plan.down)
            plan.chunk = std::clamp<Index>(limits.chunk / std::max<Index>(1, row * plan.height), 1,
                                           std::max<Index>(1, plan.bands()));
    }
    plan.terms = plan.chunk * plan.x_rows * row;
    if (plan.terms / Bf16Tile::terms % 2 == 0) plan.terms += Bf16Tile::terms; // an odd number of lines of a cache
    return plan;
}

namespace detail {

/// The steps of `kernels::conv2d_bf16x2_weight_gradient`.
class Bf16WeightSums {
public:
    using Bf16 = kernels::Bf16;           ///< numbers of split rows
    using Rows = kernels::MapRows<float>; ///< of x or dy

    explicit Bf16WeightSums(const kernels::Bf16WeightPlan& plan) : plan_(plan) {}

    /// Splits row h of x of 32 images from n on, by way of `pixels`: channels are rows of `to`.
    void split_x(const Rows& x, Index n, Index h, float* pixels, Bf16* to) const {
        read(x, n, h, plan_.x_pitch, pixels);
        const Index image = plan_.width * plan_.x_pitch;
        for (Index c = 0; c < plan_.x_pitch; c += lanes, to += lanes * plan_.terms)
            for (Index q = 0; q < plan_.width; ++q)
                for (Index j = 0; j < terms; j += 2 * lanes) {
                    const float* from = pixels + j * image + q * plan_.x_pitch + c;
                    S::Vector upper[lanes], lower[lanes];
                    for (Index l = 0; l < lanes; ++l, from += 2 * image) {
                        const auto pairs = halves(from, image);
                        upper[l] = reinterpret_cast<S::Vector>(pairs.upper);
                        lower[l] = reinterpret_cast<S::Vector>(pairs.lower);
                    }
                    kernels::transpose<float>(upper);
                    kernels::transpose<float>(lower);
                    Bf16* at = to + q * terms + j;
                    for (Index l = 0; l < lanes; ++l, at += plan_.terms) {
                        std::memcpy(at, &upper[l], sizeof upper[l]);
                        std::memcpy(at + low(), &lower[l], sizeof lower[l]);
                    }
                }
    }
    /// Splits row p of dy of 32 images from n on, by way of `pixels`: tiles of B, `to` is that of the first block.
    void split_dy(const Rows& dy, Index n, Index p, float* pixels, Bf16* to) const {
        read(dy, n, p, plan_.dy_pitch, pixels);
        const Index image = plan_.across * plan_.dy_pitch;
        for (Index q = 0; q < plan_.across; ++q)
            for (Index k = 0; k < plan_.dy_pitch; k += lanes) {
                const float* from = pixels + q * plan_.dy_pitch + k;
                Bf16* at = to + k / 16 * block() + q * kernels::Bf16Tile::both + 2 * (k % 16);
                for (Index j = 0; j < terms; j += 2, from += 2 * image, at += 2 * kernels::Bf16Tile::columns) {
                    const auto pairs = halves(from, image);
                    std::memcpy(at, &pairs.upper, sizeof pairs.upper);
                    std::memcpy(at + kernels::Bf16Tile::half, &pairs.lower, sizeof pairs.lower);
                }
            }
    }

    /// Rows [begin, end) of dy, in each of so many bands.
    struct Part {
        Index bands, begin, end;
        Index dy_first; ///< row of dy that lies first in `dy`
        Index x_first;  ///< row of x that lies first in `x`
        bool in_turn;   ///< row h of x lies in place h % plan.x_rows instead
        const Bf16 *x, *dy;
    };

    /// Makes of a part the sums of blocks f and, if there is one, f + 1 of the filters and [c, c_end) of the channels,
    /// or adds to them.
    void multiply(const Part& part, Index f, Index c, Index c_end, bool adds, float* sums) const {
        using kernels::Bf16Tile;
        const Index taps = plan_.taps, padding = plan_.padding;
        const int pair = f + 1 < plan_.dy_blocks ? 2 : 1;
        for (Index r = 0; r < taps; ++r)
            for (Index s = 0; s < taps; ++s) {
                float* const to = sums + (f * taps * taps + r * taps + s) * plan_.x_blocks * Bf16Tile::results;
                const Index next = taps * taps * plan_.x_blocks * Bf16Tile::results; // block of filters
                const Index p = std::max(part.begin, padding - r), q = std::max<Index>(0, padding - s);
                const Index rows = std::min(part.end, plan_.height + padding - r) - p;
                const Index columns = std::min(plan_.across, plan_.width + padding - s) - q;
                if (rows <= 0 || columns <= 0) { // no pixel has this tap
                    for (Index j = 0; !adds && j < pair; ++j)
                        std::fill(to + j * next + c * Bf16Tile::results, to + j * next + c_end * Bf16Tile::results,
                                  0.f);
                    continue;
                }
                const Index h = p + r - padding, place = part.in_turn ? h % plan_.x_rows : h - part.x_first;
                const Bf16* const x = part.x + (place * plan_.width + q + s - padding) * terms;
                const Bf16* const dy = part.dy + f * block() + (p - part.dy_first) * line() + q * Bf16Tile::both;
                const kernels::Bf16Steps steps{{part.bands, rows, columns},
                                               {plan_.x_rows * plan_.width * terms, plan_.width * terms, terms},
                                               {plan_.dy_rows * line(), line(), Bf16Tile::both}};
                for (Index b = c; b < c_end; b += 2) {
                    kernels::Bf16Product product{.m = static_cast<int>(std::min<Index>(2, c_end - b)), .n = pair};
                    product.row = plan_.terms, product.low = low(), product.adds = adds;
                    for (int i = 0; i < product.m; ++i) {
                        product.a[i] = x + (b + i) * Bf16Tile::rows * plan_.terms;
                        for (int j = 0; j < pair; ++j) product.y[i][j] = to + j * next + (b + i) * Bf16Tile::results;
                    }
                    for (int j = 0; j < pair; ++j) product.b[j] = dy + j * block();
                    product(steps);
                }
            }
    }

    /// Adds up the parts' sums of one tile, and writes them to dw.
    void write(Index tile, const float* sums, View<float, 4> dw) const {
        const Index each = plan_.taps * plan_.taps * plan_.x_blocks, tap = tile % each / plan_.x_blocks;
        const Index k = tile / each * 16, c = tile % plan_.x_blocks * 16;
        for (Index i = c; i < std::min(c + 16, dw.size(3)); i += lanes)
            for (Index j = k; j < std::min(k + 16, dw.size(0)); j += lanes) {
                const float* from = sums + tile * kernels::Bf16Tile::results + (i - c) * 16 + j - k;
                S::Vector square[lanes];
                for (Index l = 0; l < lanes; ++l, from += 16) {
                    square[l] = S::load(from);
                    for (Index part = 1; part < plan_.parts; ++part) square[l] += S::load(from + part * plan_.sums());
                }
                kernels::transpose<float>(square);
                for (Index l = 0; l < std::min(lanes, dw.size(0) - j); ++l)
                    S::store_first(dw.at(j + l, tap / plan_.taps, tap % plan_.taps, i), square[l],
                                   std::min(lanes, dw.size(3) - i));
            }
    }

    /// Numbers of B from row to row, from block to block of the filters.
    /// @{
    Index line() const { return plan_.across * kernels::Bf16Tile::both; }
    Index block() const { return plan_.chunk * plan_.dy_rows * line(); }
    /// @}

private:
    using S = Simd<float>;
    static constexpr Index lanes = S::lanes, terms = kernels::Bf16Tile::terms;

    Index low() const { return plan_.x_blocks * kernels::Bf16Tile::rows * plan_.terms; }

    // Row h of 32 images: [image][pixel], zeros for those behind the last one.
    void read(const Rows& map, Index n, Index h, Index pitch, float* to) const {
        for (Index i = 0; i < plan_.images; ++i, to += map.width * pitch)
            if (n + i < map.batch)
                map.read(n + i, h, to, pitch);
            else
                std::fill_n(to, map.width * pitch, 0.f);
    }
    struct Halves {
        kernels::Bf16Pair::Bits upper, lower;
    };
    // A vector of channels of one image and of the next, in pairs.
    [[gnu::always_inline]] static Halves halves(const float* from, Index image) {
        const kernels::Bf16Pair even(S::load(from)), odd(S::load(from + image));
        return {kernels::Bf16Pair::interleave(even.upper, odd.upper),
                kernels::Bf16Pair::interleave(even.lower, odd.lower)};
    }

    const kernels::Bf16WeightPlan& plan_;
};

} // namespace detail

ESPALIER_BODY void kernels::conv2d_bf16x2_weight_gradient(Cpu, const Bf16WeightPlan& plan, const MapRows<float>& x,
                                                          const MapRows<float>& dy, View<float, 1> scratch,
                                                          View<float, 4> dw) {
    const Index bands = plan.bands();
    if (bands == 0) {
        for (Index k = 0; k < dw.size(0); ++k) std::fill_n(dw.at(k), plan.taps * plan.taps * dw.size(3), 0.f);
        return;
    }
    const detail::Bf16WeightSums steps(plan);
    float* const sums = scratch.data();
    float* const shared = sums + std::max<Index>(1, plan.parts) * plan.sums();
    float* const own = shared + (plan.parts ? 0 : plan.split_x() + plan.split_dy());
    const Index x_line = plan.width * Bf16Tile::terms;
    if (plan.parts) {
        parallel_items(plan.parts, [&](Index number, Index worker) {
            float *const pixels = own + worker * plan.own(), *const split = pixels + plan.pixels();
            Bf16* const xs = reinterpret_cast<Bf16*>(split);
            Bf16* const dys = reinterpret_cast<Bf16*>(split + plan.split_x());
            bool adds = false;
            for (Index i = bands * number / plan.parts; i < bands * (number + 1) / plan.parts; ++i) {
                Index h = plan.x_begin(plan.begin(i));
                for (Index p = plan.begin(i); p < plan.end(i); p += plan.dy_rows, adds = true) {
                    const Index end = p + plan.dy_rows;
                    for (; h < plan.x_end(end); ++h)
                        steps.split_x(x, plan.image(i), h, pixels, xs + h % plan.x_rows * x_line);
                    for (Index line = p; line < end; ++line)
                        steps.split_dy(dy, plan.image(i), line, pixels, dys + (line - p) * steps.line());
                    const Bf16TileScope tiles;
                    for (Index f = 0; f < plan.dy_blocks; f += 2)
                        steps.multiply({1, p, end, p, 0, true, xs, dys}, f, 0, plan.x_blocks, adds,
                                       sums + number * plan.sums());
                }
            }
        });
    } else {
        Bf16* const xs = reinterpret_cast<Bf16*>(shared);
        Bf16* const dys = reinterpret_cast<Bf16*>(shared + plan.split_x());
        const Index lines = plan.x_rows + plan.dy_rows, groups = (plan.x_blocks + 1) / 2;
        for (Index first = 0; first < bands; first += plan.chunk) {
            const Index count = std::min(plan.chunk, bands - first), begin = plan.begin(first), end = plan.end(first);
            const Index x_first = plan.x_begin(begin);
            parallel_items(count * lines, [&](Index i, Index worker) {
                const Index band = i / lines, h = x_first + i % lines, p = begin + i % lines - plan.x_rows;
                float* const pixels = own + worker * plan.own();
                if (i % lines >= plan.x_rows) {
                    if (p < end)
                        steps.split_dy(dy, plan.image(first + band), p, pixels,
                                       dys + (band * plan.dy_rows + p - begin) * steps.line());
                } else if (h < plan.x_end(end))
                    steps.split_x(x, plan.image(first + band), h, pixels,
                                  xs + (band * plan.x_rows + i % lines) * x_line);
            });
            parallel_for((plan.dy_blocks + 1) / 2 * groups, [&](Index item) {
                const Index c = item % groups * 2;
                const Bf16TileScope tiles;
                steps.multiply({count, begin, end, begin, x_first, false, xs, dys}, item / groups * 2, c,
                               std::min(c + 2, plan.x_blocks), first > 0, sums);
            });
        }
    }
    parallel_for(plan.dy_blocks * plan.taps * plan.taps * plan.x_blocks,
                 [&](Index tile) { steps.write(tile, sums, dw); });
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
