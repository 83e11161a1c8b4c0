#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/gather.hpp>
#include <espalier/cpu/lanes.hpp>
#include <espalier/cpu/transpose.hpp>
#include <espalier/ops/conv2d_bf16x2_window.cpu.hpp>
#include <espalier/ops/conv2d_options.hpp>

// Convolutions by the matrix unit: floats are split in pairs of bfloat16 (cpu/bf16_pair.hpp) and multiplied tile by
// tile (cpu/bf16_tile.hpp), directly and without transforms. A is pixels of the input by channels, B channels by
// filters. The gradient of the data is the same with filters turned around; that of the weights is
// conv2d_bf16x2_weights.cpu.hpp.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Whether a pass of a convolution of x [N,H,W,C] with w [K,R,S,C] goes to the matrix unit: where there is one, and
/// where it is faster than Winograd's way.
template <class T> bool bf16_pays(const Shape& x, const Shape& w, const Conv2dOptions& o, ConvPass pass) {
    if (!std::is_same_v<T, float> || !has_bf16_tiles()) return false;
    if (w[1] != 3 || w[2] != 3 || o.stride != 1 || o.dilation != 1 || o.groups != 1 || o.padding > 2) return false;
    // Fewer images than a training batch: the gradient of the weights would not fill its tiles, and answers are asked
    // for.
    if (pass != ConvPass::data_gradient && x[0] < 24) return false;
    if (pass == ConvPass::weight_gradient) return std::min(x[3], w[0]) >= 56;
    // Of a tile's time, what its results take is the same for any number of channels. Bounds by benchmarks/choices.cpp.
    const Index eaten = pass == ConvPass::forward ? x[3] : w[0], made = pass == ConvPass::forward ? w[0] : x[3];
    return made >= 48 && eaten >= (x[1] * x[2] <= 64 ? 56 : 96);
}

/// How a convolution by the matrix unit is cut up, worked out from shapes alone.
struct Bf16ConvPlan {
    Bf16Window window;          ///< of the input
    bool flat = false;          ///< terms run on from tap to tap of a row, instead of each tap filling tiles of its own
    Index tiles = 0;            ///< of B for the terms of a tap, or of a row of taps that is flat
    Index blocks = 0;           ///< of 16 filters
    Index group = 4;            ///< runs of pixels that a pair of blocks is multiplied by before the next pair's turn
    bool windows_first = false; ///< splits all windows, then pair by pair of blocks; or the other way around
    bool adds = false;          ///< the result is added to y instead of replacing it

    /// Tiles of B of a row of taps; numbers of a block of filters.
    /// @{
    Index row_tiles() const { return flat ? tiles : window.taps * tiles; }
    Index filters() const { return window.taps * row_tiles() * Bf16Tile::both; }
    /// @}
    /// Floats that all threads share, and that each has to itself, two numbers in one.
    /// @{
    Index shared() const { return windows_first ? window.bands() * window.half() : blocks * filters() / 2; }
    Index own() const { return sums() + row() + (windows_first ? filters() : window.half()); }
    /// @}
    /// Floats of the sums of two products, of a row of the input.
    /// @{
    Index sums() const { return 8 * Bf16Tile::results; }
    Index row() const { return window.width * whole_vectors<float>(window.channels); }
    /// @}
    /// Floats of scratch memory.
    Index scratch() const { return shared() + threads() * own(); }
};

/// Plan of `conv2d_bf16x2` for x [N,H,W,C], `padding` zeros around it, filters of `taps` by `taps`, more than that
/// padding, and y [N,P,Q,K], in the best order or in this one.
/// @{
Bf16ConvPlan bf16_conv_plan(Cpu on, const MapRows<float>& x, Index padding, Index taps, View<float, 4> y);
Bf16ConvPlan bf16_conv_plan(Cpu, const MapRows<float>& x, Index padding, Index taps, View<float, 4> y, Bf16Order order);
/// @}

