#pragma once

#include <espalier/cuda/channels.cuh>
#include <espalier/ops/join_channels.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

// What `map_channels` does with a channel.
template <class T> struct Place {
    View<const T, 4> x;
    const Index* slots;
    Index stride, P, Q;
    struct Channel {
        const Place& place;
        Index slot;
        __device__ T operator()(Index m, Index) const {
            if (slot < 0) return 0;
            const kernels::Pixel at = kernels::pixel_at(m, place.P, place.Q);
            return place.x(at.n, at.h * place.stride, at.w * place.stride, slot);
        }
    };
    __device__ Channel channel(Index k) const { return {*this, slots[k]}; }
};
template <class T> struct PlaceGradient {
    View<const T, 4> dy;
    const Index* kept;
    Index stride, H, W;
    struct Channel {
        const PlaceGradient& place;
        Index place_in_y;
        __device__ T operator()(Index m, Index) const {
            const kernels::Pixel at = kernels::pixel_at(m, place.H, place.W);
            const auto step = static_cast<std::uint32_t>(place.stride);
            const auto h = static_cast<std::uint32_t>(at.h), w = static_cast<std::uint32_t>(at.w);
            const std::uint32_t p = h / step, q = w / step;
            return p * step == h && q * step == w ? place.dy(at.n, p, q, place_in_y) : T(0);
        }
    };
    __device__ Channel channel(Index c) const { return {*this, kept[c]}; }
};

} // namespace detail

namespace kernels {

/// As on the CPU.
/// @{
template <class T> void place(Cuda on, View<const T, 4> x, const JoinChannels& channels, Index stride, View<T, 4> y) {
    const detail::Place<T> map{x, channels.slots.data(), stride, y.size(1), y.size(2)};
    map_channels(on, map, y.size(0) * y.size(1) * y.size(2), y.size(3), y.data());
}
template <class T>
void place_gradient(Cuda on, View<const T, 4> dy, const JoinChannels& channels, Index stride, View<T, 4> dx) {
    const detail::PlaceGradient<T> map{dy, channels.kept.data(), stride, dx.size(1), dx.size(2)};
    map_channels(on, map, dx.size(0) * dx.size(1) * dx.size(2), dx.size(3), dx.data());
}
/// @}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
