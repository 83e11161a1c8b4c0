#pragma once

#include <espalier/cpu/lanes.hpp>
#include <espalier/ops/fused_activation.hpp>
#include <espalier/tensor/tensor.hpp>

#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// x, y, dx, dy: [M,C] with M = N*H*W pixels; sums and statistics are double.
//
// A map is streamed as rows of `batch_norm_row(C)` elements, and what belongs to channels is stored repeated to one
// such row: vector loops are long, whole and free of index arithmetic for every C.

/// Elements of a row: eight pixels of a narrow map, one pixel of a wide one.
inline Index batch_norm_row(Index channels) { return channels < 128 ? 8 * channels : channels; }
/// As above, of this device.
inline Index batch_norm_row(Cpu, Index channels) { return batch_norm_row(channels); }
/// Pixels summed in T before they go into double: about 128 KiB of floats, a multiple of the row, at most 4096.
inline Index batch_norm_grain(Index channels) {
    return std::clamp<Index>(32768 / std::max<Index>(1, channels) / 8 * 8, 8, 4096);
}
/// Blocks of pixels, which each write one [2,C] of the scratch memory `partial`.
inline Index batch_norm_blocks(Cpu, Index pixels, Index channels) {
    const Index grain = batch_norm_grain(channels);
    return (pixels + grain - 1) / grain;
}

/// Two sums that one pass over the pixels takes.
template <class Vector> struct TwoTerms {
    Vector first, second; ///< lane by lane
};

/// sums [2,C] = the two `terms(S, e, i)` added up over the pixels of each channel, in an order set by M and C alone.
///
/// One thread takes one block of pixels; e is an element of the map and i its place in a row.
template <class T, class Terms>
void batch_norm_sum(Index pixels, Index channels, View<double, 3> partial, View<double, 2> sums, const Terms& terms) {
    constexpr Index strip = 1024; // elements with accumulators in L1; a narrow row fits as a whole
    const Index row = batch_norm_row(channels), grain = batch_norm_grain(channels);
    parallel_ranges(pixels, grain, [&](Index begin, Index end) {
        double *const first = partial.at(begin / grain), *const second = first + channels;
        std::fill_n(first, 2 * channels, 0.0);
        for (Index start = 0; start < row; start += strip) {
            alignas(64) T a[strip], b[strip];
            const Index width = std::min(strip, row - start);
            std::fill_n(a, width, T(0));
            std::fill_n(b, width, T(0));
            for (Index e = begin * channels + start; e < end * channels; e += row)
                for_lanes<T>(std::min(width, end * channels - e), [=, to_a = &a[0], to_b = &b[0]]<class S>(S, Index i) {
                    const auto term = terms(S{}, e + i, start + i);
                    S::store(to_a + i, S::load(to_a + i) + term.first);
                    S::store(to_b + i, S::load(to_b + i) + term.second);
                });
            for (Index i = 0, c = start % channels; i < width; ++i, c = c + 1 == channels ? 0 : c + 1) {
                first[c] += static_cast<double>(a[i]);
                second[c] += static_cast<double>(b[i]);
            }
        }
    });
    std::fill_n(sums.data(), sums.size(), 0.0);
    for (Index block = 0; block < batch_norm_blocks(Cpu(), pixels, channels); ++block)
        for (Index i = 0; i < 2 * channels; ++i) sums.data()[i] += partial.at(block)[i];
}

/// statistics [2,C]: mean and biased variance of each channel of x, M >= 1; pivot [row] is scratch.
///
/// The sums are of x - k and (x - k)^2, with k the mean of 16 pixels spread over the map: |k - mean| is a fraction of
/// the deviation, so nothing cancels however far the mean is from zero, and x is read once.
template <class T>
void batch_norm_statistics(Cpu, View<const T, 2> x, View<T, 1> pivot, View<double, 3> partial,
                           View<double, 2> statistics) {
    const Index pixels = x.size(0), channels = x.size(1), samples = std::min<Index>(16, pixels);
    T* const k = pivot.data();
    for (Index c = 0; c < channels; ++c) {
        double sum = 0;
        for (Index s = 0; s < samples; ++s) sum += static_cast<double>(x(s * pixels / samples, c));
        k[c] = static_cast<T>(sum / static_cast<double>(samples));
    }
    for (Index i = channels; i < pivot.size(); ++i) k[i] = k[i - channels];

    batch_norm_sum<T>(pixels, channels, partial, statistics, [k, from = x.data()]<class S>(S, Index e, Index i) {
        const auto d = S::load(from + e) - S::load(k + i);
        return TwoTerms<typename S::Vector>{d, d * d};
    });
    for (Index c = 0; c < channels; ++c) {
        const double count = static_cast<double>(pixels), offset = statistics(0, c) / count;
        statistics(0, c) = static_cast<double>(k[c]) + offset;
        statistics(1, c) = std::max(0.0, statistics(1, c) / count - offset * offset);
    }
}

