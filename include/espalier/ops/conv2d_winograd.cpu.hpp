#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/gather.hpp>
#include <espalier/cpu/lanes.hpp>
#include <espalier/cpu/winograd.hpp>
#include <espalier/ops/conv2d_options.hpp>

#include <numeric>
#include <vector>

// 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): transformed tiles of the input times transformed filters, one
// matrix product for each of 36 points, and the products transformed back. The gradient of the data is the same with
// filters turned around; that of the weights is its transpose, conv2d_winograd_weights.cpu.hpp.

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// Elements between matrices that are read side by side: at a distance of a power of two they would take the same few
/// places of a cache and push each other out.
inline constexpr Index skew = 16;

/// From one row of `width` elements to the next: whole vectors, and no large power of two apart.
template <class T> Index skewed_pitch(Index width) {
    const Index whole = (width + Simd<T>::lanes - 1) / Simd<T>::lanes * Simd<T>::lanes;
    return whole % 128 == 0 ? whole + skew : whole;
}

/// Elements of a cache line. Tiles are read and written in small pieces of many rows, which processors do not fetch
/// ahead by themselves, so the kernels ask for the next tile's.
template <class T> inline constexpr Index line = 64 / static_cast<Index>(sizeof(T));

/// 0, step, 2 * step, ...
inline std::vector<Index> multiples(Index count, Index step) {
    std::vector<Index> all(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i) all[static_cast<std::size_t>(i)] = i * step;
    return all;
}

} // namespace detail

namespace kernels {

/// The 4x4 tiles of the maps of a batch: by image, then down, then across.
struct WinogradTiles {
    Index padding = 0;          ///< zeros around the input
    Index down = 0, across = 0; ///< tiles of a map
    Index count = 0;            ///< of the batch

    /// Where a tile lies: its image and its first pixel of output.
    struct Place {
        Index n, p, q; ///< as above
    };
    /// Of a tile's number.
    Place place(Index tile) const { return {tile / (down * across), tile / across % down * 4, tile % across * 4}; }
};

/// The tiles of maps y [N,P,Q,K].
template <class T> WinogradTiles winograd_tiles(const View<T, 4>& y, Index padding) {
    const Index down = (y.size(1) + 3) / 4, across = (y.size(2) + 3) / 4;
    return {padding, down, across, y.size(0) * down * across};
}

/// Whether Winograd's way is the faster one for a convolution of x [N,H,W,C] with w [K,R,S,C] into y [N,P,Q,K], or for
/// either of its gradients: its products and its transforms against the products of the taps that lie inside.
template <class T>
bool winograd_pays(const View<const T, 4>& x, const View<const T, 4>& w, const Conv2dOptions& o, const Shape& y) {
    if (w.size(1) != 3 || w.size(2) != 3 || o.stride != 1 || o.dilation != 1) return false;
    const auto taps_inside = [&](Index outputs, Index extent) {
        Index pairs = 0;
        for (Index p = 0; p < outputs; ++p)
            for (Index r = 0; r < 3; ++r) pairs += p + r >= o.padding && p + r < extent + o.padding;
        return pairs;
    };
    const double tiles = static_cast<double>(x.size(0) * ((y[1] + 3) / 4) * ((y[2] + 3) / 4));
    const double channels = static_cast<double>(x.size(3)), filters = static_cast<double>(w.size(0));
    const double taps = static_cast<double>(x.size(0) * taps_inside(y[1], x.size(1)) * taps_inside(y[2], x.size(2)));
    // In multiply-adds that take the same time, measured with AVX2: products are small and reach less of the peak, a
    // tile is transformed at 600 a channel, a filter at 800 a channel.
    const double products = 1.3 * 36 * tiles * channels * filters;
    return products + 600 * tiles * (channels + filters) + 800 * channels * filters < taps * channels * filters;
}

/// How a convolution is cut up, worked out from shapes alone.
struct WinogradPlan {
    WinogradTiles tiles;          ///< of all images
    Index block = 1;              ///< tiles that are transformed together
    bool tiles_first = false;     ///< transforms all tiles, then group by group of filters; or the other way around
    Index pitch = 0;              ///< elements from a transformed tile to the next
    Index input = 0, filters = 0; ///< elements of a transformed block of tiles, of a block of filters
    Index sums = 0;               ///< elements of the products of two such blocks
    Index filter_blocks = 0;      ///< blocks of filters
    Index group = 1; ///< blocks of filters that tiles are multiplied by at a time; 1 unless tiles are first

