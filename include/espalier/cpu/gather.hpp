#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/microkernel.hpp>
#include <espalier/cpu/workers.hpp>
#include <espalier/tensor/tensor.hpp>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

// Gathered products: each output pixel is a sum over taps of input pixels times a matrix. A convolution is one, so are
// its gradient with respect to the input, and a matrix product (one tap).

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// One tap along an axis: output number i reads input pixel i * scale + offset with weights `tap`, which lie at `place`
/// of the panel.
struct Tap {
    Index offset, tap, place; ///< as above
};

/// Every `step`-th pixel of an output axis from `first`: pixels that share their taps, in order of offset.
struct Phase {
    Index first, step, count, scale; ///< output pixels; scale: input pixels from one to the next
    std::vector<Tap> taps;           ///< of each of these pixels

    /// Offset of the first and of the last tap; 0 without taps.
    /// @{
    Index low() const { return taps.empty() ? 0 : taps.front().offset; }
    Index high() const { return taps.empty() ? 0 : taps.back().offset; }
    /// @}
    /// Input pixels from the first that output number 0 reads to the last that output number `outputs` - 1 reads.
    Index span(Index outputs) const { return (outputs - 1) * scale + high() - low() + 1; }
    /// Whether a tap of output number i lies within an input of `extent` pixels.
    bool inside(Index i, const Tap& tap, Index extent) const {
        return i * scale + tap.offset >= 0 && i * scale + tap.offset < extent;
    }
    /// Pairs of an output and a tap that lies inside.
    Index inside(Index extent) const {
        Index pairs = 0;
        for (Index i = 0; i < count; ++i)
            for (const Tap& tap : taps) pairs += inside(i, tap, extent);
        return pairs;
    }
};

/// The phase that reads what any of these reads; its first and last tap are all that counts.
inline Phase cover(const std::vector<Phase>& phases) {
    Phase all{0, 1, 0, 1, {}};
    Index low = std::numeric_limits<Index>::max(), high = std::numeric_limits<Index>::min();
    for (const Phase& phase : phases) {
        all.count = std::max(all.count, phase.count);
        all.scale = phase.scale;
        if (phase.taps.empty()) continue;
        low = std::min(low, phase.low());
        high = std::max(high, phase.high());
    }
    if (low <= high) all.taps = {{low, 0, 0}, {high, 0, 0}};
    return all;
}

/// How the pixels of one row phase and one column phase are computed.
///
/// By rows: a band is some rows of one image or some whole images, read in place if no tap leaves the input and from a
/// zero-padded copy otherwise. By position: a band is some images; the pixels of a tile are the same position of
/// several images, so that taps outside the input are left out: on small maps that is half of the work.
struct GatherPart {
    /// By rows or by position, as above.
    enum class Order { rows, positions };

    Phase rows, columns;           ///< the output pixels of this part
    Phase read_rows, read_columns; ///< what bands read: the same phases, or those that cover all parts
    Order order = Order::rows;     ///< how
    bool copies = false;           ///< by rows: the input is copied into a padded window
    Index images = 1, height = 1;  ///< images and rows of a band
    std::vector<Index> x_at, y_at; ///< where the pixels of a tile lie, from the first pixel of the band
    std::vector<Run> runs;         ///< taps that read consecutive memory, merged
    std::vector<std::size_t> ends; ///< by position: where the runs of each position end

    /// Bands that a batch comes to.
    Index bands(Index batch) const { return (batch + images - 1) / images * down(); }
    /// Bands from top to bottom.
    Index down() const { return (read_rows.count + height - 1) / height; }
};

/// What to compute in which order, worked out from shapes alone.
struct GatherPlan {
    Index panel_rows = 0;          ///< taps times input channels
    Index panel = 0;               ///< elements of the packed weights
    Index window = 0;              ///< elements of scratch of one worker
    std::vector<GatherPart> parts; ///< one for each pair of a row phase and a column phase
    bool together = false;         ///< the parts share their bands, and what is copied of the input

    /// Elements of scratch memory: the panel, and a window for each thread.
    Index scratch() const { return panel + threads() * window; }
};

} // namespace kernels

