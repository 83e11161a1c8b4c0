#pragma once

#include <espalier/core/shape.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Square windows of `size` x `size` pixels, `stride` apart (0: as far as they are wide), over a map with `padding`
/// pixels on each side.
struct PoolOptions {
    Index size = 2;    ///< height and width of a window, pixels
    Index stride = 0;  ///< pixels from one window to the next; 0: `size`
    Index padding = 0; ///< pixels on each side, which no window counts
};

namespace kernels {

/// Windows of R x S taps; tap number r * S + s of window (p, q) is pixel (p * stride + r - padding, same for q and s).
struct PoolWindow {
    Index R, S, stride, padding; ///< as above
};

/// Where window `i` of `windows` begins and ends when they cover `extent` pixels evenly: floor(i * extent / windows)
/// and ceil((i + 1) * extent / windows). With the arguments exchanged: the windows that pixel `i` lies in.
struct AdaptiveWindow {
    /// Of window `i`.
    ESPALIER_HD AdaptiveWindow(Index i, Index windows, Index extent)
        : begin(i * extent / windows), end(((i + 1) * extent + windows - 1) / windows) {}
    Index begin, end; ///< pixels [begin, end)
    /// Pixels of the window.
    ESPALIER_HD Index size() const { return end - begin; }
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
