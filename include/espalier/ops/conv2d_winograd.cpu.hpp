#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/gather.hpp>
#include <espalier/cpu/lanes.hpp>
#include <espalier/cpu/map_rows.hpp>
#include <espalier/cpu/matrix_tile.hpp>
#include <espalier/cpu/padded_pair.hpp>
#include <espalier/cpu/winograd.hpp>
#include <espalier/ops/conv2d_options.hpp>

// 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): transformed tiles of the input times transformed filters, one
// matrix product for each of 36 points, and the products transformed back. Maps of 2x2 pixels in a frame of zeros are
// such a tile themselves, with 9 points (`PaddedPair`). The gradient of the data is the same with filters turned
// around; that of the weights is its transpose, conv2d_winograd_weights.cpu.hpp.

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// Elements between matrices that are read side by side: at a distance of a power of two they would take the same few
/// places of a cache and push each other out.
inline constexpr Index skew = 16;

/// From one row of `width` elements to the next: whole vectors, and no large power of two apart.
template <class T> Index skewed_pitch(Index width) {
    const Index whole = whole_vectors<T>(width);
    return whole % 128 == 0 ? whole + skew : whole;
}

/// Elements of a cache line. Tiles are written in small pieces of many rows, which processors do not fetch ahead by
/// themselves, so the kernels ask for the next tile's.
template <class T> inline constexpr Index line = 64 / static_cast<Index>(sizeof(T));

} // namespace detail

namespace kernels {

/// The tiles of the maps of a batch, by image, then down, then across; and the bands that they are worked on in: some
/// rows of tiles of one image, or some whole images.
struct WinogradTiles {
    Index outputs = 4;                     ///< pixels of a tile along an axis: 4 (`Winograd`) or 2 (`PaddedPair`)
    Index batch = 0, down = 0, across = 0; ///< images; tiles of an image
    Index images = 1, rows = 1;            ///< of a band; rows of tiles