namespace detail {

/// Bytes of input in a band: half of a common second-level cache, the other half is for weights and output.
inline constexpr Index band_bytes = 128 * 1024;

/// Items of one gather that even out their ends. How many there are changes no result: they share no sum.
inline Index wanted_items() { return 4 * threads(); }

/// Appends a run to those from `first` on; one that continues the last, in input and panel, lengthens it.
inline void append_run(std::vector<kernels::Run>& runs, std::size_t first, Index step, const kernels::Run& run) {
    if (runs.size() > first && runs.back().from + runs.back().count * step == run.from &&
        runs.back().row + runs.back().count == run.row)
        runs.back().count += run.count;
    else
        runs.push_back(run);
}

template <class T>
void plan_rows(kernels::GatherPart& part, Index taps_across, const View<const T, 4>& x, const View<T, 4>& y) {
    const auto &rows = part.read_rows, &columns = part.read_columns;
    const Index channels = x.size(3), width = columns.span(columns.count);
    const bool taps = !rows.taps.empty() && !columns.taps.empty();
    part.copies = taps && (rows.low() < 0 || columns.low() < 0 || rows.low() + rows.span(rows.count) > x.size(1) ||
                           columns.low() + width > x.size(2));
    const Index pixel = part.copies ? channels : x.stride(2), row = part.copies ? width * channels : x.stride(1);
    const Index image = part.copies ? rows.span(rows.count) * row : x.stride(0);

    const Index budget = band_bytes / static_cast<Index>(sizeof(T)), row_size = std::max<Index>(1, width * channels);
    const Index image_size = rows.span(rows.count) * row_size;
    const Index batch = std::max<Index>(1, x.size(0)), work = batch * kernels::panel_blocks<T>(y.size(3));
    part.images = std::clamp<Index>(std::min(budget / image_size, work / wanted_items()), 1, batch);
    part.height = image_size <= budget
                      ? rows.count
                      : std::clamp<Index>((budget / row_size - (rows.span(1) - 1)) / rows.scale, 1, rows.count);
    if (const Index bands = wanted_items() / std::max<Index>(1, work); bands > 1)
        part.height = std::min(part.height, (rows.count + bands - 1) / bands);
    // The output is written block by block of its channels; what a band writes stays in that cache until it is whole.
    const Index written = std::max<Index>(1, part.rows.step * y.size(2) * y.size(3));
    const Index high = std::clamp<Index>(2 * budget / written, 1, std::max<Index>(1, rows.count));
    part.height = std::min(part.height, high);
    part.images = high < rows.count ? 1 : std::clamp<Index>(2 * budget / (written * high), 1, part.images);
    // As many bands for each thread, if that makes them only a little smaller.
    const Index rounds = (batch + part.images * threads() - 1) / (part.images * threads());
    part.images = std::max<Index>(1, batch / (rounds * threads()));
    for (Index n = 0; n < part.images; ++n)
        for (Index i = 0; i < std::min(part.height, part.rows.count); ++i)
            for (Index j = 0; j < part.columns.count; ++j) {
                part.x_at.push_back(n * image + i * rows.scale * row + j * columns.scale * pixel);
                part.y_at.push_back(n * y.stride(0) + i * part.rows.step * y.stride(1) +
                                    j * part.columns.step * y.stride(2));
            }
    for (const auto& r : part.rows.taps)
        for (const auto& s : part.columns.taps) {
            const Index from = (r.offset - rows.low()) * row + (s.offset - columns.low()) * pixel;
            const Index place = (r.place * taps_across + s.place) * channels;
            append_run(part.runs, 0, part.copies ? 1 : x.stride(3), {from, place, channels});
        }
}

template <class T>
void plan_positions(kernels::GatherPart& part, Index taps_across, const View<const T, 4>& x, const View<T, 4>& y) {
    const Index channels = x.size(3), batch = x.size(0);
    const Index image_size = std::max<Index>(1, x.size(1) * x.size(2) * channels);
    const Index work = batch * kernels::panel_blocks<T>(y.size(3));
    const Index fit = band_bytes / static_cast<Index>(sizeof(T)) / image_size;
    const Index most = std::max<Index>(6, std::min(fit, work / wanted_items())); // six fill a tile
    const Index groups = (batch + most - 1) / most;                              // of nearly equal size
    part.images = groups ? (batch + groups - 1) / groups : 1;
    part.height = part.rows.count;
    for (Index n = 0; n < part.images; ++n) {
        part.x_at.push_back(n * x.stride(0));
        part.y_at.push_back(n * y.stride(0));
    }
    for (Index i = 0; i < part.rows.count; ++i)
        for (Index j = 0; j < part.columns.count; ++j) {
            const std::size_t first = part.runs.size();
            for (const auto& r : part.rows.taps)
                for (const auto& s : part.columns.taps) {
                    if (!part.rows.inside(i, r, x.size(1)) || !part.columns.inside(j, s, x.size(2))) continue;
                    const kernels::Run run{(i * part.rows.scale + r.offset) * x.stride(1) +
                                               (j * part.columns.scale + s.offset) * x.stride(2),
                                           (r.place * taps_across + s.place) * channels, channels};
                    append_run(part.runs, first, x.stride(3), run);
                }
            part.ends.push_back(part.runs.size());
        }
}

} // namespace detail

