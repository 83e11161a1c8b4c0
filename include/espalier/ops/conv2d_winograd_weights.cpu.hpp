#pragma once

#include <espalier/ops/conv2d_winograd.cpu.hpp>

// The gradient of a 3x3 convolution with respect to its weights in Winograd's domain: transformed tiles of x times
// transformed tiles of dy, added over all tiles, and the sums transformed back to taps.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// What `winograd_weight_plan` keeps to.
struct WinogradWeightLimits {
    /// Bytes of a narrow layer's sums, at most. Processors with the widest vectors have larger second-level caches.
    Index narrow = Index(ESPALIER_VECTOR_BYTES == 64 ? 768 : 384) << 10;
    Index band = Index(256) << 10; ///< bytes of its transformed bands, at most
    Index wide = Index(8) << 20;   ///< bytes of a transformed chunk of a wide layer, about

    /// Whether a layer of C = `channels` and K = `filters` is narrow, whose tiles take so many `products`.
    template <class T> bool is_narrow(Index products, Index channels, Index filters) const {
        return products * channels * filters * static_cast<Index>(sizeof(T)) <= narrow;
    }
};

/// How the gradient is cut up, worked out from shapes alone, so the order of addition is the same for any number of
/// threads.
///
/// Narrow layers, whose sums fit a second-level cache: `parts` parts of the batch add up sums of their own, band by
/// band, which are added at the end. Wide ones: chunks of bands are transformed one after another; of each, every slab,
/// a block of filters by some channels, adds the products to its sums.
struct WinogradWeightPlan {
    WinogradTiles tiles;                     ///< of all images; a band is transformed together
    Index padding = 0;                       ///< zeros around the input that tiles read
    Index frame = 0;                         ///< pixels around a band of dy that are read, too
    Index parts = 0;                         ///< of a narrow layer's batch; 0 for a wide layer
    Index chunk = 1, most = 1;               ///< bands of a chunk, and tiles; for a narrow layer of one band
    Index channels = 1, slabs = 0;           ///< of a slab at most; slabs of a block of filters
    Index filter_blocks = 0;                 ///< blocks of filters
    Index x_pitch = 0, dy_pitch = 0;         ///< elements from a transformed tile to the next; from pixel to pixel
    Index x_window = 0, dy_window = 0;       ///< elements of a band's pixels
    Index input = 0, gradient = 0, slab = 0; ///< elements of a chunk of x, of one block of dy, of a slab's sums

    /// Chunks of bands.
    Index chunks() const { return (tiles.bands() + chunk - 1) / chunk; }
    /// Elements of transformed tiles, and of all sums.
    /// @{
    Index transformed() const { return input + filter_blocks * gradient; }
    Index sums() const { return filter_blocks * slabs * slab; }
    /// @}
    /// Elements that each thread has to itself.
    Index own() const { return x_window + dy_window + (parts ? transformed() : 0); }
    /// Elements of scratch memory.
    Index scratch() const { return (parts ? parts * sums() : sums() + transformed()) + threads() * own(); }
};

/// Plan of `conv2d_winograd_weight_gradient` for x [N,H,W,C], `padding` zeros around it, and dy [N,P,Q,K], read with a
/// frame of so many pixels around each band.
template <class T>
WinogradWeightPlan winograd_weight_plan(Cpu, const MapRows<T>& x, const MapRows<T>& dy, Index padding,
                                        const WinogradWeightLimits& limits = {}, Index frame = 0) {
    const bool pair = is_padded_pair(dy.height, dy.width, padding);
    const Index products = pair ? PaddedPair<T>::products : Winograd<T>::products;
    const Index size = products * static_cast<Index>(sizeof(T)), beyond = pair ? 0 : 2;
    const Index channels = std::max<Index>(1, x.channels), filters = std::max<Index>(1, dy.channels);
    const Index tile = size * (channels + filters);
    WinogradWeightPlan plan;
    plan.padding = pair ? 0 : padding;
    plan.frame = frame;
    plan.filter_blocks = panel_blocks<T>(dy.channels);
    const bool is_narrow = limits.is_narrow<T>(products, channels, filters);
    // Short bands of wide layers spread evenly over threads.
    plan.tiles = winograd_tiles(dy.batch, dy.height, dy.width, padding,
                                is_narrow ? std::clamp<Index>(limits.band / tile, 6, 48) : 8);
    if (is_narrow) {
        plan.parts = std::clamp<Index>(plan.tiles.bands(), 1, 16);
        plan.channels = channels;
    } else {
        // Chunks that stay in a shared cache, but of 64 tiles at least: each reads and writes all sums once.
        const Index most = std::max<Index>(64, limits.wide / tile) / plan.tiles.most();
        plan.chunk = std::clamp<Index>(most, 1, std::max<Index>(1, plan.tiles.bands()));
        // 48 fill the first-level cache together with the block of dy; fewer when there would be too few slabs.
        const Index slabs = (detail::wanted_items() + plan.filter_blocks - 1) / std::max<Index>(1, plan.filter_blocks);
        plan.channels = std::clamp<Index>((channels + slabs - 1) / slabs, 6, 48);
    }
    plan.slabs = (x.channels + plan.channels - 1) / plan.channels;
    plan.most = plan.chunk * plan.tiles.most();
    plan.x_pitch = detail::skewed_pitch<T>(x.channels);
    plan.dy_pitch = detail::skewed_pitch<T>(dy.channels);
    const Index rows = plan.tiles.outputs * plan.tiles.rows, columns = plan.tiles.outputs * plan.tiles.across;
    plan.x_window = plan.tiles.images * (rows + beyond) * (columns + beyond) * plan.x_pitch;
    plan.dy_window = plan.tiles.images * (rows + 2 * frame) * (columns + 2 * frame) * plan.dy_pitch;
    plan.input = products * (plan.most * plan.x_pitch + detail::skew);
    plan.gradient = products * (plan.most * block_width<T> + detail::skew);
    plan.slab = products * (plan.channels * block_width<T> + detail::skew);
    return plan;
}

