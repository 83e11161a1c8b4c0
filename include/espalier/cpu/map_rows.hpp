#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/tensor/tensor.hpp>

#include <algorithm>
#include <functional>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// A map [N,H,W,C] as kernels read it: row by row. It lies in memory, or is made while it is read, which saves writing
/// all of it and reading it again.
template <class T> struct MapRows {
    Index batch = 0, height = 0, width = 0, channels = 0; ///< N, H, W, C
    /// Writes row h of image n, `pitch` elements from pixel to pixel; what lies between pixels may be overwritten.
    std::function<void(Index n, Index h, T* to, Index pitch)> read;
};

/// The rows of x [N,H,W,C], whose last axis is contiguous.
template <class T> MapRows<T> map_rows(View<const T, 4> x) {
    return {x.size(0), x.size(1), x.size(2), x.size(3), [x](Index n, Index h, T* to, Index pitch) {
                const Index width = x.size(2), channels = x.size(3);
                const T* from = x.at(n, h);
                if (x.stride(2) == channels && pitch == channels) {
                    std::copy_n(from, width * channels, to);
                    return;
                }
                for (Index v = 0; v < width; ++v, from += x.stride(2), to += pitch) std::copy_n(from, channels, to);
            }};
}

/// Reads rows [top, top + height) of images [begin, end) into a window [images, height, width, pitch], each row `left`
/// pixels from the window's edge. Pixels outside the map and what is added to their channels are zero.
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
            if (pitch > x.channels)
                for (Index v = left; v < left + x.width; ++v)
                    std::fill(to + v * pitch + x.channels, to + (v + 1) * pitch, T(0));
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