/// running = (1 - momentum) * running + momentum * batch, with the unbiased variance of M >= 2 pixels.
template <class T>
void batch_norm_track(Cpu, View<const double, 2> statistics, Index pixels, double momentum, View<T, 1> mean,
                      View<T, 1> variance) {
    const double unbiased = static_cast<double>(pixels) / static_cast<double>(pixels - 1);
    for (Index c = 0; c < mean.size(); ++c) {
        mean(c) = static_cast<T>((1 - momentum) * static_cast<double>(mean(c)) + momentum * statistics(0, c));
        variance(c) =
            static_cast<T>((1 - momentum) * static_cast<double>(variance(c)) + momentum * unbiased * statistics(1, c));
    }
}

/// statistics [2,C] for inference: the running ones.
template <class T>
void batch_norm_recall(Cpu, View<const T, 1> mean, View<const T, 1> variance, View<double, 2> statistics) {
    for (Index c = 0; c < mean.size(); ++c) {
        statistics(0, c) = static_cast<double>(mean(c));
        statistics(1, c) = static_cast<double>(variance(c));
    }
}

/// fold [3,row]: a = gamma / sqrt(variance + epsilon), b = beta - mean * a, mean; each repeated to one row.
template <class T>
void batch_norm_fold(Cpu, View<const double, 2> statistics, View<const T, 1> gamma, View<const T, 1> beta,
                     double epsilon, View<T, 2> fold) {
    const Index channels = gamma.size();
    for (Index i = 0; i < fold.size(1); ++i) {
        const Index c = i % channels;
        const double mean = statistics(0, c), inverse = 1 / std::sqrt(statistics(1, c) + epsilon);
        fold(0, i) = static_cast<T>(static_cast<double>(gamma(c)) * inverse);
        fold(1, i) = static_cast<T>(static_cast<double>(beta(c)) - mean * static_cast<double>(fold(0, i)));
        fold(2, i) = static_cast<T>(mean);
    }
}

/// What channels are normalized by, and where what is learnt of a batch goes.
template <class T> struct BatchNormChannels {
    View<const T, 1> gamma, beta; ///< [C]
    double epsilon, momentum;     ///< as in the options
    /// The running ones [C].
    /// @{
    View<T, 1> mean, variance;
    /// @}
    View<double, 2> statistics; ///< as `batch_norm_statistics`
    View<T, 2> fold;            ///< as `batch_norm_fold`
};
/// `batch_norm_statistics`, `batch_norm_track` and `batch_norm_fold`; pivot and partial are scratch. Moments of x are
/// for GPUs.
template <class T>
void batch_norm_learn(Cpu on, View<const T, 2> x, View<const T, 3>, View<T, 1> pivot, View<double, 3> partial,
                      const BatchNormChannels<T>& to) {
    batch_norm_statistics(on, x, pivot, partial, to.statistics);
    batch_norm_track(on, View<const double, 2>(to.statistics), x.size(0), to.momentum, to.mean, to.variance);
    batch_norm_fold(on, View<const double, 2>(to.statistics), to.gamma, to.beta, to.epsilon, to.fold);
}

/// Calls `body(S, x, to, i)` for the elements of `pixels` pixels: x is an element's place in the map, i its place in a
/// row and `to` its place in memory that has `pitch` elements from pixel to pixel.
template <class T, class Body> void batch_norm_each(Index pixels, Index channels, Index pitch, const Body& body) {
    if (pitch == channels) {
        const Index row = batch_norm_row(channels), end = pixels * channels;
        for (Index e = 0; e < end; e += row)
            for_lanes<T>(std::min(row, end - e), [=]<class S>(S, Index i) { body(S{}, e + i, e + i, i); });
        return;
    }
    // Between pixels there is room for whole vectors, and a vector may read some of the next pixel, if there is one.
    const Index whole = whole_vectors<T>(channels);
    const bool roomy = whole <= pitch && whole <= batch_norm_row(channels);
    for (Index m = 0; m < pixels; ++m) {
        const Index width = roomy && m * channels + whole <= pixels * channels ? whole : channels;
        for_lanes<T>(width, [=]<class S>(S, Index i) { body(S{}, m * channels + i, m * pitch + i, i); });
    }
}

/// y = a * x + b, or max(0, a * x + b), of `pixels` pixels from x on; y has `pitch` elements from pixel to pixel.
template <class T>
void batch_norm_apply(const T* x, View<const T, 2> fold, Activation activation, Index pixels, Index channels, T* y,
                      Index pitch) {
    const T *const a = fold.at(0), *const b = fold.at(1);
    const auto apply = [&](auto rectify) {
        batch_norm_each<T>(pixels, channels, pitch, [=]<class S>(S, Index e, Index to, Index i) {
            const auto v = S::load(x + e) * S::load(a + i) + S::load(b + i);
            if constexpr (rectify)
                S::store(y + to, S::zero() > v ? S::zero() : v); // NaN stays NaN
            else
                S::store(y + to, v);
        });
    };
    activation == Activation::relu ? apply(std::true_type{}) : apply(std::false_type{});
}

