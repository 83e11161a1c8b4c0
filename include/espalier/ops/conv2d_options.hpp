#pragma once

#include <espalier/core/shape.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Steps of a convolution, the same along both axes of the map.
struct Conv2dOptions {
    Index stride = 1;   ///< pixels of the input between neighbours of the output, at least 1
    Index padding = 0;  ///< zeros around the input, at least 0
    Index dilation = 1; ///< pixels of the input between neighbouring taps, at least 1
    Index groups = 1;   ///< independent convolutions side by side; equal to both channel counts: depthwise

    /// Extent of the output along an axis of `extent` pixels under `taps` taps; below 1 when the filter does not fit.
    Index output(Index extent, Index taps) const {
        const Index room = extent + 2 * padding - dilation * (taps - 1) - 1;
        return room < 0 ? 0 : room / stride + 1;
    }
};

namespace kernels {

/// What is computed of a convolution: its output, or one of its gradients.
enum class ConvPass { forward, data_gradient, weight_gradient };

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
