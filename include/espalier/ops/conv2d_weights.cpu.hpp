#pragma once

#include <espalier/cpu/gather.hpp>
#include <espalier/ops/conv2d_options.hpp>
#include <espalier/tensor/tensor.hpp>

#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// How the gradient with respect to the weights is summed, worked out from shapes alone.
///
/// A piece is a band of output rows of some images. Its pixels are ordered by position, then image, and a run is a
/// stretch of them that one tap maps into the input. Pieces are dealt to segments in order; each segment has its own
/// partial sum, and these are added first to last, so the result does not depend on the number of threads.
struct WeightPlan {
    Index images = 1, height = 1;             ///< of a piece
    Index bands = 1;                          ///< of a map
    Index pieces = 0, segments = 1;           ///< in all
    Index channels = 1, chunks = 0;           ///< input channels that are copied at a time, and number of such chunks
    Index parts = 0;                          ///< items across, each of some chunks
    Index rows = 0, width = 0;                ///< of input that a band reads at most
    Index step = 1;                           ///< from one term of a run to the next
    Index tiles = 1;                          ///< of a band: one for each tap, or one for all
    bool copies_x = true, copies_dy = true;   ///< whether a piece of x and of dy is copied, or read where it is
    bool pads = false;                        ///< the copy of x has zeros around it
    std::vector<Index> x_at;                  ///< of a tile: where its elements lie in the input
    std::vector<Run> runs;                    ///< by band and tile
    std::vector<std::size_t> ends;            ///< of band and tile: where its runs end
    Index asks = 0;                           ///< runs that tiles go through for a piece, about
    Index window = 0, panel = 0, partial = 0; ///< elements: x of a piece, dy of a piece, sum of a segment

    /// Input row that a band from output row `p` on starts with.
    Index top(Index p, const Conv2dOptions& o) const {
        const Index row = p * o.stride - o.padding;
        return pads ? row : std::max<Index>(0, row);
    }
    /// Elements of scratch memory in all.
    Index scratch() const { return segments * partial + threads() * (window + panel); }
};

/// Plan of `conv2d_weight_gradient` for x [N,H,W,C], dy [N,P,Q,K], dw [K,R,S,C]: one group.
template <class T>
WeightPlan conv2d_weight_gradient_plan(Cpu, View<const T, 4> x, View<const T, 4> dy, const Conv2dOptions& o,
                                       View<T, 4> dw) {
    constexpr Index pixels = 128, wide = 32, items = 32, partials = Index(1) << 20;
    const Index batch = x.size(0), rows = dy.size(1), columns = dy.size(2), channels = x.size(3);
    WeightPlan plan;
    // About 128 pixels of one block of dy and of one cache line of x channels stay in the first-level cache.
    plan.bands = (rows * columns + pixels - 1) / pixels;
    plan.height = (rows + plan.bands - 1) / plan.bands;
    plan.bands = (rows + plan.height - 1) / plan.height;
    const Index groups = std::max<Index>(1, (batch * rows * columns + pixels - 1) / pixels);
    plan.images = plan.bands > 1 ? 1 : std::max<Index>(1, (batch + groups - 1) / groups);
    plan.pieces = (batch + plan.images - 1) / plan.images * plan.bands;
    plan.chunks = (channels + wide - 1) / wide;
    plan.channels = plan.chunks ? (channels + plan.chunks - 1) / plan.chunks : 1;
    plan.partial = panel_size<T>(dw.size(1) * dw.size(2) * channels, dw.size(0));
    // Enough segments to share the work, but not so many that adding them up matters.
    plan.segments = std::min({items, plan.pieces, partials / std::max<Index>(1, plan.partial)});
    plan.segments = std::max<Index>(1, plan.segments);
    plan.parts = std::min(plan.chunks, (items + plan.segments - 1) / plan.segments);

    // One image of one chunk is read where it lies. With so few channels that those of a tap do not fill tiles, it is
    // copied between zeros: all taps then have the same runs, and their channels fill tiles together.
    constexpr Index few = 16;
    const Index taps = dw.size(1) * dw.size(2);
    plan.pads = plan.images == 1 && taps > 1 && channels <= few;
    plan.copies_x = plan.pads || plan.images > 1 || plan.chunks > 1;
    // dy is read in place if its pixels are whole vectors and a piece of it stays in a first-level cache, about.
    constexpr Index near = Index(1) << 16;
    plan.copies_dy = plan.images > 1 || dy.size(3) % Simd<T>::lanes != 0 ||
                     pixels * dy.stride(2) * static_cast<Index>(sizeof(T)) > near;
    const auto reach = [&](Index outputs, Index count) {
        return (outputs - 1) * o.stride + (count - 1) * o.dilation + 1;
    };
    plan.width = plan.pads ? reach(columns, dw.size(2)) : x.size(2);
    const Index pixel = plan.copies_x ? plan.images * plan.channels : x.stride(2);
    const Index row = plan.copies_x ? plan.width * pixel : x.stride(1);
    plan.step = plan.images > 1 ? plan.channels : o.stride * pixel;
    plan.tiles = plan.pads ? 1 : taps;
    for (Index tap = 0; tap < taps / plan.tiles; ++tap)
        for (Index c = 0; c < plan.channels; ++c)
            plan.x_at.push_back(tap / dw.size(2) * o.dilation * row + tap % dw.size(2) * o.dilation * pixel + c);
    for (Index band = 0; band < plan.bands; ++band) {
        const Index first = band * plan.height, last = std::min(rows, first + plan.height);
        const Index top = plan.top(first, o);
        for (Index tap = 0; tap < plan.tiles; ++tap) {
            const std::size_t begin = plan.runs.size();
            for (Index p = first; p < last; ++p)
                for (Index q = 0; q < columns; ++q) {
                    Index h = p * o.stride - o.padding, v = q * o.stride;
                    if (!plan.pads) {
                        h += tap / dw.size(2) * o.dilation;
                        v += tap % dw.size(2) * o.dilation - o.padding;
                        if (h < 0 || h >= x.size(1) || v < 0 || v >= x.size(2)) continue;
                        plan.rows = std::max(plan.rows, h - top + 1);
                    }
                    const Run run{(h - top) * row + v * pixel, ((p - first) * columns + q) * plan.images, plan.images};
                    detail::append_run(plan.runs, begin, plan.step, run);
                }
            plan.ends.push_back(plan.runs.size());
        }
    }
    const Index tiles = ProductTile<T>::tiles(dw.size(0), plan.pads ? taps * channels : plan.channels);
    plan.asks = std::ssize(plan.runs) / plan.bands * tiles * panel_blocks<T>(dw.size(0)) * plan.chunks;
    if (plan.pads) plan.rows = reach(plan.height, dw.size(1));
    plan.window = !plan.copies_x ? 0 : plan.rows * row;
    plan.panel = !plan.copies_dy ? 0 : panel_size<T>(plan.height * columns * plan.images, dy.size(3));
    return plan;
}

} // namespace kernels