namespace kernels {

/// The plan for x [N,H,W,C] to y [N,P,Q,K] with the given phases of rows and columns and `taps` = {down, across} taps.
template <class T>
GatherPlan gather_plan(View<const T, 4> x, View<T, 4> y, const std::vector<Phase>& rows,
                       const std::vector<Phase>& columns, std::pair<Index, Index> taps) {
    GatherPlan plan;
    plan.panel_rows = taps.first * taps.second * x.size(3);
    plan.panel = panel_size<T>(plan.panel_rows, y.size(3));
    // Positions walk over several images at once, which is worth a tenth of the products and four images.
    const auto by_position = [&](const std::vector<Phase>& down, const std::vector<Phase>& across) {
        double all = 0, inside = 0;
        for (const Phase& r : down)
            for (const Phase& c : across) {
                all += static_cast<double>(r.count * c.count) * static_cast<double>(r.taps.size() * c.taps.size());
                inside += static_cast<double>(r.inside(x.size(1)) * c.inside(x.size(2)));
            }
        return inside < 0.9 * all && x.size(0) >= 4;
    };
    plan.together = !by_position(rows, columns);
    for (const Phase& r : rows)
        for (const Phase& c : columns) {
            if (r.count == 0 || c.count == 0) continue;
            GatherPart part;
            part.rows = r;
            part.columns = c;
            part.read_rows = plan.together ? cover(rows) : r;
            part.read_columns = plan.together ? cover(columns) : c;
            if (!plan.together && by_position({r}, {c})) {
                part.order = GatherPart::Order::positions;
                detail::plan_positions(part, taps.second, x, y);
            } else {
                detail::plan_rows(part, taps.second, x, y);
            }
            if (part.copies)
                plan.window = std::max(plan.window, part.images * part.read_rows.span(part.height) *
                                                        part.read_columns.span(part.read_columns.count) * x.size(3));
            plan.parts.push_back(std::move(part));
        }
    return plan;
}

/// Copies input rows [top, top + height) and columns [left, left + width) of images [begin, end) into a window
/// [images, height, width, C]; what lies outside the input is zero.
template <class T>
void copy_window(View<const T, 4> x, Index begin, Index end, Index top, Index height, Index left, Index width, T* to) {
    const Index channels = x.size(3), row = width * channels;
    const Index first = std::clamp<Index>(-left, 0, width), last = std::clamp(x.size(2) - left, first, width);
    for (Index n = begin; n < end; ++n)
        for (Index h = top; h < top + height; ++h, to += row) {
            if (h < 0 || h >= x.size(1)) {
                std::fill_n(to, row, T(0));
                continue;
            }
            std::fill_n(to, first * channels, T(0));
            if (x.stride(2) == channels && x.stride(3) == 1)
                std::copy_n(x.at(n, h, left + first), (last - first) * channels, to + first * channels);
            else
                for (Index v = first; v < last; ++v)
                    for (Index c = 0; c < channels; ++c) to[v * channels + c] = x(n, h, left + v, c);
            std::fill(to + last * channels, to + row, T(0));
        }
}

/// Asks for the input that a band reads.
template <class T> void ask_for_band(const GatherPart& part, View<const T, 4> x, Index band, ReadAhead& ahead) {
    const Index n = band / part.down() * part.images, i = band % part.down() * part.height;
    const Index images = std::min(part.images, x.size(0) - n), height = std::min(part.height, part.read_rows.count - i);
    const Index low = i * part.read_rows.scale + part.read_rows.low();
    const bool all = part.order == GatherPart::Order::positions;
    const Index top = all ? 0 : std::clamp<Index>(low, 0, x.size(1));
    const Index bottom = all ? x.size(1) : std::clamp(low + part.read_rows.span(height), top, x.size(1));
    const Index elements = (images - 1) * x.stride(0) + (bottom - top) * x.stride(1);
    ahead.add(x.at(n, top), elements * static_cast<Index>(sizeof(T)));
}

/// Whether a gather writes y past the caches: where it is larger than those that are fast, and each pixel's block of
/// channels fills whole lines.
template <class T> bool gather_streams(View<T, 4> y) {
    constexpr Index line = 64, large = Index(1) << 21, size = static_cast<Index>(sizeof(T));
    const bool lines = y.size(3) * size % line == 0 && block_width<T> * size % line == 0;
    return lines && y.stride(2) == y.size(3) && y.size() * size >= large;
}

/// y[n, p, q, k] = b[k] + sum over taps and c of x[n, row, column, c] * panel[tap, c][k], by a plan; b may be empty.
///
/// One item is a band of pixels and a chunk of output channels; no sum is shared between items.
/// @param scratch  plan.scratch() elements, the first plan.panel of them the packed weights
template <class T>
void gather(Cpu, const GatherPlan& plan, View<const T, 4> x, View<const T, 1> b, View<T, 1> scratch, View<T, 4> y) {
    const Index columns = y.size(3), blocks = panel_blocks<T>(columns);
    const std::size_t shared = plan.together ? plan.parts.size() : 1; // parts that go through the bands side by side
    for (std::size_t leader = 0; leader < plan.parts.size(); leader += shared) {
        const GatherPart& band_of = plan.parts[leader];
        const Index down = band_of.down(), bands = band_of.bands(x.size(0));
        if (bands * blocks == 0) continue;
        const Index chunks = std::min(blocks, (detail::wanted_items() + bands - 1) / bands);
        const bool streams = gather_streams(y);
        Index runs = 0; // that tiles go through for a block of a band, about
        for (const GatherPart& part : std::span(plan.parts).subspan(leader, shared))
            runs += std::ssize(part.runs) * ProductTile<T>::tiles(columns, std::ssize(part.x_at));
        parallel_items(bands * chunks, [&](Index item, Index worker) {
            const Index band = item / chunks, chunk = item % chunks;
            const Index n = band / down * band_of.images, end = std::min(x.size(0), n + band_of.images);
            const Index i = band % down * band_of.height;
            ProductTile<T> tile{};
            tile.step = band_of.copies ? 1 : x.stride(3);
            tile.start = b.size() ? Start::bias : Start::zero;
            tile.streams = streams;
            ReadAhead ahead; // for the band that comes next if the others take as long
            if (const Index next = item + threads(); chunks == 1 && next < bands) {
                ask_for_band(band_of, x, next, ahead);
                ahead.share(runs * blocks);
                tile.ahead = &ahead;
            }
            if (band_of.copies) {
                T* const window = scratch.data() + plan.panel + worker * plan.window;
                const Phase &rows = band_of.read_rows, &across = band_of.read_columns;
                copy_window(x, n, end, i * rows.scale + rows.low(), rows.span(std::min(band_of.height, rows.count - i)),
                            across.low(), across.span(across.count), window);
                tile.x = window;
            } else if (band_of.order == GatherPart::Order::positions) {
                tile.x = x.at(n);
            } else {
                tile.x = x.at(n, i * band_of.read_rows.scale + band_of.read_rows.low(), band_of.read_columns.low());
            }
            for (const GatherPart& part : std::span(plan.parts).subspan(leader, shared))
                for (Index k = blocks * chunk / chunks; k < blocks * (chunk + 1) / chunks; ++k) {
                    const Index first = k * block_width<T>;
                    tile.panel = scratch.data() + first * plan.panel_rows;
                    tile.bias = b.data() + (b.size() ? first : 0);
                    tile.width = std::min(block_width<T>, columns - first);
                    if (part.order == GatherPart::Order::rows) {
                        const Index height = std::min(part.height, part.rows.count - i);
                        if (height <= 0) continue;
                        tile.runs = part.runs;
                        tile.y = y.at(n, part.rows.first + i * part.rows.step, part.columns.first, first);
                        tile(part.x_at.data(), part.y_at.data(), (end - n) * height * part.columns.count);
                        continue;
                    }
                    for (Index position = 0; position < part.rows.count * part.columns.count; ++position) {
                        const auto at = static_cast<std::size_t>(position);
                        const std::size_t from = position ? part.ends[at - 1] : 0;
                        tile.runs = std::span(part.runs).subspan(from, part.ends[at] - from);
                        tile.y = y.at(n, part.rows.first + position / part.columns.count * part.rows.step,
                                      part.columns.first + position % part.columns.count * part.columns.step, first);
                        tile(part.x_at.data(), part.y_at.data(), end - n);
                    }
                }
            if (streams) end_of_streams();
        });
    }
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::gather);

} // namespace espalier::inline ESPALIER_BACKEND