/// Transforms the tiles of a band of dy [.,.,.,K = `filters`]: to[block of filters][point][first + tile][column],
/// `block` elements from block to block and room for `most` tiles. `window` has the band's pixels, read with a frame.
template <class Transform, class T>
void winograd_output_gradient(const WinogradTiles& tiles, const WinogradTiles::Band& band, Index filters, Index frame,
                              Index pitch, const T* window, T* to, Index block, Index most, Index first) {
    using S = Simd<T>;
    constexpr int outputs = Transform::outputs, points = Transform::points;
    const Index row = (outputs * tiles.across + 2 * frame) * pitch, image = (outputs * band.rows + 2 * frame) * row;
    for (Index f = 0; f < panel_blocks<T>(filters); ++f) {
        const Index columns = panel_width<T>(filters, f), point = most * columns + detail::skew;
        T* out = to + f * block + first * columns;
        for (Index n = 0; n < band.images; ++n)
            for (Index r = 0; r < band.rows; ++r) {
                const T* corner = window + n * image + (frame + outputs * r) * row + frame * pitch + f * block_width<T>;
                for (Index t = 0; t < tiles.across; ++t, corner += outputs * pitch, out += columns)
                    for (Index v = 0; v < columns; v += S::lanes)
                        transform_tile<T, outputs, points>(
                            Transform::output_gradient,
                            [from = corner + v, row, pitch](int i, int j) {
                                return S::load(from + i * row + j * pitch);
                            },
                            [at = out + v, point](int i, int j, auto sum) {
                                S::store(at + (i * Transform::points + j) * point, sum);
                            });
            }
    }
}