/// dy where the activation let a * x + b pass, 0 elsewhere.
template <bool rectify, class S, class T>
typename S::Vector batch_norm_passed(S, const T* x, const T* dy, const T* a, const T* b) {
    const auto g = S::load(dy);
    if constexpr (rectify)
        return S::load(x) * S::load(a) + S::load(b) > S::zero() ? g : S::zero();
    else
        return g;
}

/// sums [2,C]: over the pixels of each channel, of g and of g * (x - mean), where g is what the activation passed.
template <class T>
void batch_norm_reduce(Cpu, View<const T, 2> x, View<const T, 2> dy, View<const T, 2> fold, Activation activation,
                       View<double, 3> partial, View<double, 2> sums) {
    const T *const from = x.data(), *const grad = dy.data();
    const T *const a = fold.at(0), *const b = fold.at(1), *const mean = fold.at(2);
    const auto reduce = [&](auto rectify) {
        batch_norm_sum<T>(x.size(0), x.size(1), partial, sums, [=]<class S>(S, Index e, Index i) {
            const auto g = batch_norm_passed<rectify>(S{}, from + e, grad + e, a + i, b + i);
            return TwoTerms<typename S::Vector>{g, g * (S::load(from + e) - S::load(mean + i))};
        });
    };
    activation == Activation::relu ? reduce(std::true_type{}) : reduce(std::false_type{});
}

/// dgamma = sum of g * (x - mean) / sqrt(variance + epsilon), dbeta = sum of g
template <class T>
void batch_norm_dparameters(Cpu, View<const double, 2> sums, View<const double, 2> statistics, double epsilon,
                            View<T, 1> dgamma, View<T, 1> dbeta) {
    for (Index c = 0; c < dgamma.size(); ++c) {
        dgamma(c) = static_cast<T>(sums(1, c) / std::sqrt(statistics(1, c) + epsilon));
        dbeta(c) = static_cast<T>(sums(0, c));
    }
}

/// slope [2,row]: p and q of `batch_norm_dx` for batch statistics, each repeated to one row.
///
/// With n = (x - mean) * inverse, dx = a * (g - sum(g) / M - n * sum(g * n) / M), a line in g and in x - mean.
template <class T>
void batch_norm_slope(Cpu, View<const double, 2> sums, View<const double, 2> statistics, View<const T, 2> fold,
                      Index pixels, double epsilon, View<T, 2> slope) {
    const Index channels = sums.size(1);
    for (Index i = 0; i < slope.size(1); ++i) {
        const Index c = i % channels;
        const double share = static_cast<double>(fold(0, i)) / static_cast<double>(pixels);
        slope(0, i) = static_cast<T>(-share * sums(1, c) / (statistics(1, c) + epsilon));
        slope(1, i) = static_cast<T>(-share * sums(0, c));
    }
}

/// What gradients are made from, and where they go.
template <class T> struct BatchNormGradients {
    View<const double, 2> statistics; ///< as `batch_norm_statistics`
    View<const T, 2> fold;            ///< as `batch_norm_fold`
    double epsilon;                   ///< as in the options
    bool training;                    ///< whether slopes are wanted, too
    View<T, 2> slope;                 ///< as `batch_norm_slope`
    View<T, 1> dgamma, dbeta;         ///< as `batch_norm_dparameters`
};
/// `batch_norm_reduce`, `batch_norm_dparameters` and `batch_norm_slope`; partial and sums are scratch.
template <class T>
void batch_norm_gradients(Cpu on, View<const T, 2> x, View<const T, 2> dy, Activation activation,
                          View<double, 3> partial, View<double, 2> sums, const BatchNormGradients<T>& to) {
    const View<const double, 2> done = sums;
    batch_norm_reduce(on, x, dy, to.fold, activation, partial, sums);
    batch_norm_dparameters(on, done, to.statistics, to.epsilon, to.dgamma, to.dbeta);
    if (to.training) batch_norm_slope(on, done, to.statistics, to.fold, x.size(0), to.epsilon, to.slope);
}

/// dx = a * g + p * (x - mean) + q of `pixels` pixels from x and dy on; dx has `pitch` elements from pixel to pixel.
template <class T>
void batch_norm_dx(const T* x, const T* dy, View<const T, 2> fold, View<const T, 2> slope, Activation activation,
                   Index pixels, Index channels, T* dx, Index pitch) {
    const T *const a = fold.at(0), *const b = fold.at(1), *const mean = fold.at(2);
    const T *const p = slope.at(0), *const q = slope.at(1);
    const auto apply = [&](auto rectify) {
        batch_norm_each<T>(pixels, channels, pitch, [=]<class S>(S, Index e, Index to, Index i) {
            const auto g = batch_norm_passed<rectify>(S{}, x + e, dy + e, a + i, b + i);
            const auto line = S::load(p + i) * (S::load(x + e) - S::load(mean + i)) + S::load(q + i);
            S::store(dx + to, S::load(a + i) * g + line);
        });
    };
    activation == Activation::relu ? apply(std::true_type{}) : apply(std::false_type{});
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