namespace detail {

/// Copies a piece of x into a window [rows, W, images, channels]; images beyond the batch are zero.
template <class T>
void copy_piece(const kernels::WeightPlan& plan, View<const T, 4> x, Index n, Index top, Index c, Index channels,
                T* window) {
    const Index rows = std::min(plan.rows, x.size(1) - top);
    for (Index h = top; h < top + rows; ++h)
        for (Index v = 0; v < x.size(2); ++v)
            for (Index i = 0; i < plan.images; ++i, window += plan.channels) {
                if (n + i < x.size(0))
                    std::copy_n(x.at(n + i, h, v, c), channels, window);
                else
                    std::fill_n(window, channels, T(0));
            }
}

/// Packs rows [p, p + rows) of a piece of dy as a panel of pixels, ordered as the window is; images beyond the batch
/// are zero.
template <class T>
void pack_piece(const kernels::WeightPlan& plan, View<const T, 4> dy, Index n, Index p, Index rows, T* panel) {
    const Index images = std::min(plan.images, dy.size(0) - n), columns = dy.size(2), filters = dy.size(3);
    const Index pixels = plan.height * columns * plan.images;
    if (images < plan.images) std::fill_n(panel, plan.panel, T(0));
    const auto pack = [&](View<const T, 2> pixels_of, Index first) {
        // A pixel at a time: its filters are read in one stream and go to all blocks.
        constexpr Index lanes = Simd<T>::lanes, block = kernels::block_width<T>;
        const Index whole = filters / block * block, rest = filters - whole;
        const Index width = rest ? kernels::panel_width<T>(filters, whole / block) : 0;
        T *to = panel + first * block, *last = panel + whole * pixels + first * width;
        for (Index i = 0; i < pixels_of.size(0); ++i, to += block, last += width) {
            const T* const from = pixels_of.at(i);
            for (Index k = 0; k < whole; k += block) {
                Simd<T>::store(to + k * pixels, Simd<T>::load(from + k));
                Simd<T>::store(to + k * pixels + lanes, Simd<T>::load(from + k + lanes));
            }
            for (Index k = 0; k < width; k += lanes)
                Simd<T>::store(last + k, Simd<T>::load_first(from + whole + k, std::min(lanes, rest - k)));
        }
    };
    for (Index h = 0; h < rows; ++h) {
        if (plan.images == 1)
            pack({dy.at(n, p + h), {columns, filters}, {dy.stride(2), 1}}, h * columns);
        else
            for (Index q = 0; q < columns; ++q)
                pack({dy.at(n, p + h, q), {images, filters}, {dy.stride(0), 1}}, (h * columns + q) * plan.images);
    }
}

} // namespace detail

