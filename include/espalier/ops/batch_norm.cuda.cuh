#pragma once

#include <espalier/cuda/channels.cuh>
#include <espalier/cuda/moments.cuh>
#include <espalier/ops/batch_norm.cpu.hpp>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/view.hpp>

#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

// What `sum_channels` and `map_channels` do with a channel, as on the CPU.

/// The mean of 16 pixels spread over the map.
template <class T> __device__ T batch_norm_pivot(View<const T, 2> x, Index c) {
    const Index pixels = x.size(0), samples = pixels < 16 ? pixels : 16;
    double sum = 0;
    for (Index s = 0; s < samples; ++s) sum += static_cast<double>(x(s * pixels / samples, c));
    return static_cast<T>(sum / static_cast<double>(samples));
}
template <class T> struct BatchNormMoments {
    View<const T, 2> x;
    struct Channel {
        const T* x;
        T pivot;
        __device__ void operator()(Index e, T& a, T& b) const {
            const T d = x[e] - pivot;
            a += d;
            b += d * d;
        }
    };
    __device__ Channel channel(Index c) const { return {x.data(), batch_norm_pivot(x, c)}; }
};
/// The same sums over the pixels of a tile, whose moments [2,tiles,C] are known: they are deviations from its first
/// pixel, that is d from the pivot.
template <class T> struct BatchNormTiles {
    View<const T, 2> x;
    View<const T, 3> moments;
    struct Channel {
        const T *x, *sums, *squares; ///< of this channel, of all channels
        double pivot;
        Index pixels, channels;
        __device__ void operator()(Index e, double& a, double& b) const {
            const Index first = e / channels * kernels::moment_rows, left = pixels - first;
            const double count = static_cast<double>(left < kernels::moment_rows ? left : kernels::moment_rows);
            const double d = static_cast<double>(x[first * channels]) - pivot, sum = static_cast<double>(sums[e]);
            a += sum + count * d;
            b += static_cast<double>(squares[e]) + (2 * sum + count * d) * d;
        }
    };
    __device__ Channel channel(Index c) const {
        return {x.at(0, c), moments.at(0), moments.at(1), static_cast<double>(batch_norm_pivot(x, c)),
                x.size(0),  x.size(1)};
    }
};
template <class T>
__device__ void batch_norm_fold_channel(Index c, double mean, double variance, View<const T, 1> gamma,
                                        View<const T, 1> beta, double epsilon, View<T, 2> fold) {
    const T a = static_cast<T>(static_cast<double>(gamma(c)) * (1 / std::sqrt(variance + epsilon)));
    fold(0, c) = a;
    fold(1, c) = static_cast<T>(static_cast<double>(beta(c)) - mean * static_cast<double>(a));
    fold(2, c) = static_cast<T>(mean);
}
template <class T> struct BatchNormLearn {
    View<const T, 2> x;
    kernels::BatchNormChannels<T> to;
    __device__ void operator()(Index c, double sum, double squares) const {
        const double count = static_cast<double>(x.size(0)), offset = sum / count;
        const double mean = static_cast<double>(batch_norm_pivot(x, c)) + offset,
                     rest = squares / count - offset * offset;
        const double variance = rest > 0 ? rest : 0, m = to.momentum;
        to.statistics(0, c) = mean;
        to.statistics(1, c) = variance;
        to.mean(c) = static_cast<T>((1 - m) * static_cast<double>(to.mean(c)) + m * mean);
        to.variance(c) =
            static_cast<T>((1 - m) * static_cast<double>(to.variance(c)) + m * (count / (count - 1)) * variance);
        batch_norm_fold_channel(c, mean, variance, to.gamma, to.beta, to.epsilon, to.fold);
    }
};
template <class T> struct BatchNormFinish {
    kernels::BatchNormGradients<T> to;
    double pixels;
    __device__ void operator()(Index c, double sum, double product) const {
        const double variance = to.statistics(1, c) + to.epsilon;
        to.dgamma(c) = static_cast<T>(product / std::sqrt(variance));
        to.dbeta(c) = static_cast<T>(sum);
        if (!to.training) return;
        const double share = static_cast<double>(to.fold(0, c)) / pixels;
        to.slope(0, c) = static_cast<T>(-share * product / variance);
        to.slope(1, c) = static_cast<T>(-share * sum);
    }
};