    /// What one band is.
    struct Band {
        Index n, images, row, rows; ///< first image, images, first row of tiles, rows
        Index first, count;         ///< number of its first tile in the batch, tiles
    };
    /// Bands of the batch.
    Index bands() const { return (batch + images - 1) / images * ((down + rows - 1) / rows); }
    /// Tiles of a band at most.
    Index most() const { return images * rows * across; }
    /// Band number b; the one behind the last begins at the number of all tiles.
    Band band(Index b) const {
        const Index parts = (down + rows - 1) / rows, n = std::min(batch, b / parts * images), row = b % parts * rows;
        const Index some = std::min(images, batch - n), high = std::min(rows, down - row);
        return {n, some, row, high, (n * down + row) * across, some * high * across};
    }
};

/// Whether maps [P,Q] between so many zeros are one `PaddedPair`.
inline bool is_padded_pair(Index p, Index q, Index padding) { return p == 2 && q == 2 && padding == 1; }

/// The tiles of N = `batch` maps [P,Q], in bands of about `wanted` tiles.
inline WinogradTiles winograd_tiles(Index batch, Index p, Index q, Index padding, Index wanted) {
    const auto evenly = [](Index all, Index most) { // the fewest parts, of nearly one size
        const Index parts = (all + most - 1) / most;
        return parts ? (all + parts - 1) / parts : 1;
    };
    WinogradTiles tiles{.outputs = is_padded_pair(p, q, padding) ? 2 : 4, .batch = batch};
    tiles.down = (p + tiles.outputs - 1) / tiles.outputs;
    tiles.across = (q + tiles.outputs - 1) / tiles.outputs;
    tiles.rows = evenly(tiles.down, std::max<Index>(1, wanted / tiles.across));
    if (tiles.rows == tiles.down)
        tiles.images = evenly(batch, std::max<Index>(1, wanted / (tiles.down * tiles.across)));
    return tiles;
}

/// Whether the way by transforms is the faster one for a pass of a convolution of x [N,H,W,C] with w [K,R,S,C]: its
/// products and its transforms against the products of the taps that lie inside.
template <class T> bool winograd_pays(const Shape& x, const Shape& w, const Conv2dOptions& o, ConvPass pass) {
    if (w[1] != 3 || w[2] != 3 || o.stride != 1 || o.dilation != 1 || o.groups != 1 || o.padding > 2) return false;
    const Index p = o.output(x[1], 3), q = o.output(x[2], 3);
    const auto taps_inside = [&](Index outputs, Index extent) {
        Index pairs = 0;
        for (Index i = 0; i < outputs; ++i)
            for (Index r = 0; r < 3; ++r) pairs += i + r >= o.padding && i + r < extent + o.padding;
        return pairs;
    };
    const double tiles = static_cast<double>(x[0] * ((p + 3) / 4) * ((q + 3) / 4));
    const double taps = static_cast<double>(x[0] * taps_inside(p, x[1]) * taps_inside(q, x[2]));
    const auto whole = [](Index width) { // what vectors make of it
        return static_cast<double>(whole_vectors<T>(width));
    };
    // In multiply-adds of the direct way that take the same time: of a product, which costs as much as so many channels
    // more, of a filter for a channel, and of a channel of a tile. Chosen so that benchmarks/choices.cpp, with AVX2,
    // loses least.
    struct Prices {
        double product, more, filter, tile;
    };
    static constexpr Prices prices[] = {{1.8, 3, 40, 60}, {1.8, 0, 450, 240}, {1.2, 9, 1500, 0}};
    static constexpr Prices pair_prices[] = {{1, 0, 5, 15}, {1.1, 0, 80, 20}, {1, 0, 0, 65}};
    const bool pair = is_padded_pair(p, q, o.padding);
    const Prices& price = (pair ? pair_prices : prices)[static_cast<std::size_t>(pass)];
    const Index eaten = pass == ConvPass::data_gradient ? w[0] : x[3],
                made = pass == ConvPass::data_gradient ? x[3] : w[0];
    const double terms = static_cast<double>(eaten), matrix = terms * whole(made);
    const double products = tiles * static_cast<double>(pair ? PaddedPair<T>::products : Winograd<T>::products);
    return price.product * products * (terms + price.more) * whole(made) + price.filter * matrix +
               price.tile * tiles * (whole(eaten) + whole(made)) <
           taps * matrix;
}

/// How a convolution is cut up, worked out from shapes alone.
struct WinogradPlan {
    WinogradTiles tiles;          ///< of all images; a band is transformed together
    Index padding = 0;            ///< zeros around the input that tiles read
    bool tiles_first = false;     ///< transforms all tiles, then group by group of filters; or the other way around
    Index pitch = 0;              ///< elements from a transformed tile to the next
    Index window = 0;             ///< elements of the input of a band, with its padding
    Index input = 0, filters = 0; ///< elements of a transformed band, of a block of filters
    Index sums = 0;               ///< elements of the products of two such
    Index filter_blocks = 0;      ///< blocks of filters
    Index group = 1;   ///< blocks of filters that tiles are multiplied by at a time; 1 unless tiles are first
    bool adds = false; ///< whether the result is added to y instead of replacing it

