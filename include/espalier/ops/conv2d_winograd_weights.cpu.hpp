#pragma once

#include <espalier/ops/conv2d_winograd.cpu.hpp>

// The gradient of a 3x3 convolution with respect to its weights in Winograd's domain: transformed tiles of x times
// transformed tiles of dy, added over all tiles, and the sums transformed back to taps.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// How the gradient is cut up, worked out from shapes alone.
///
/// Chunks of tiles are transformed one after another; of each, every slab, a block of filters by some channels, adds
/// the products to its sums, so the order of addition is that of the tiles on any number of threads.
struct WinogradWeightPlan {
    WinogradTiles tiles;           ///< of all images
    Index chunk = 1;               ///< tiles that are transformed together
    Index channels = 1, slabs = 0; ///< of a slab at most; slabs of a block of filters
    Index filter_blocks = 0;       ///< blocks of filters
    Index pitch = 0;               ///< elements from a transformed tile of x to the next
    Index zeros = 0;               ///< elements: of a pixel of zeros
    Index input = 0, gradient = 0; ///< elements: a chunk of x, a chunk of one block of dy
    Index slab = 0, kept = 0;      ///< elements of a slab's sums; slabs that are kept

    /// Chunks of tiles.
    Index chunks() const { return (tiles.count + chunk - 1) / chunk; }
    /// Elements of scratch memory in all.
    Index scratch() const { return zeros + input + filter_blocks * gradient + kept * slab; }
};

/// Plan of `conv2d_winograd_weight_gradient` for x [N,H,W,C] and dy [N,P,Q,K]; a chunk has about so many bytes.
template <class T>
WinogradWeightPlan winograd_weight_plan(Cpu, View<const T, 4> x, View<const T, 4> dy, Index padding,
                                        Index bytes = Index(4) << 20) {
    constexpr Index products = Winograd<T>::products, tiles = 128;
    const Index channels = x.size(3), filters = dy.size(3);
    WinogradWeightPlan plan{.tiles = winograd_tiles(dy, padding)};
    // Chunks that stay in a shared cache, but long enough that threads seldom wait for each other.
    const Index room = bytes / (products * static_cast<Index>(sizeof(T)) * std::max<Index>(1, channels + filters));
    plan.chunk = std::max<Index>(1, std::min(plan.tiles.count, std::max<Index>(1, room / tiles) * tiles));
    plan.filter_blocks = panel_blocks<T>(filters);
    // 48 fill the first-level cache together with the block of dy; fewer when there would be too few slabs.
    const Index wanted = (detail::wanted_items() + plan.filter_blocks - 1) / std::max<Index>(1, plan.filter_blocks);
    plan.channels = std::clamp<Index>((channels + wanted - 1) / wanted, 6, 48);
    plan.slabs = (channels + plan.channels - 1) / plan.channels;
    plan.pitch = detail::skewed_pitch<T>(channels);
    plan.zeros = std::max(plan.pitch, detail::skewed_pitch<T>(filters));
    plan.input = products * (plan.chunk * plan.pitch + detail::skew);
    plan.gradient = products * (plan.chunk * block_width<T> + detail::skew);
    plan.slab = products * (plan.channels * block_width<T> + detail::skew);
    plan.kept = plan.chunks() > 1 ? plan.filter_blocks * plan.slabs : threads();
    return plan;
}

/// Transforms block b of the channels of `count` tiles of dy from `first` on: to[point][tile][column].
template <class T>
void winograd_output_gradient(const WinogradTiles& tiles, View<const T, 4> dy, Index b, Index first, Index count,
                              const T* zeros, T* to, Index point) {
    const Index width = panel_width<T>(dy.size(3), b), k = b * block_width<T>;
    for (Index t = 0; t < count; ++t, to += width) {
        const auto at = tiles.place(first + t);
        const T* pixel[4][4];
        for (Index i = 0; i < 4; ++i)
            for (Index j = 0; j < 4; ++j) {
                const bool inside = at.p + i < dy.size(1) && at.q + j < dy.size(2);
                pixel[i][j] = inside ? dy.at(at.n, at.p + i, at.q + j, k) : zeros;
            }
        for_vectors<T>(std::min(width, dy.size(3) - k), [&, to, point](auto lanes, Index v) {
            if (v % detail::line<T> == 0)
                for (Index i = 0; i < 4; ++i)
                    for (Index j = 0; j < 4; ++j) __builtin_prefetch(pixel[i][j] + 4 * dy.stride(2) + v);
            transform_tile<T, 4, 6>(
                Winograd<T>::output_gradient, [&](int i, int j) { return lanes.load(pixel[i][j] + v); },
                [out = to + v, point](int i, int j, auto sum) { Simd<T>::store(out + (i * 6 + j) * point, sum); });
        });
    }
}