template <class T> struct BatchNormApply {
    const T* x;
    View<const T, 2> fold;
    bool rectify;
    struct Channel {
        const T* x;
        T a, b;
        bool rectify;
        __device__ T operator()(Index, Index e) const {
            const T v = x[e] * a + b;
            return rectify && 0 > v ? T(0) : v; // NaN stays NaN
        }
    };
    __device__ Channel channel(Index c) const { return {x, fold(0, c), fold(1, c), rectify}; }
};
/// A channel of the backward pass: `passed` is dy where the activation let a * x + b pass, 0 elsewhere.
template <class T> struct BatchNormChannel {
    const T *x, *dy;
    T a, b, mean, p, q;
    bool rectify;
    __device__ T passed(Index e) const { return !rectify || x[e] * a + b > 0 ? dy[e] : T(0); }
    __device__ void operator()(Index e, T& first, T& second) const {
        const T g = passed(e);
        first += g;
        second += g * (x[e] - mean);
    }
    __device__ T operator()(Index, Index e) const { return a * passed(e) + (p * (x[e] - mean) + q); }
};
template <class T> struct BatchNormBackward {
    const T *x, *dy;
    View<const T, 2> fold, slope; ///< without slope: sums are wanted
    bool rectify;
    __device__ BatchNormChannel<T> channel(Index c) const {
        const bool line = slope.data() != nullptr;
        return {x,      dy, fold(0, c), fold(1, c), fold(2, c), line ? slope(0, c) : T(0), line ? slope(1, c) : T(0),
                rectify};
    }
};

} // namespace detail

namespace kernels {

/// As on the CPU; channels are not repeated.
/// @{
inline Index batch_norm_row(Cuda, Index channels) { return channels; }
inline Index batch_norm_blocks(Cuda, Index pixels, Index channels) { return summed_blocks(pixels, channels); }
/// @}

// One thread a channel.
template <class T>
__global__ void batch_norm_recall_kernel(View<const T, 1> mean, View<const T, 1> variance, View<double, 2> statistics) {
    const Index c = global_thread();
    if (c >= mean.size()) return;
    statistics(0, c) = static_cast<double>(mean(c));
    statistics(1, c) = static_cast<double>(variance(c));
}
template <class T>
__global__ void batch_norm_fold_kernel(View<const double, 2> statistics, View<const T, 1> gamma, View<const T, 1> beta,
                                       double epsilon, View<T, 2> fold) {
    const Index c = global_thread();
    if (c < gamma.size())
        detail::batch_norm_fold_channel(c, statistics(0, c), statistics(1, c), gamma, beta, epsilon, fold);
}

/// As on the CPU; pivots are worked out by who needs them, and the last step of the sums does the rest. Where the
/// moments [2,tiles,C] of x are not empty, little of x is read.
/// @{
template <class T>
void batch_norm_learn(Cuda on, View<const T, 2> x, View<const T, 3> moments, View<T, 1>, View<double, 3> partial,
                      const BatchNormChannels<T>& to) {
    const detail::BatchNormLearn<T> finish{x, to};
    if (moments.size() > 0)
        sum_channels<double>(on, detail::BatchNormTiles<T>{x, moments}, finish, moments.size(1), x.size(1),
                             partial.data());
    else
        sum_channels<T>(on, detail::BatchNormMoments<T>{x}, finish, x.size(0), x.size(1), partial.data());
}
template <class T>
void batch_norm_gradients(Cuda on, View<const T, 2> x, View<const T, 2> dy, Activation activation,
                          View<double, 3> partial, View<double, 2>, const BatchNormGradients<T>& to) {
    const detail::BatchNormBackward<T> terms{x.data(), dy.data(), to.fold, View<const T, 2>(nullptr, {0, 0}),
                                             activation == Activation::relu};
    sum_channels<T>(on, terms, detail::BatchNormFinish<T>{to, static_cast<double>(x.size(0))}, x.size(0), x.size(1),
                    partial.data());
}
template <class T>
void batch_norm_recall(Cuda on, View<const T, 1> mean, View<const T, 1> variance, View<double, 2> statistics) {
    launch(on.stream, elements(mean.size()), batch_norm_recall_kernel<T>, mean, variance, statistics);
}
template <class T>
void batch_norm_fold(Cuda on, View<const double, 2> statistics, View<const T, 1> gamma, View<const T, 1> beta,
                     double epsilon, View<T, 2> fold) {
    launch(on.stream, elements(gamma.size()), batch_norm_fold_kernel<T>, statistics, gamma, beta, epsilon, fold);
}
/// @}

/// As on the CPU, for all of x [M,C].
/// @{
template <class T>
void batch_norm_apply(Cuda on, View<const T, 2> x, View<const T, 2> fold, Activation activation, View<T, 2> y) {
    map_channels(on, detail::BatchNormApply<T>{x.data(), fold, activation == Activation::relu}, x.size(0), x.size(1),
                 y.data());
}
template <class T>
void batch_norm_dx(Cuda on, View<const T, 2> x, View<const T, 2> dy, View<const T, 2> fold, View<const T, 2> slope,
                   Activation activation, View<T, 2> dx) {
    map_channels(on, detail::BatchNormBackward<T>{x.data(), dy.data(), fold, slope, activation == Activation::relu},
                 x.size(0), x.size(1), dx.data());
}
/// @}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