    /// Elements from point to point of a transformed band.
    Index tile_point() const { return tiles.most() * pitch + detail::skew; }
    /// Groups of blocks of filters.
    Index groups() const { return (filter_blocks + group - 1) / group; }
    /// Elements that all threads share, and that each has to itself.
    /// @{
    Index shared() const { return tiles_first ? tiles.bands() * input : filter_blocks * filters; }
    Index own() const { return window + group * sums + (tiles_first ? group * filters : input); }
    /// @}
    /// Elements of scratch memory.
    Index scratch() const { return shared() + threads() * own(); }
};

/// Plan of `conv2d_winograd` for x [N,H,W,C], `padding` zeros around it, and y [N,P,Q,K], in such bands.
template <class T>
WinogradPlan winograd_plan(Cpu, const MapRows<T>& x, Index padding, View<T, 4> y, const WinogradTiles& tiles) {
    WinogradPlan plan{.tiles = tiles};
    const bool pair = tiles.outputs == PaddedPair<T>::outputs;
    const Index products = pair ? PaddedPair<T>::products : Winograd<T>::products, beyond = pair ? 0 : 2;
    plan.padding = pair ? 0 : padding;
    plan.pitch = detail::skewed_pitch<T>(x.channels);
    plan.window =
        tiles.images * (tiles.outputs * tiles.rows + beyond) * (tiles.outputs * tiles.across + beyond) * plan.pitch;
    plan.input = products * plan.tile_point();
    plan.filters = products * (x.channels * block_width<T> + detail::skew);
    plan.sums = products * (tiles.most() * block_width<T> + detail::skew);
    plan.filter_blocks = panel_blocks<T>(y.size(3));
    return plan;
}

/// Plan of `conv2d_winograd` for x [N,H,W,C], `padding` zeros around it, and y [N,P,Q,K].
template <class T> WinogradPlan winograd_plan(Cpu on, const MapRows<T>& x, Index padding, View<T, 4> y) {
    const Index all = x.batch * ((y.size(1) + 3) / 4) * ((y.size(2) + 3) / 4);
    // A multiple of the tiles that fill registers; bands of 64 channels stay in a second-level cache.
    const Index wanted = std::clamp<Index>(all / detail::wanted_items() / 6 * 6, 6, 24);
    WinogradPlan plan =
        winograd_plan(on, x, padding, y, winograd_tiles(x.batch, y.size(1), y.size(2), padding, wanted));
    // What is transformed first is read again and again from memory that all threads share: the smaller of the two.
    plan.tiles_first = plan.tiles.bands() * plan.input < plan.filter_blocks * plan.filters;
    // All tiles pass by each group of filters, so they are read less often if that is a large one.
    if (plan.tiles_first) plan.group = std::clamp<Index>(plan.filter_blocks / detail::wanted_items(), 1, 4);
    return plan;
}

/// Reads the pixels of x that the tiles of a band need, `padding` zeros around the map: window[image][row][column],
/// `pitch` elements from pixel to pixel.
template <class Transform, class T>
void winograd_window(const WinogradTiles& tiles, const WinogradTiles::Band& band, const MapRows<T>& x, Index padding,
                     Index pitch, T* window) {
    constexpr int inputs = Transform::inputs, outputs = Transform::outputs;
    const Index height = outputs * (band.rows - 1) + inputs, width = outputs * (tiles.across - 1) + inputs;
    read_window(x, band.n, band.n + band.images, outputs * band.row - padding, height, padding, width, pitch, window);
}

/// Transforms the tiles of a band, read by `winograd_window`: to[point][tile][channel], `pitch` elements from tile to
/// tile and `point` from point to point.
///
/// Columns are transformed first: those that a tile of `Winograd` shares with the next are kept. What is kept is a few
/// vectors, so that the first-level cache is left to the lines that are written.
template <class Transform, class T>
void winograd_input(const WinogradTiles& tiles, const WinogradTiles::Band& band, Index channels, Index pitch,
                    const T* window, T* to, Index point) {
    using S = Simd<T>;
    constexpr int inputs = Transform::inputs, outputs = Transform::outputs, points = Transform::points;
    constexpr int shared = inputs - outputs, together = std::max(1, static_cast<int>(detail::line<T> / S::lanes));
    const Index height = outputs * (band.rows - 1) + inputs, width = outputs * (tiles.across - 1) + inputs;
    const Index row = width * pitch;
    for (Index n = 0; n < band.images; ++n)
        for (Index r = 0; r < band.rows; ++r)
            for (Index c = 0; c < channels; c += together * S::lanes) { // whole lines of the cache
                const Index vectors = std::min<Index>(together, (channels - c + S::lanes - 1) / S::lanes);
                const T* from = window + (n * height + outputs * r) * row + c;
                T* tile = to + (n * band.rows + r) * tiles.across * pitch + c;
                typename S::Vector columns[together][inputs][points];
                const auto transform_columns = [&](auto begin, auto end) __attribute__((always_inline)) {
                    for (Index v = 0; v < vectors; ++v)
                        detail::unrolled<end - begin>([&](auto j) __attribute__((always_inline)) {
                            typename S::Vector pixels[inputs];
                            detail::unrolled<inputs>([&](auto i) __attribute__((always_inline)) {
                                pixels[i] = S::load(from + j * pitch + i * row + v * S::lanes);
                            });
                            Transform::input(pixels, columns[v][begin + j]);
                        });
                    from += (end - begin) * pitch;
                };
                transform_columns(std::integral_constant<int, 0>{}, std::integral_constant<int, shared>{});
                for (Index t = 0; t < tiles.across; ++t, tile += pitch) {
                    transform_columns(std::integral_constant<int, shared>{}, std::integral_constant<int, inputs>{});
                    for (Index v = 0; v < vectors; ++v) {
                        T* at = tile + v * S::lanes;
                        for (int i = 0; i < points; ++i, at += points * point) {
                            typename S::Vector line[inputs], transformed[points];
                            detail::unrolled<inputs>([&](auto j) __attribute__((always_inline)) {
                                line[j] = columns[v][j][i];
                            });
                            Transform::input(line, transformed);
                            detail::unrolled<points>([&](auto j) __attribute__((always_inline)) {
                                S::store(at + j * point, transformed[j]);
                            });
                            detail::unrolled<shared>([&](auto j) __attribute__((always_inline)) {
                                columns[v][j][i] = line[outputs + j];
                            });
                        }
                    }
                }
            }
}

/// Transforms block b of the columns of w [3,3,C,K]: to[point][c][column], `point` elements from point to point.
template <class Transform, class T> void winograd_filters(View<const T, 4> w, Index b, T* to, Index point) {
    using S = Simd<T>;
    constexpr int taps = Transform::taps, points = Transform::points;
    const Index first = b * block_width<T>, width = panel_width<T>(w.size(3), b), step = w.stride(3);
    const auto count = [&](Index v) { return std::clamp<Index>(w.size(3) - first - v, 0, S::lanes); };
    const auto transform = [&](Index c, Index v, const auto& load) {
        transform_tile<T, taps, points>(Transform::filter, load, [&](int i, int j, auto t) {
            S::store(to + (i * points + j) * point + c * width + v, t);
        });
    };
    Index c = 0;
    if (w.stride(2) == 1) // channels lie side by side, filters do not
        for (; c + S::lanes <= w.size(2); c += S::lanes)
            for (Index v = 0; v < width; v += S::lanes) {
                typename S::Vector square[taps][taps][S::lanes];
                for (int r = 0; r < taps; ++r)
                    for (int s = 0; s < taps; ++s) {
                        for (Index k = 0; k < S::lanes; ++k)
                            square[r][s][k] = k < count(v) ? S::load(w.at(r, s, c, first + v + k)) : S::zero();
                        transpose<T>(square[r][s]);
                    }
                for (Index i = 0; i < S::lanes; ++i) transform(c + i, v, [&](int r, int s) { return square[r][s][i]; });
            }
    for (; c < w.size(2); ++c)
        for (Index v = 0; v < width; v += S::lanes)
            transform(c, v, [&](int r, int s) {
                const T* const from = w.at(r, s, c, first + v);
                if (step == 1) return count(v) == S::lanes ? S::load(from) : S::load_first(from, count(v));
                T line[S::lanes] = {}; // not a vector: nvcc sets no lanes in what could be constant
                for (Index k = 0; k < count(v); ++k) line[k] = from[k * step];
                return S::load(line);
            });
}

/// Transforms sums[point][tile][column] of a band and of block b of the filters to y, plus bias, or adds all that to y.
template <class Transform, class T>
void winograd_output(const WinogradTiles& tiles, const WinogradTiles::Band& band, const T* sums, Index point, Index b,
                     View<const T, 1> bias, bool adds, View<T, 4> y) {
    constexpr int outputs = Transform::outputs, points = Transform::points;
    const Index width = panel_width<T>(y.size(3), b), k = b * block_width<T>, filters = std::min(width, y.size(3) - k);
    const Index down = y.stride(1), across = y.stride(2);
    for (Index t = 0; t < band.count; ++t, sums += width) {
        const Index line = t / tiles.across, q = t % tiles.across * outputs;
        const Index n = band.n + line / band.rows, p = (band.row + line % band.rows) * outputs;
        const Index rows = y.size(1) - p, columns = y.size(2) - q;
        T* const corner = y.at(n, p, q, k);
        for_vectors<T>(filters, [&](auto lanes, Index v) {
            if (v % detail::line<T> == 0)
                for (Index i = 0; i < outputs; ++i)
                    for (Index j = outputs; j < 2 * outputs; ++j)
                        __builtin_prefetch(corner + i * down + j * across + v, 1);
            const auto start = bias.size() ? lanes.load(bias.data() + k + v) : Simd<T>::zero();
            const auto load = [from = sums + v, point](int i, int j) {
                return Simd<T>::load(from + (i * Transform::points + j) * point);
            };
            const auto transform = [&](const auto& store) {
                transform_tile<T, points, outputs>(
                    Transform::output, load,
                    [=, to = corner + v](int i, int j, auto sum) { store(to + i * down + j * across, i, j, sum); });
            };
            if (rows < outputs || columns < outputs)
                transform([=](T* to, int i, int j, auto sum) {
                    if (i < rows && j < columns) lanes.store(to, adds ? lanes.load(to) + (sum + start) : sum + start);
                });
            else if (adds)
                transform([=](T* to, int, int, auto sum) { lanes.store(to, lanes.load(to) + (sum + start)); });
            else
                transform([=](T* to, int, int, auto sum) { lanes.store(to, sum + start); });
        });
    }
}

/// y of band i for one group of blocks of `filters`, which are transformed, as are the band's `tiles` of that many
/// `channels`; `sums` is scratch.
template <class Transform, class T>
void winograd_products(const WinogradPlan& plan, Index i, Index channels, const T* tiles, Index group, const T* filters,
                       View<const T, 1> bias, T* sums, View<T, 4> y) {
    const WinogradTiles::Band band = plan.tiles.band(i);
    const Index begin = group * plan.group, end = std::min(begin + plan.group, plan.filter_blocks);
    const auto point = [&](Index rows, Index f) { return rows * panel_width<T>(y.size(3), f) + detail::skew; };
    for (Index p = 0; p < Transform::products; ++p)
        for (Index f = begin; f < end; ++f)
            MatrixTile<T>{tiles + p * plan.tile_point(),
                          plan.pitch,
                          1,
                          filters + (f - begin) * plan.filters + p * point(channels, f),
                          channels,
                          sums + (f - begin) * plan.sums + p * point(plan.tiles.most(), f),
                          panel_width<T>(y.size(3), f),
                          false}(band.count);
    for (Index f = begin; f < end; ++f)
        winograd_output<Transform>(plan.tiles, band, sums + (f - begin) * plan.sums, point(plan.tiles.most(), f), f,
                                   bias, plan.adds, y);
}

/// `conv2d_winograd` by one of the two transforms.
template <class Transform, class T>
void conv2d_transformed(const WinogradPlan& plan, const MapRows<T>& x, View<const T, 4> w, View<const T, 1> b,
                        View<T, 1> scratch, View<T, 4> y) {
    T *const shared = scratch.data(), *const own = shared + plan.shared();
    const auto transform_tiles = [&](Index i, T* window, T* to) {
        const WinogradTiles::Band band = plan.tiles.band(i);
        winograd_window<Transform>(plan.tiles, band, x, plan.padding, plan.pitch, window);
        winograd_input<Transform>(plan.tiles, band, x.channels, plan.pitch, window, to, plan.tile_point());
    };
    const auto transform_filters = [&](Index f, T* to) {
        winograd_filters<Transform>(w, f, to, x.channels * panel_width<T>(y.size(3), f) + detail::skew);
    };
    const auto multiply = [&](Index i, const T* tiles, Index group, const T* filters, T* sums) {
        winograd_products<Transform>(plan, i, x.channels, tiles, group, filters, b, sums, y);
    };

    if (plan.tiles_first) {
        parallel_items(plan.tiles.bands(), [&](Index i, Index worker) {
            transform_tiles(i, own + worker * plan.own(), shared + i * plan.input);
        });
        parallel_items(plan.groups(), [&](Index group, Index worker) {
            T *const filters = own + worker * plan.own() + plan.window, *const sums =
                                                                            filters + plan.group * plan.filters;
            const Index begin = group * plan.group, end = std::min(begin + plan.group, plan.filter_blocks);
            for (Index f = begin; f < end; ++f) transform_filters(f, filters + (f - begin) * plan.filters);
            for (Index i = 0; i < plan.tiles.bands(); ++i) multiply(i, shared + i * plan.input, group, filters, sums);
        });
    } else {
        parallel_for(plan.filter_blocks, [&](Index f) { transform_filters(f, shared + f * plan.filters); });
        parallel_items(plan.tiles.bands(), [&](Index i, Index worker) {
            T *const window = own + worker * plan.own(), *const tiles = window + plan.window;
            transform_tiles(i, window, tiles);
            for (Index group = 0; group < plan.groups(); ++group)
                multiply(i, tiles, group, shared + group * plan.filters, tiles + plan.input);
        });
    }
}

/// y = x convolved with w [3,3,C,K] at stride 1, plus b unless that is empty. The last axis of y is contiguous.
template <class T>
void conv2d_winograd(Cpu, const WinogradPlan& plan, const MapRows<T>& x, View<const T, 4> w, View<const T, 1> b,
                     View<T, 1> scratch, View<T, 4> y) {
    if (plan.tiles.outputs == PaddedPair<T>::outputs)
        conv2d_transformed<PaddedPair<T>>(plan, x, w, b, scratch, y);
    else
        conv2d_transformed<Winograd<T>>(plan, x, w, b, scratch, y);
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::conv2d_winograd);

} // namespace espalier::inline ESPALIER_BACKEND