/// y = x convolved with w [taps,taps,C,K] at stride 1, plus b unless that is empty, or all that added to y. The last
/// axis of y is contiguous.
/// @param scratch  plan.scratch() elements
void conv2d_bf16x2(Cpu, const Bf16ConvPlan& plan, const MapRows<float>& x, View<const float, 4> w,
                   View<const float, 1> b, View<float, 1> scratch, View<float, 4> y);

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY kernels::Bf16ConvPlan kernels::bf16_conv_plan(Cpu on, const MapRows<float>& x, Index padding, Index taps,
                                                            View<float, 4> y) {
    // Pixels and taps that each order multiplies for an image. That by images costs more where a window is written.
    const auto inside = [&](Index outputs, Index extent) { // taps that lie on pixels, of all outputs along an axis
        Index pairs = 0;
        for (Index i = 0; i < outputs; ++i)
            pairs += std::min(extent, i - padding + taps) - std::max<Index>(0, i - padding);
        return pairs;
    };
    const Index tiles = (x.batch + 15) / 16, down = y.size(1), across = y.size(2);
    const Index run = (down + padding) * (x.width + padding) * taps * taps;
    const Index rows = down * ((across + 15) / 16 * 16) * taps * taps;
    const Index images = inside(down, x.height) * inside(across, x.width) * 16 * tiles / std::max<Index>(1, x.batch);
    const bool by_images = x.batch >= 16 && 10 * images < 7 * std::min(run, rows);
    return bf16_conv_plan(on, x, padding, taps, y,
                          by_images     ? Bf16Order::images
                          : rows <= run ? Bf16Order::rows
                                        : Bf16Order::run);
}

ESPALIER_BODY kernels::Bf16ConvPlan kernels::bf16_conv_plan(Cpu, const MapRows<float>& x, Index padding, Index taps,
                                                            View<float, 4> y, Bf16Order order) {
    constexpr Index terms = Bf16Tile::terms;
    const auto parts = [](Index all, Index most) { return (all + most - 1) / most; };
    Bf16ConvPlan plan;
    Bf16Window& w = plan.window;
    w = {.order = order, .batch = x.batch, .height = x.height, .width = x.width, .channels = x.channels};
    w.padding = padding, w.taps = taps, w.down = y.size(1), w.across = y.size(2);
    const Index even = parts(x.channels, 2) * 2; // terms lie in pairs
    plan.flat = order != Bf16Order::images && parts(taps * even, terms) < taps * parts(x.channels, terms);
    plan.tiles = plan.flat ? parts(taps * even, terms) : parts(x.channels, terms);
    w.pitch = plan.flat ? even : plan.tiles * terms;
    if (w.pitch % 128 == 0) w.pitch += terms; // a power of two apart, they would share few places of a cache
    plan.blocks = parts(y.size(3), Bf16Tile::columns);

    // Windows that leave a second-level cache room for filters, but enough of them.
    const Index most = (Index(400) << 10) / (4 * w.pitch), some = std::max<Index>(1, detail::wanted_items() / 4);
    if (order == Bf16Order::images) {
        w.images = std::clamp<Index>(w.batch, 1, 32);
        w.rows = std::clamp<Index>(most / (w.width * w.images) - taps + 1, 1, w.down);
        while (w.rows > 1 && w.bands() < some) --w.rows;
    } else {
        const Index fit = parts(w.down, std::clamp<Index>(most / w.line() - taps + 1, 1, w.down));
        w.rows = parts(w.down, std::clamp<Index>(std::max(fit, some / std::max<Index>(1, w.batch)), 1,
                                                 std::max<Index>(fit, w.down / 8)));
        if (w.rows == w.down)
            w.images = std::clamp<Index>(std::min(most / w.image(), w.batch / some), 1, std::max<Index>(1, w.batch));
    }
    // What is split first is read again and again from memory that all threads share: the smaller of the two.
    plan.windows_first = 2 * w.bands() * w.half() < plan.blocks * plan.filters();
    plan.group = 4 * std::max<Index>(1, 4 * plan.filters() / (Index(32) << 10)); // worth reading a pair of blocks for
    return plan;
}