/// `conv2d_winograd_weight_gradient` by one of the two transforms. Of a narrow layer, `beside(band, window, worker)` is
/// called for each band with its pixels of dy, which are read anyway.
template <class Transform, class T, class Beside>
void transformed_weight_gradient(const WinogradWeightPlan& plan, const MapRows<T>& x, const MapRows<T>& dy,
                                 View<T, 1> scratch, View<T, 4> dw, const Beside& beside) {
    constexpr Index products = Transform::products, run_length = 128;
    const Index filters = dy.channels, x_point = plan.most * plan.x_pitch + detail::skew;
    T* const sums = scratch.data();
    T* const shared = sums + std::max<Index>(1, plan.parts) * plan.sums();
    T* const own = shared + (plan.parts ? 0 : plan.transformed());

    // Tiles of band b, to be the first of the transformed ones from `to` on.
    const auto transform = [&](Index b, T* windows, T* to, Index first) {
        constexpr Index outputs = Transform::outputs;
        const WinogradTiles::Band band = plan.tiles.band(b);
        winograd_window<Transform>(plan.tiles, band, x, plan.padding, plan.x_pitch, windows);
        winograd_input<Transform>(plan.tiles, band, x.channels, plan.x_pitch, windows, to + first * plan.x_pitch,
                                  x_point);
        T* const window = windows + plan.x_window;
        read_window(dy, band.n, band.n + band.images, outputs * band.row - plan.frame,
                    outputs * band.rows + 2 * plan.frame, plan.frame, outputs * plan.tiles.across + 2 * plan.frame,
                    plan.dy_pitch, window);
        winograd_output_gradient<Transform>(plan.tiles, band, filters, plan.frame, plan.dy_pitch, window,
                                            to + plan.input, plan.gradient, plan.most, first);
    };
    // Adds the products of `count` tiles to the sums of one slab, or starts them.
    const auto multiply = [&](Index item, const T* tiles, Index count, T* sum, bool start) {
        const Index f = item / plan.slabs, c = item % plan.slabs * plan.channels;
        const Index width = panel_width<T>(filters, f), across = std::min(plan.channels, x.channels - c);
        for (Index p = 0; p < products; ++p)
            for (Index t = 0; t < count; t += run_length) { // sums of sums: long ones lose fewer bits
                const T* const panel = tiles + plan.input + f * plan.gradient + p * (plan.most * width + detail::skew);
                MatrixTile<T>{tiles + p * x_point + t * plan.x_pitch + c,
                              1,
                              plan.x_pitch,
                              panel + t * width,
                              std::min(run_length, count - t),
                              sum + p * (plan.channels * width + detail::skew),
                              width,
                              !start || t > 0}(across);
            }
    };
    // Transforms a slab's sums, added over all parts, to dw.
    const auto finish = [&](Index item) {
        using S = Simd<T>;
        const Index f = item / plan.slabs, c = item % plan.slabs * plan.channels, k = f * block_width<T>;
        const Index width = panel_width<T>(filters, f), across = std::min(plan.channels, x.channels - c);
        const Index point = plan.channels * width + detail::skew;
        for (Index v = 0; v < std::min(width, filters - k); v += S::lanes) {
            const Index lanes = std::min(S::lanes, filters - k - v);
            const auto transform_back = [&](Index i, const auto& store) {
                transform_tile<T, Transform::points, Transform::taps>(
                    Transform::filter_gradient,
                    [&](int a, int b) {
                        const T* from = sums + item * plan.slab + (a * Transform::points + b) * point + i * width + v;
                        auto sum = S::load(from);
                        for (Index part = 1; part < plan.parts; ++part) sum += S::load(from + part * plan.sums());
                        return sum;
                    },
                    store);
            };
            Index i = 0;
            if (dw.stride(3) == 1 && lanes == S::lanes) // channels lie side by side, filters do not
                for (; i + S::lanes <= across; i += S::lanes) {
                    typename S::Vector square[Transform::taps][Transform::taps][S::lanes];
                    for (Index j = 0; j < S::lanes; ++j)
                        transform_back(i + j, [&](int r, int s, auto taps) { square[r][s][j] = taps; });
                    for (int r = 0; r < Transform::taps; ++r)
                        for (int s = 0; s < Transform::taps; ++s) {
                            transpose<T>(square[r][s]);
                            for (Index j = 0; j < S::lanes; ++j)
                                S::store(dw.at(k + v + j, r, s, c + i), square[r][s][j]);
                        }
                }
            for (; i < across; ++i)
                transform_back(i, [&](int r, int s, auto taps) {
                    T* const to = dw.at(k + v, r, s, c + i);
                    for (Index j = 0; j < lanes; ++j) to[j * dw.stride(0)] = taps[j];
                });
        }
    };

    const Index bands = plan.tiles.bands(), items = plan.filter_blocks * plan.slabs;
    if (bands == 0) {
        for (Index k = 0; k < filters; ++k) std::fill_n(dw.at(k), 9 * x.channels, T(0));
        return;
    }
    if (plan.parts) {
        parallel_items(plan.parts, [&](Index part, Index worker) {
            T *const windows = own + worker * plan.own(), *const tiles = windows + plan.x_window + plan.dy_window;
            const Index begin = bands * part / plan.parts, end = bands * (part + 1) / plan.parts;
            for (Index b = begin; b < end; ++b) {
                transform(b, windows, tiles, 0);
                for (Index item = 0; item < items; ++item)
                    multiply(item, tiles, plan.tiles.band(b).count, sums + part * plan.sums() + item * plan.slab,
                             b == begin);
                beside(b, windows + plan.x_window, worker);
            }
        });
    } else {
        for (Index begin = 0; begin < bands; begin += plan.chunk) {
            const Index end = std::min(bands, begin + plan.chunk), first = plan.tiles.band(begin).first;
            parallel_items(end - begin, [&](Index b, Index worker) {
                transform(begin + b, own + worker * plan.own(), shared, plan.tiles.band(begin + b).first - first);
            });
            parallel_for(items, [&](Index item) {
                multiply(item, shared, plan.tiles.band(end).first - first, sums + item * plan.slab, begin == 0);
            });
        }
    }
    parallel_for(items, finish);
}

/// dw[k,r,s,c] = sum over n, p, q of dy[n,p,q,k] * x[n, p + r - padding, q + s - padding, c]: the gradient of
/// `conv2d_winograd`.
template <class T>
void conv2d_winograd_weight_gradient(Cpu, const WinogradWeightPlan& plan, const MapRows<T>& x, const MapRows<T>& dy,
                                     View<T, 1> scratch, View<T, 4> dw) {
    const auto nothing = [](Index, const T*, Index) {};
    if (plan.tiles.outputs == PaddedPair<T>::outputs)
        transformed_weight_gradient<PaddedPair<T>>(plan, x, dy, scratch, dw, nothing);
    else
        transformed_weight_gradient<Winograd<T>>(plan, x, dy, scratch, dw, nothing);
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::conv2d_winograd_weight_gradient);

} // namespace espalier::inline ESPALIER_BACKEND
