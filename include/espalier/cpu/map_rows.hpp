#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/core/simd.hpp>
#include <espalier/tensor/tensor.hpp>

#include <algorithm>
#include <functional>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// A map [N,H,W,C] as kernels read it: row by row. It lies in memory, or is made while it is read, which saves writing
/// all of it and reading it again.
template <class T> struct MapRows {
    Index batch = 0, height = 0, width = 0, channels = 0; ///< N, H, W, C
    /// Writes row h of image n, `pitch` elements from pixel to pixel: as many as there are channels, or whole vectors
    /// of them. Then what follows a pixel's channels may be overwritten.
    std::function<void(Index n, Index h, T* to, Index pitch)> read;
};

/// The rows of x [N,H,W,C], whose last axis is contiguous.
template <class T> MapRows<T> map_rows(View<const T, 4> x) {
    return {x.size(0), x.size(1), x.size(2), x.size(3), [x](Index n, Index h, T* to, Index pitch) {
                using S = Simd<T>;
                const Index width = x.size(2), channels = x.size(3);
                const T* from = x.at(n, h);
                if (x.stride(2) == channels && pitch == channels) {
                    std::copy_n(from, width * channels, to);
                    return;
                }
                if (pitch < whole_vectors<T>(channels)) {
                    for (Index v = 0; v < width; ++v) std::copy_n(from + v * x.stride(2), channels, to + v * pitch);
                    return;
                }
                const T* const end = from + (width - 1) * x.stride(2) + channels;
                for (Index v = 0; v < width; ++v, from += x.stride(2), to += pitch)
                    for (Index c = 0; c < channels; c += S::lanes)
                        S::store(to + c, end - from >= c + S::lanes
                                             ? S::load(from + c)
                                             : S::load_first(from + c, std::min(S::lanes, channels - c)));
            }};
}

/// Reads rows [top, top + height) of images [begin, end) into a window [images, height, width, pitch], each row `left`
/// pixels from the window's edge. Pixels outside the map are zero; what follows the channels of the others is
/// arbitrary.
template <class T>
void read_window(const MapRows<T>& x, Index begin, Index end, Index top, Index height, Index left, Index width,
                 Index pitch, T* to) {
    for (Index n = begin; n < end; ++n)
        for (Index h = top; h < top + height; ++h, to += width * pitch) {
            if (h < 0 || h >= x.height) {
                std::fill_n(to, width * pitch, T(0));
                continue;
            }
            std::fill_n(to, left * pitch, T(0));
            x.read(n, h, to + left * pitch, pitch);
            std::fill(to + (left + x.width) * pitch, to + width * pitch, T(0));
        }
}

/// Writes a whole map to y [N,H,W,C], which is dense.
template <class T> void write_map(Cpu, const MapRows<T>& rows, View<T, 4> y) {
    parallel_for(rows.batch * rows.height, [&](Index line) {
        const Index n = line / rows.height, h = line % rows.height;
        rows.read(n, h, y.at(n, h), rows.channels);
    });
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