/// dw[k,r,s,c] = sum over n, p, q of dy[n,p,q,k] * x[n, p + r - padding, q + s - padding, c]: the gradient of
/// `conv2d_winograd`. The last axes of x and dy are contiguous.
template <class T>
void conv2d_winograd_weight_gradient(Cpu, const WinogradWeightPlan& plan, View<const T, 4> x, View<const T, 4> dy,
                                     View<T, 1> scratch, View<T, 4> dw) {
    constexpr Index products = Winograd<T>::products, step = 8, run_length = 128;
    const Index channels = x.size(3), filters = dy.size(3), point = plan.chunk * plan.pitch + detail::skew;
    T *const zeros = scratch.data(), *const input = zeros + plan.zeros, *const gradient = input + plan.input;
    T* const sums = gradient + plan.filter_blocks * plan.gradient;
    std::fill_n(zeros, plan.zeros, T(0));
    const auto x_at = detail::multiples(plan.channels, 1);
    const auto wide = detail::multiples(plan.channels, block_width<T>);
    const auto narrow = detail::multiples(plan.channels, Simd<T>::lanes);

    if (plan.tiles.count == 0)
        for (Index k = 0; k < filters; ++k) std::fill_n(dw.at(k), 9 * channels, T(0));
    for (Index chunk = 0; chunk < plan.chunks(); ++chunk) {
        const Index first = chunk * plan.chunk, count = std::min(plan.chunk, plan.tiles.count - first);
        parallel_ranges(count, step, [&](Index begin, Index end) {
            winograd_input(plan.tiles, x, first + begin, end - begin, zeros, input + begin * plan.pitch, plan.pitch,
                           point);
            for (Index f = 0; f < plan.filter_blocks; ++f) {
                const Index width = panel_width<T>(filters, f);
                winograd_output_gradient(plan.tiles, dy, f, first + begin, end - begin, zeros,
                                         gradient + f * plan.gradient + begin * width,
                                         plan.chunk * width + detail::skew);
            }
        });
        parallel_items(plan.filter_blocks * plan.slabs, [&](Index item, Index worker) {
            const Index f = item / plan.slabs, c = item % plan.slabs * plan.channels;
            const Index width = panel_width<T>(filters, f), across = std::min(plan.channels, channels - c);
            const Index sum_point = plan.channels * width + detail::skew;
            T* const sum = sums + (plan.chunks() > 1 ? item : worker) * plan.slab;
            for (Index p = 0; p < products; ++p)
                for (Index t = 0; t < count; t += run_length) { // sums of sums: long ones lose fewer bits
                    const Run run{t * plan.pitch, t, std::min(run_length, count - t)};
                    ProductTile<T>{input + p * point + c,
                                   plan.pitch,
                                   {&run, 1},
                                   gradient + f * plan.gradient + p * (plan.chunk * width + detail::skew),
                                   nullptr,
                                   sum + p * sum_point,
                                   width,
                                   chunk + t ? Start::y : Start::zero}(
                        x_at.data(), (width == block_width<T> ? wide : narrow).data(), across);
                }
            if (chunk + 1 < plan.chunks()) return;
            const Index k = f * block_width<T>;
            for (Index i = 0; i < across; ++i)
                for (Index v = 0; v < std::min(width, filters - k); v += Simd<T>::lanes)
                    transform_tile<T, 6, 3>(
                        Winograd<T>::filter_gradient,
                        [&](int a, int b) { return Simd<T>::load(sum + (a * 6 + b) * sum_point + i * width + v); },
                        [&](int r, int s, auto taps) {
                            const Index lanes = std::min(Simd<T>::lanes, filters - k - v);
                            T* const to = dw.at(k + v, r, s, c + i);
                            for (Index j = 0; j < lanes; ++j) to[j * dw.stride(0)] = taps[j];
                        });
        });
    }
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::conv2d_winograd_weight_gradient);

} // namespace espalier::inline ESPALIER_BACKEND