namespace detail {

/// Splits the terms of blocks [first, last) of the filters w [R,S,C,K], tile by tile as the plan has them.
inline void split_filters(const kernels::Bf16ConvPlan& plan, View<const float, 4> w, Index first, Index last,
                          kernels::Bf16* to) {
    using kernels::Bf16Pair, kernels::Bf16Tile;
    using S = Simd<float>;
    constexpr Index lanes = S::lanes, columns = Bf16Tile::columns, terms = Bf16Tile::terms;
    alignas(64) float tile[terms][columns];
    const auto split = [&](kernels::Bf16* out) {
        for (Index i = 0; i < terms; i += 2)
            for (Index k = 0; k < columns; k += lanes, out += 2 * lanes) {
                const Bf16Pair even(S::load(tile[i] + k)), odd(S::load(tile[i + 1] + k));
                const auto upper = Bf16Pair::interleave(even.upper, odd.upper);
                const auto lower = Bf16Pair::interleave(even.lower, odd.lower);
                std::memcpy(out, &upper, sizeof upper);
                std::memcpy(out + Bf16Tile::half, &lower, sizeof lower);
            }
    };
    const auto read = [&](Index r, Index s, Index c, Index k) { // all terms of one tap, of a whole block
        const float* const from = w.at(r, s, c, k);
        if (w.stride(3) == 1) {
            for (Index i = 0; i < terms; ++i) std::copy_n(from + i * w.stride(2), columns, tile[i]);
            return;
        }
        for (Index i = 0; i < terms; i += lanes) // terms lie side by side, filters do not
            for (Index j = 0; j < columns; j += lanes) {
                S::Vector square[lanes];
                for (Index l = 0; l < lanes; ++l) square[l] = S::load(from + (j + l) * w.stride(3) + i);
                kernels::transpose<float>(square);
                for (Index l = 0; l < lanes; ++l) S::store(tile[i + l] + j, square[l]);
            }
    };
    const auto read_some = [&](Index r, Index begin, Index k) { // row r of taps from term `begin` on, as in a window
        for (Index i = 0; i < terms; ++i) {
            const Index s = (begin + i) / plan.window.pitch, c = (begin + i) % plan.window.pitch;
            const Index count = s < w.size(1) && c < w.size(2) ? std::min(columns, w.size(3) - k) : 0;
            for (Index j = 0; j < columns; ++j) tile[i][j] = j < count ? w(r, s, c, k + j) : 0.f;
        }
    };
    for (Index r = 0; r < w.size(0); ++r)
        for (Index s = 0; s < (plan.flat ? 1 : w.size(1)); ++s)
            for (Index t = 0; t < plan.tiles; ++t, to += Bf16Tile::both)
                for (Index b = first; b < last; ++b) { // side by side in w, if that is turned
                    const Index c = t * terms, k = b * columns;
                    const bool whole = !plan.flat && c + terms <= w.size(2) && k + columns <= w.size(3);
                    if (whole && (w.stride(3) == 1 || w.stride(2) == 1))
                        read(r, s, c, k);
                    else
                        read_some(r, s * plan.window.pitch + c, k);
                    split(to + (b - first) * plan.filters());
                }
}

/// What one worker computes of y.
class Bf16Products {
public:
    /// `sums` is scratch, of plan.sums() floats.
    Bf16Products(const kernels::Bf16ConvPlan& plan, View<const float, 1> bias, float* sums, View<float, 4> y)
        : plan_(plan), window_(plan.window), bias_(bias), sums_(sums), y_(y) {}

    /// A band by its window, for blocks [first, last) of the filters, which are split.
    void operator()(const kernels::Bf16Window::Band& band, const kernels::Bf16* pixels, Index first, Index last,
                    const kernels::Bf16* filters) {
        const Index all = window_.runs(band);
        for (Index begin = 0; begin < all; begin += plan_.group)
            for (Index b = first; b < last; b += 2)
                for (Index i = begin, end = std::min(all, begin + plan_.group); i < end;) {
                    Part part{.band = band, .block = b, .blocks = static_cast<int>(std::min<Index>(2, last - b))};
                    part.run[0] = window_.run(band, i);
                    for (part.runs = 1; part.runs < 4 / part.blocks && i + part.runs < end; ++part.runs) {
                        part.run[part.runs] = window_.run(band, i + part.runs);
                        if (!part.run[part.runs].same_taps(part.run[0])) break;
                    }
                    i += part.runs;
                    multiply(part, pixels, filters + (b - first) * plan_.filters());
                }
        write(last_);
        last_.runs = 0;
    }

private:
    /// A few runs of pixels of a band, for one block of filters or two.
    struct Part {
        kernels::Bf16Window::Band band{};
        kernels::Bf16Window::Run run[4] = {};
        Index block = 0;
        int runs = 0, blocks = 0;
        const float* sums = nullptr;
    };