    /// Blocks of tiles, and groups of blocks of filters.
    /// @{
    Index blocks() const { return (tiles.count + block - 1) / block; }
    Index groups() const { return (filter_blocks + group - 1) / group; }
    /// @}
    /// Elements that all threads share, and that each has to itself.
    /// @{
    Index shared() const { return tiles_first ? blocks() * input : filter_blocks * filters; }
    Index own() const { return group * sums + (tiles_first ? group * filters : input); }
    /// @}
    /// Elements of scratch memory: a pixel of zeros and these.
    Index scratch() const { return pitch + shared() + threads() * own(); }
};

/// Plan of `conv2d_winograd` for x [N,H,W,C] and y [N,P,Q,K].
template <class T> WinogradPlan winograd_plan(Cpu, View<const T, 4> x, Index padding, View<T, 4> y) {
    constexpr Index products = Winograd<T>::products;
    WinogradPlan plan{.tiles = winograd_tiles(y, padding)};
    // A multiple of the 6 and 8 tiles that fill registers; blocks of 64 channels stay in a second-level cache.
    plan.block = std::clamp<Index>(plan.tiles.count / detail::wanted_items() / 6 * 6, 6, 24);
    plan.pitch = detail::skewed_pitch<T>(x.size(3));
    plan.input = products * (plan.block * plan.pitch + detail::skew);
    plan.filters = products * (x.size(3) * block_width<T> + detail::skew);
    plan.sums = products * (plan.block * block_width<T> + detail::skew);
    plan.filter_blocks = panel_blocks<T>(y.size(3));
    // What is transformed first is read again and again from memory that all threads share: the smaller of the two.
    plan.tiles_first = plan.blocks() * plan.input < plan.filter_blocks * plan.filters;
    // All tiles pass by each group of filters, so they are read less often if that is a large one.
    if (plan.tiles_first) plan.group = std::clamp<Index>(plan.filter_blocks / detail::wanted_items(), 1, 4);
    return plan;
}

/// Transforms `count` tiles of x from `first` on: to[point][tile][channel], `pitch` elements from tile to tile and
/// `point` from point to point. `zeros` are read where a tile leaves the map.
template <class T>
void winograd_input(const WinogradTiles& tiles, View<const T, 4> x, Index first, Index count, const T* zeros, T* to,
                    Index pitch, Index point) {
    for (Index t = 0; t < count; ++t, to += pitch) {
        const auto at = tiles.place(first + t);
        const T* pixel[6][6];
        for (Index i = 0; i < 6; ++i)
            for (Index j = 0; j < 6; ++j) {
                const Index h = at.p + i - tiles.padding, v = at.q + j - tiles.padding;
                const bool inside = h >= 0 && h < x.size(1) && v >= 0 && v < x.size(2);
                pixel[i][j] = inside ? x.at(at.n, h, v) : zeros;
            }
        for_vectors<T>(x.size(3), [&, to, point](auto lanes, Index c) {
            if (c % detail::line<T> == 0) // what the next tile reads and this one does not
                for (Index i = 0; i < 6; ++i)
                    for (Index j = 2; j < 6; ++j) __builtin_prefetch(pixel[i][j] + 4 * x.stride(2) + c);
            transform_tile<T, 6, 6>(
                Winograd<T>::input, [&](int i, int j) { return lanes.load(pixel[i][j] + c); },
                [out = to + c, point](int i, int j, auto v) { Simd<T>::store(out + (i * 6 + j) * point, v); });
        });
    }
}

/// Transforms block b of the columns of w [3,3,C,K]: to[point][c][column], `point` elements from point to point.
template <class T> void winograd_filters(View<const T, 4> w, Index b, T* to, Index point) {
    using S = Simd<T>;
    const Index first = b * block_width<T>, width = panel_width<T>(w.size(3), b), step = w.stride(3);
    for (Index c = 0; c < w.size(2); ++c)
        for (Index v = 0; v < width; v += S::lanes) {
            const Index count = std::clamp<Index>(w.size(3) - first - v, 0, S::lanes);
            transform_tile<T, 3, 6>(
                Winograd<T>::filter,
                [&](int r, int s) {
                    const T* const from = w.at(r, s, c, first + v);
                    if (step == 1) return S::load_first(from, count);
                    typename S::Vector taps{};
                    for (Index i = 0; i < count; ++i) taps[i] = from[i * step];
                    return taps;
                },
                [&](int i, int j, auto t) { S::store(to + (i * 6 + j) * point + c * width + v, t); });
        }
}

/// Transforms sums[point][tile][column] of `count` tiles from `first` on and of block b of the filters to y, plus bias.
template <class T>
void winograd_output(const WinogradTiles& tiles, const T* sums, Index point, Index first, Index count, Index b,
                     View<const T, 1> bias, View<T, 4> y) {
    const Index width = panel_width<T>(y.size(3), b), k = b * block_width<T>;
    for (Index t = 0; t < count; ++t, sums += width) {
        const auto at = tiles.place(first + t);
        const Index rows = y.size(1) - at.p, columns = y.size(2) - at.q;
        T* const corner = y.at(at.n, at.p, at.q, k);
        const Index down = y.stride(1), across = y.stride(2);
        for_vectors<T>(std::min(width, y.size(3) - k), [&](auto lanes, Index v) {
            if (v % detail::line<T> == 0)
                for (Index i = 0; i < 4; ++i)
                    for (Index j = 4; j < 8; ++j) __builtin_prefetch(corner + i * down + j * across + v, 1);
            const auto start = bias.size() ? lanes.load(bias.data() + k + v) : Simd<T>::zero();
            transform_tile<T, 6, 4>(
                Winograd<T>::output,
                [from = sums + v, point](int i, int j) { return Simd<T>::load(from + (i * 6 + j) * point); },
                [=, to = corner + v](int i, int j, auto sum) {
                    if (i < rows && j < columns) lanes.store(to + i * down + j * across, sum + start);
                });
        });
    }
}

/// y = x convolved with w [3,3,C,K] at stride 1, plus b unless that is empty. The last axes of x and y are contiguous.
template <class T>
void conv2d_winograd(Cpu, const WinogradPlan& plan, View<const T, 4> x, View<const T, 4> w, View<const T, 1> b,
                     View<T, 1> scratch, View<T, 4> y) {
    const Index channels = x.size(3);
    const Index tile_point = plan.block * plan.pitch + detail::skew;
    T *const zeros = scratch.data(), *const shared = zeros + plan.pitch, *const own = shared + plan.shared();
    std::fill_n(zeros, plan.pitch, T(0));
    const auto x_at = detail::multiples(plan.block, plan.pitch);
    const auto wide = detail::multiples(plan.block, block_width<T>);
    const auto narrow = detail::multiples(plan.block, Simd<T>::lanes);

    const auto transform_tiles = [&](Index i, T* to) {
        const Index first = i * plan.block, count = std::min(plan.block, plan.tiles.count - first);
        winograd_input(plan.tiles, x, first, count, zeros, to, plan.pitch, tile_point);
    };
    const auto transform_filters = [&](Index f, T* to) {
        winograd_filters(w, f, to, channels * panel_width<T>(y.size(3), f) + detail::skew);
    };
    const auto multiply = [&](Index i, const T* tiles, Index group, const T* filters, T* sums) {
        const Index first = i * plan.block, count = std::min(plan.block, plan.tiles.count - first);
        const Index begin = group * plan.group, end = std::min(begin + plan.group, plan.filter_blocks);
        const Run run{0, 0, channels};
        for (Index p = 0; p < Winograd<T>::products; ++p)
            for (Index f = begin; f < end; ++f) {
                const Index width = panel_width<T>(y.size(3), f);
                const T* const panel = filters + (f - begin) * plan.filters + p * (channels * width + detail::skew);
                T* const to = sums + (f - begin) * plan.sums + p * (plan.block * width + detail::skew);
                ProductTile<T>{tiles + p * tile_point, 1, {&run, 1}, panel, nullptr, to, width, Start::zero}(
                    x_at.data(), (width == block_width<T> ? wide : narrow).data(), count);
            }
        for (Index f = begin; f < end; ++f)
            winograd_output(plan.tiles, sums + (f - begin) * plan.sums,
                            plan.block * panel_width<T>(y.size(3), f) + detail::skew, first, count, f, b, y);
    };

    if (plan.tiles_first) {
        parallel_for(plan.blocks(), [&](Index i) { transform_tiles(i, shared + i * plan.input); });
        parallel_items(plan.groups(), [&](Index group, Index worker) {
            T *const filters = own + worker * plan.own(), *const sums = filters + plan.group * plan.filters;
            const Index begin = group * plan.group, end = std::min(begin + plan.group, plan.filter_blocks);
            for (Index f = begin; f < end; ++f) transform_filters(f, filters + (f - begin) * plan.filters);
            for (Index i = 0; i < plan.blocks(); ++i) multiply(i, shared + i * plan.input, group, filters, sums);
        });
    } else {
        parallel_for(plan.filter_blocks, [&](Index f) { transform_filters(f, shared + f * plan.filters); });
        parallel_items(plan.blocks(), [&](Index i, Index worker) {
            T *const tiles = own + worker * plan.own(), *const sums = tiles + plan.input;
            transform_tiles(i, tiles);
            for (Index group = 0; group < plan.groups(); ++group)
                multiply(i, tiles, group, shared + group * plan.filters, sums);
        });
    }
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::conv2d_winograd);

} // namespace espalier::inline ESPALIER_BACKEND
