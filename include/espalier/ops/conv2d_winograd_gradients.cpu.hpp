#pragma once

#include <espalier/ops/conv2d_winograd_weights.cpu.hpp>

// Both gradients of a narrow 3x3 convolution in one walk over dy, whose reading takes as long as its products: in a
// residual network it is a map that is made while it is read, from two others.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// How both gradients of a narrow layer are made from one reading of dy.
struct WinogradGradientsPlan {
    WinogradWeightPlan weights; ///< with a frame as wide as the zeros around dy
    WinogradPlan data;          ///< of the same bands, filters first

    /// Elements that threads share beside those of the weights, and that each has to itself.
    /// @{
    Index shared() const { return data.filter_blocks * data.filters; }
    Index own() const { return data.input + data.sums; }
    /// @}
    /// Elements of scratch memory.
    Index scratch() const { return weights.scratch() + shared() + threads() * own(); }
};

/// Whether there is a plan of `conv2d_winograd_gradients` for filters w [K,3,3,C], `padding` zeros around x [N,H,W,C]
/// and as large a dy.
template <class T> bool winograd_gradients_together(const Shape& x, const Shape& w, Index padding) {
    return padding == 1 && !is_padded_pair(x[1], x[2], padding) &&
           WinogradWeightLimits{}.is_narrow<T>(Winograd<T>::products, w[3], w[0]);
}

/// Plan of `conv2d_winograd_gradients` for x [N,H,W,C], dy [N,H,W,K] and dx [N,H,W,C], where there is one.
template <class T>
WinogradGradientsPlan winograd_gradients_plan(Cpu on, const MapRows<T>& x, const MapRows<T>& dy, View<T, 4> dx) {
    WinogradGradientsPlan plan{winograd_weight_plan(on, x, dy, Index(1), WinogradWeightLimits{}, Index(1)), {}};
    plan.data = winograd_plan(on, dy, Index(1), dx, plan.weights.tiles);
    return plan;
}

/// `conv2d_winograd_weight_gradient` and, where dy's pixels are at hand, dx by `conv2d_winograd` of dy and the turned
/// filters w [3,3,K,C]: the same bits as one after the other. x [N,H,W,C], dy [N,H,W,K], dw [K,3,3,C], dx [N,H,W,C].
/// @param scratch  plan.scratch() elements
template <class T>
void conv2d_winograd_gradients(Cpu, const WinogradGradientsPlan& plan, const MapRows<T>& x, const MapRows<T>& dy,
                               View<const T, 4> w, View<T, 1> scratch, View<T, 4> dw, View<T, 4> dx) {
    using Transform = Winograd<T>;
    const WinogradPlan& data = plan.data;
    T *const filters = scratch.data() + plan.weights.scratch(), *const own = filters + plan.shared();
    parallel_for(data.filter_blocks, [&](Index f) {
        winograd_filters<Transform>(w, f, filters + f * data.filters,
                                    dy.channels * panel_width<T>(dx.size(3), f) + detail::skew);
    });
    transformed_weight_gradient<Transform>(
        plan.weights, x, dy, scratch, dw, [&](Index b, const T* window, Index worker) {
            T *const tiles = own + worker * plan.own(), *const sums = tiles + data.input;
            winograd_input<Transform>(data.tiles, data.tiles.band(b), dy.channels, data.pitch, window, tiles,
                                      data.tile_point());
            for (Index f = 0; f < data.filter_blocks; ++f)
                winograd_products<Transform>(data, b, dy.channels, tiles, f, filters + f * data.filters,
                                             View<const T, 1>(nullptr, {0}), sums, dx);
        });
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::conv2d_winograd_gradients);

} // namespace espalier::inline ESPALIER_BACKEND