    // The products of a part. Those of the part before go to y while the matrix unit works.
    void multiply(Part& part, const kernels::Bf16* pixels, const kernels::Bf16* filters) {
        using kernels::Bf16Tile;
        float* const sums = last_.sums == sums_ ? sums_ + plan_.sums() / 2 : sums_;
        const auto& run = part.run[0];
        const Index tap = plan_.tiles * Bf16Tile::both, row = plan_.row_tiles() * Bf16Tile::both;
        kernels::Bf16Product product{.m = part.runs, .n = part.blocks, .row = window_.pitch, .low = window_.half()};
        for (int j = 0; j < part.blocks; ++j)
            product.b[j] = filters + j * plan_.filters() + run.r * row + (plan_.flat ? 0 : run.s * tap);
        for (int i = 0; i < part.runs; ++i) {
            product.a[i] = pixels + part.run[i].from * window_.pitch;
            for (int j = 0; j < part.blocks; ++j) product.y[i][j] = sums + (i * part.blocks + j) * Bf16Tile::results;
            window_.pixels(part.band, part.run[i], y_, [&](Index, float* pixel) { // in time for `write`
                for (int j = 0; j < part.blocks; ++j)
                    __builtin_prefetch(pixel + (part.block + j) * Bf16Tile::columns, 1);
            });
        }
        product({{run.r_end - run.r, plan_.flat ? 1 : run.s_end - run.s, plan_.tiles},
                 {window_.line() * window_.pitch, window_.column() * window_.pitch, Bf16Tile::terms},
                 {row, tap, Bf16Tile::both}});
        write(last_);
        last_ = part;
        last_.sums = sums;
    }

    void write(const Part& part) const {
        constexpr Index columns = kernels::Bf16Tile::columns;
        const Index k = part.block * columns, count = std::min(part.blocks * columns, y_.size(3) - k);
        for (int i = 0; i < part.runs; ++i)
            window_.pixels(part.band, part.run[i], y_, [&](Index m, float* pixel) {
                const float* const sums = part.sums + i * part.blocks * kernels::Bf16Tile::results + m * columns;
                kernels::for_vectors<float>(count, [&](auto lanes, Index v) { // no vector reaches over two blocks
                    auto sum = Simd<float>::load(sums + v / columns * kernels::Bf16Tile::results + v % columns);
                    if (bias_.size()) sum += lanes.load(bias_.data() + k + v);
                    float* const to = pixel + k + v;
                    lanes.store(to, plan_.adds ? lanes.load(to) + sum : sum);
                });
            });
    }

    const kernels::Bf16ConvPlan& plan_;
    const kernels::Bf16Window& window_;
    View<const float, 1> bias_;
    float* sums_;
    View<float, 4> y_;
    Part last_;
};

} // namespace detail

ESPALIER_BODY void kernels::conv2d_bf16x2(Cpu, const Bf16ConvPlan& plan, const MapRows<float>& x,
                                          View<const float, 4> w, View<const float, 1> b, View<float, 1> scratch,
                                          View<float, 4> y) {
    const Bf16Window& window = plan.window;
    Bf16* const shared = reinterpret_cast<Bf16*>(scratch.data());
    // A thread's memory: sums, a row of x, what it splits for itself.
    const auto own = [&](Index worker) { return scratch.data() + plan.shared() + worker * plan.own(); };
    const auto row = [&](Index worker) { return own(worker) + plan.sums(); };
    const auto split = [&](Index worker) { return reinterpret_cast<Bf16*>(row(worker) + plan.row()); };
    if (plan.windows_first) {
        const auto window_at = [&](Index i) { return shared + 2 * i * window.half(); };
        parallel_items(window.bands(), [&](Index i, Index worker) {
            read_bf16_window(window, window.band(i), x, row(worker), window_at(i));
        });
        parallel_items((plan.blocks + 1) / 2, [&](Index pair, Index worker) {
            const Index first = 2 * pair, last = std::min(first + 2, plan.blocks);
            detail::split_filters(plan, w, first, last, split(worker));
            detail::Bf16Products products(plan, b, own(worker), y);
            const Bf16TileScope tiles;
            for (Index i = 0; i < window.bands(); ++i)
                products(window.band(i), window_at(i), first, last, split(worker));
        });
        return;
    }
    parallel_for((plan.blocks + 1) / 2, [&](Index pair) {
        const Index first = 2 * pair;
        detail::split_filters(plan, w, first, std::min(first + 2, plan.blocks), shared + first * plan.filters());
    });
    parallel_items(window.bands(), [&](Index i, Index worker) {
        read_bf16_window(window, window.band(i), x, row(worker), split(worker));
        detail::Bf16Products products(plan, b, own(worker), y);
        const Bf16TileScope tiles;
        products(window.band(i), split(worker), 0, plan.blocks, shared);
    });
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