namespace kernels {

/// dw[k,r,s,c] = sum over n,p,q of dy[n,p,q,k] * x[n, p*stride + r*dilation - padding, ..., c], inside x.
///
/// One group. One item is a segment of the pieces and a part of the chunks of input channels, with all taps and
/// filters.
/// @param scratch  plan.scratch() elements
template <class T>
void conv2d_weight_gradient(Cpu, const WeightPlan& plan, View<const T, 4> x, View<const T, 4> dy,
                            const Conv2dOptions& o, View<T, 1> scratch, View<T, 4> dw) {
    const Index taps = dw.size(1) * dw.size(2), channels = x.size(3), filters = dw.size(0), terms = taps * channels;
    const Index blocks = panel_blocks<T>(filters), pixels = plan.height * dy.size(2) * plan.images;
    T* const own = scratch.data() + plan.segments * plan.partial;
    std::vector<Index> wide_at, narrow_at; // sum i of a tile: of a tap and an input channel
    for (Index i = 0; i < static_cast<Index>(plan.x_at.size()); ++i) {
        wide_at.push_back(i * block_width<T>);
        narrow_at.push_back(i * Simd<T>::lanes);
    }
    if (plan.pieces == 0) std::fill_n(scratch.data(), plan.partial, T(0));
    parallel_items(plan.pieces ? plan.segments * plan.parts : 0, [&](Index item, Index worker) {
        const Index segment = item / plan.parts, part = item % plan.parts;
        const Index begin = plan.pieces * segment / plan.segments, end = plan.pieces * (segment + 1) / plan.segments;
        T *const window = own + worker * (plan.window + plan.panel), *const panel = window + plan.window;
        T* const partial = scratch.data() + segment * plan.partial;
        ReadAhead ahead;
        ProductTile<T> tile{};
        tile.step = plan.step;
        tile.pitch = plan.copies_dy ? 0 : dy.stride(2);
        tile.ahead = plan.images == 1 ? &ahead : nullptr; // runs over several images are too short to ask at each
        for (Index piece = begin; piece < end; ++piece) {
            const Index n = piece / plan.bands * plan.images, band = piece % plan.bands, p = band * plan.height;
            const Index top = plan.top(p, o);
            tile.start = piece == begin ? Start::zero : Start::y;
            if (plan.copies_dy) detail::pack_piece(plan, dy, n, p, std::min(plan.height, dy.size(1) - p), panel);
            if (piece + 1 < end) { // what the next piece copies
                const Index m = (piece + 1) / plan.bands * plan.images, q = (piece + 1) % plan.bands * plan.height;
                ahead.add(dy.at(m, q), pixels * filters * static_cast<Index>(sizeof(T)));
                if (plan.chunks == 1)
                    ahead.add(x.at(m, std::max<Index>(0, plan.top(q, o))),
                              plan.images * plan.rows * x.stride(1) * static_cast<Index>(sizeof(T)));
                ahead.share(plan.asks);
            }
            const T* const gradient = plan.copies_dy ? panel : dy.at(n, p);
            for (Index chunk = plan.chunks * part / plan.parts; chunk < plan.chunks * (part + 1) / plan.parts;
                 ++chunk) {
                const Index c = chunk * plan.channels, count = std::min(plan.channels, channels - c);
                if (plan.pads)
                    copy_window(x, n, n + 1, top, plan.rows, -o.padding, plan.width, window);
                else if (plan.copies_x)
                    detail::copy_piece(plan, x, n, top, c, count, window);
                tile.x = plan.copies_x ? window : x.at(n, top);
                for (Index b = 0; b < blocks; ++b) {
                    const Index first = b * block_width<T>;
                    tile.width = panel_width<T>(filters, b);
                    tile.panel = gradient + (plan.copies_dy ? first * pixels : first);
                    const Index* const y_at = (tile.width == block_width<T> ? wide_at : narrow_at).data();
                    for (Index tap = 0; tap < plan.tiles; ++tap) {
                        const auto at = static_cast<std::size_t>(band * plan.tiles + tap);
                        const std::size_t from = at ? plan.ends[at - 1] : 0;
                        tile.runs = std::span(plan.runs).subspan(from, plan.ends[at] - from);
                        tile.y = partial + first * terms + (tap * channels + c) * tile.width;
                        tile(plan.x_at.data(), y_at, plan.pads ? terms : count);
                    }
                }
            }
        }
    });
    parallel_for(blocks * taps, [&](Index i) {
        const Index b = i / taps, tap = i % taps, width = panel_width<T>(filters, b), first = b * block_width<T>;
        const T* const sums = scratch.data() + first * terms + tap * channels * width;
        for (Index c = 0; c < channels; ++c)
            for (Index lane = 0; lane < width; lane += Simd<T>::lanes) {
                const T* from = sums + c * width + lane;
                auto sum = Simd<T>::load(from);
                for (Index segment = 1; segment < plan.segments; ++segment) sum += Simd<T>::load(from += plan.partial);
                const Index k = first + lane;
                for (Index j = 0; j < std::min(Simd<T>::lanes, filters - k); ++j)
                    dw.at(k + j)[tap * channels + c] = sum[j];
            }
    });
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
