#pragma once

#include <espalier/cuda/channels.cuh>
#include <espalier/ops/fused_activation.hpp>
#include <espalier/ops/join_channels.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

template <class T> __device__ T joined(T a, T b, bool rectify) {
    const T sum = a + b;
    return rectify && sum < 0 ? T(0) : sum; // NaN stays NaN
}

// What `map_channels` and `sum_channels` do with a channel.
template <class T> struct IndexedJoin {
    const T *stream, *branch, *constant;
    const Index* slots;
    Index count; ///< channels of the branch
    bool rectify;
    struct Channel {
        const T *stream, *branch;
        Index slot; ///< negative where the constant is added
        Index count;
        T constant;
        bool rectify;
        __device__ T operator()(Index m, Index e) const {
            return joined(stream[e], slot < 0 ? constant : branch[m * count + slot], rectify);
        }
    };
    __device__ Channel channel(Index c) const { return {stream, branch, slots[c], count, constant[c], rectify}; }
};
template <class T> struct JoinGather {
    const T* ds;
    const Index* kept;
    Index width; ///< channels of ds
    struct Channel {
        const T* ds; ///< of the channel it is taken from
        Index width;
        __device__ T operator()(Index m, Index) const { return ds[m * width]; }
    };
    __device__ Channel channel(Index j) const { return {ds + kept[j], width}; }
};
template <class T> struct AbsentSum {
    const T* ds;
    const Index* slots;
    struct Channel {
        const T* ds;
        bool absent;
        __device__ void operator()(Index e, T& sum, T&) const {
            if (absent) sum += ds[e];
        }
    };
    __device__ Channel channel(Index c) const { return {ds, slots[c] < 0}; }
};
template <class T> struct StoreFirst {
    T* to;
    __device__ void operator()(Index c, double first, double) const { to[c] = static_cast<T>(first); }
};

} // namespace detail

namespace kernels {

// One thread an element.
template <class T>
__global__ void join_kernel(View<const T, 1> stream, View<const T, 1> branch, bool rectify, View<T, 1> y) {
    if (const Index i = global_thread(); i < y.size()) y(i) = detail::joined(stream(i), branch(i), rectify);
}
template <class T> __global__ void relu_gradient_kernel(View<const T, 1> dy, View<const T, 1> y, View<T, 1> ds) {
    if (const Index i = global_thread(); i < ds.size()) ds(i) = y(i) > 0 ? dy(i) : T(0);
}

/// As on the CPU.
/// @{
template <class T>
void join(Cuda on, View<const T, 1> stream, View<const T, 1> branch, Activation activation, View<T, 1> y) {
    launch(on.stream, elements(y.size()), join_kernel<T>, stream, branch, activation == Activation::relu, y);
}
template <class T> void relu_gradient(Cuda on, View<const T, 1> dy, View<const T, 1> y, View<T, 1> ds) {
    launch(on.stream, elements(ds.size()), relu_gradient_kernel<T>, dy, y, ds);
}
template <class T>
void join_indexed(Cuda on, View<const T, 2> stream, View<const T, 2> branch, const JoinChannels& channels,
                  View<const T, 1> constant, Activation activation, View<T, 2> y) {
    const detail::IndexedJoin<T> map{stream.data(),         branch.data(),  constant.data(),
                                     channels.slots.data(), branch.size(1), activation == Activation::relu};
    map_channels(on, map, y.size(0), y.size(1), y.data());
}
template <class T> void join_gather(Cuda on, View<const T, 2> ds, const JoinChannels& channels, View<T, 2> db) {
    map_channels(on, detail::JoinGather<T>{ds.data(), channels.kept.data(), ds.size(1)}, db.size(0), db.size(1),
                 db.data());
}
template <class T>
void join_constant_gradient(Cuda on, View<const T, 2> ds, const JoinChannels& channels, View<T, 1> dk) {
    const Index pixels = ds.size(0), C = ds.size(1);
    Tensor<double> partial({summed_blocks(pixels, C), 2, C}, Device::cuda);
    sum_channels<T>(on, detail::AbsentSum<T>{ds.data(), channels.slots.data()}, detail::StoreFirst<T>{dk.data()},
                    pixels, C, partial.mutable_data());
}
/// @}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
