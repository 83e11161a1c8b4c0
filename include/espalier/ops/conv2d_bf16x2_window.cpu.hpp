#pragma once

#include <espalier/cpu/bf16_tile.hpp>
#include <espalier/cpu/map_rows.hpp>

// How the pixels of a convolution's input lie so that the matrix unit can read them: 16 rows of a tile are 16 pixels,
// and each tap reads the same rows from some positions further on.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Which pixels of the output the 16 rows of a tile are.
enum class Bf16Order {
    rows,   ///< side by side in a row
    run,    ///< one after another through all rows and the zeros between them: for rows that do not fill tiles
    images, ///< one pixel of 16 images: for maps so small that much of a window would be zeros, which this one has not
};

/// How the images of a batch are cut into bands, and a band lies in a window: `positions()` times `pitch` numbers, all
/// upper halves first, then all lower ones.
///
/// Ordered by `rows` or as a `run`, rows of pixels have the zeros in front of them, and those behind them are the next
/// row's; likewise images, above and below. Ordered by `images`, the images of each pixel lie side by side.
struct Bf16Window {
    Bf16Order order = Bf16Order::rows;                    ///< of the pixels of a tile
    Index batch = 0, height = 0, width = 0, channels = 0; ///< of the map
    Index padding = 0, taps = 1;                          ///< zeros around it; taps along an axis
    Index down = 0, across = 0;                           ///< rows and columns of the output
    Index images = 1, rows = 1;                           ///< of a band: images, and rows of the output
    Index pitch = 0;                                      ///< numbers from position to position

    /// What one band is.
    struct Band {
        Index n, images, row, rows; ///< first image, images, first row of the output, rows of it
    };
    /// 16 pixels of the output that a tile computes, and the taps that have pixels there.
    struct Run {
        Index from;           ///< position of the first pixel of the first tap
        Index r, r_end;       ///< rows of taps
        Index s, s_end;       ///< columns of taps
        Index n, p, q, count; ///< first pixel of the output; pixels

        /// Whether it has the same taps as another.
        bool same_taps(const Run& o) const { return r == o.r && r_end == o.r_end && s == o.s && s_end == o.s_end; }
    };

    /// Bands of an image, and of the batch.
    /// @{
    Index parts() const { return (down + rows - 1) / rows; }
    Index bands() const { return (batch + images - 1) / images * parts(); }
    /// @}
    /// Band b.
    Band band(Index b) const {
        const Index n = b / parts() * images, row = b % parts() * rows;
        return {n, std::min(images, batch - n), row, std::min(rows, down - row)};
    }
    /// From column to column, from row to row, from image to image where they lie one after another.
    /// @{
    Index column() const { return order == Bf16Order::images ? (images + 15) / 16 * 16 : 1; }
    Index line() const { return order == Bf16Order::images ? width * column() : width + padding; }
    Index image() const { return (height + padding) * line(); }
    /// @}
    /// Positions of a window, with those behind its end that tiles may read.
    Index positions() const {
        const Index lines = order == Bf16Order::images ? std::min(height, rows + taps - 1)
                            : images == 1              ? rows + taps - 1
                                                       : images * (height + padding) + padding;
        return lines * line() + 16 + padding + taps;
    }
    /// Numbers of one half; a tile may read on behind the last position.
    Index half() const { return positions() * pitch + Bf16Tile::terms; }

    /// Runs of a band.
    Index runs(const Band& b) const {
        if (order == Bf16Order::images) return b.rows * across * (column() / 16);
        if (order == Bf16Order::rows) return b.images * b.rows * ((across + 15) / 16);
        return (((b.images - 1) * (height + padding) + b.rows - 1) * line() + across + 15) / 16;
    }
    /// Run i of a band.
    Run run(const Band& b, Index i) const {
        Run run{0, 0, taps, 0, taps, b.n, b.row, 0, 16};
        if (order == Bf16Order::images) {
            const Index groups = column() / 16, first = i % groups * 16, top = std::max<Index>(0, b.row - padding);
            run.p += i / groups / across, run.q = i / groups % across;
            run.r = std::max<Index>(0, padding - run.p), run.r_end = std::min(taps, height + padding - run.p);
            run.s = std::max<Index>(0, padding - run.q), run.s_end = std::min(taps, width + padding - run.q);
            run.from = (run.p + run.r - padding - top) * line() + (run.q + run.s - padding) * column() + first;
            run.n += first, run.count = std::clamp<Index>(b.images - first, 0, 16);
        } else if (order == Bf16Order::rows) {
            const Index parts = (across + 15) / 16, row = i / parts;
            run.n += row / b.rows, run.p += row % b.rows, run.q = i % parts * 16;
            run.from = (run.n - b.n) * image() + (run.p - b.row) * line() + run.q;
            run.count = std::min<Index>(16, across - run.q);
        } else {
            run.from = 16 * i;
            run.n += run.from / image(), run.p += run.from % image() / line(), run.q = run.from % line();
        }
        return run;
    }
    /// Calls `f(m, pixel)` for the pixels of a run: their numbers in the tile and their places in y [N,P,Q,K].
    template <class F> void pixels(const Band& b, const Run& run, View<float, 4> y, const F& f) const {
        if (order != Bf16Order::run) {
            float* pixel = run.count ? y.at(run.n, run.p, run.q) : nullptr;
            const Index step = order == Bf16Order::images ? y.stride(0) : y.stride(2);
            for (Index m = 0; m < run.count; ++m, pixel += step) f(m, pixel);
            return;
        }
        Index n = run.n, p = run.p, q = run.q;
        for (Index m = 0; m < 16; ++m) {
            if (q < across && p < b.row + b.rows && n < b.n + b.images) f(m, y.at(n, p, q));
            if (++q < line()) continue;
            q = 0;
            if (++p == height + padding) p = 0, ++n;
        }
    }
};

/// Reads a band of x into a window `to`; `row` has room for a row of x in whole vectors.
void read_bf16_window(const Bf16Window& window, const Bf16Window::Band& band, const MapRows<float>& x, float* row,
                      Bf16* to);

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// Splits the channels of a pixel, and zeros up to `pitch`.
[[gnu::always_inline]] inline void split_pixel(const float* from, Index channels, Index pitch, kernels::Bf16* to,
                                               Index low) {
    using S = Simd<float>;
    constexpr Index lanes = S::lanes;
    Index c = 0;
    for (; c + lanes <= channels; c += lanes) {
        const kernels::Bf16Pair pair(S::load(from + c));
        kernels::Bf16Pair::store(to + c, pair.upper);
        kernels::Bf16Pair::store(to + low + c, pair.lower);
    }
    if (c == pitch) return;
    kernels::Bf16 rest[2][lanes] = {};
    const kernels::Bf16Pair pair(S::load_first(from + c, channels - c));
    kernels::Bf16Pair::store(rest[0], pair.upper);
    kernels::Bf16Pair::store(rest[1], pair.lower);
    for (Index i = 0; c < pitch; ++i, ++c) {
        to[c] = i < lanes ? rest[0][i] : kernels::Bf16(0);
        to[low + c] = i < lanes ? rest[1][i] : kernels::Bf16(0);
    }
}

} // namespace detail

ESPALIER_BODY void kernels::read_bf16_window(const Bf16Window& window, const Bf16Window::Band& band,
                                             const MapRows<float>& x, float* row, Bf16* to) {
    const Index low = window.half(), pitch = window.pitch, wide = whole_vectors<float>(window.channels);
    const auto zero = [&](Index begin, Index end) { // positions
        std::fill(to + begin * pitch, to + end * pitch, Bf16(0));
        std::fill(to + low + begin * pitch, to + low + end * pitch, Bf16(0));
    };
    const auto split_row = [&](Index n, Index h, Index at) {
        x.read(n, h, row, wide);
        Bf16* pixel = to + at * pitch;
        for (Index v = 0; v < window.width; ++v, pixel += window.column() * pitch)
            detail::split_pixel(row + v * wide, window.channels, pitch, pixel, low);
    };
    Index at = 0;
    if (window.order == Bf16Order::images) {
        const Index first = std::max<Index>(0, band.row - window.padding);
        const Index last = std::min(window.height, band.row + band.rows + window.taps - 1 - window.padding);
        for (Index h = first; h < last; ++h, at += window.line()) {
            for (Index n = 0; n < band.images; ++n) split_row(band.n + n, h, at + n);
            for (Index v = 0; v < window.width && band.images < window.column(); ++v)
                zero(at + v * window.column() + band.images, at + (v + 1) * window.column());
        }
    } else
        for (Index n = 0; n < band.images; ++n) {
            const Index below = band.row + band.rows + window.taps - 1 - window.padding;
            for (Index h = band.row - window.padding; h < (n + 1 < band.images ? window.height : below); ++h) {
                const bool inside = h >= 0 && h < window.height;
                zero(at, at + (inside ? window.padding : window.line()));
                if (inside) split_row(band.n + n, h, at + window.padding);
                at += window.line();
            }
        }
    zero(at, window.positions());
    std::fill_n(to + window.positions() * pitch, Bf16Tile::terms, Bf16(0));
    std::fill_n(to + low + window.positions() * pitch, Bf16Tile::terms, Bf16(0));
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
