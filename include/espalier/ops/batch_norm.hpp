#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/ops/batch_norm.cpu.hpp>
#include <espalier/ops/mode.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/batch_norm.cuda.cuh>
#endif

namespace espalier::inline ESPALIER_BACKEND {

/// How `batch_norm` normalises.
struct BatchNormOptions {
    Mode mode = Mode::training;               ///< whose statistics: the batch's or the running ones
    double momentum = 0.1;                    ///< weight of the new batch in the running statistics, in [0, 1]
    double epsilon = 1e-5;                    ///< added to the variance, positive
    Activation activation = Activation::none; ///< applied to y, in the same pass
};

namespace detail {

/// What `make(first, count, to, pitch)` makes of `count` pixels of x from the first on: of a map when it is read, of
/// other shapes at once.
template <class T, class Make> Deferred<T> batch_norm_map(const Tensor<T>& x, const Make& make) {
    if (x.rank() == 4) {
        const auto read = [make, height = x.size(1), width = x.size(2)](Index n, Index h, T* to, Index pitch) {
            make((n * height + h) * width, width, to, pitch);
        };
        return kernels::MapRows<T>{x.size(0), x.size(1), x.size(2), x.size(3), read};
    }
    Tensor<T> y = empty_like(x);
    const Index channels = x.size(-1);
    parallel_ranges(x.size(0), kernels::batch_norm_grain(channels), [&](Index begin, Index end) {
        make(begin, end - begin, y.mutable_data() + begin * channels, channels);
    });
    return y;
}

/// y of `batch_norm`, with what `batch_norm_fold` made.
template <class T> Deferred<T> batch_norm_y(Cpu, const Tensor<T>& x, const Tensor<T>& fold, Activation activation) {
    return batch_norm_map<T>(x, [=, channels = x.size(-1)](Index first, Index some, T* to, Index pitch) {
        kernels::batch_norm_apply(x.data() + first * channels, view<2>(fold), activation, some, channels, to, pitch);
    });
}
/// dx of `batch_norm`, with what `batch_norm_slope` made.
template <class T>
Deferred<T> batch_norm_dx(Cpu, const Tensor<T>& x, const Tensor<T>& dy, const Tensor<T>& fold, const Tensor<T>& slope,
                          Activation activation) {
    return batch_norm_map<T>(x, [=, channels = x.size(-1)](Index first, Index some, T* to, Index pitch) {
        kernels::batch_norm_dx(x.data() + first * channels, dy.data() + first * channels, view<2>(fold), view<2>(slope),
                               activation, some, channels, to, pitch);
    });
}
#if ESPALIER_CUDA
/// As on the CPU, but made at once.
/// @{
template <class T> Deferred<T> batch_norm_y(Cuda on, const Tensor<T>& x, const Tensor<T>& fold, Activation activation) {
    Tensor<T> y = empty_like(x);
    kernels::batch_norm_apply(on, pixels(x), view<2>(fold), activation, mutable_pixels(y));
    return y;
}
template <class T>
Deferred<T> batch_norm_dx(Cuda on, const Tensor<T>& x, const Tensor<T>& dy, const Tensor<T>& fold,
                          const Tensor<T>& slope, Activation activation) {
    Tensor<T> dx = empty_like(x);
    kernels::batch_norm_dx(on, pixels(x), pixels(dy), view<2>(fold), view<2>(slope), activation, mutable_pixels(dx));
    return dx;
}
/// @}
#endif

} // namespace detail

/// y = gamma * (x - mean) / sqrt(variance + epsilon) + beta for each channel, then the activation, if any.
///
/// x [N,H,W,C] or [N,C]; gamma, beta, running_mean, running_var [C]. Returns y, shaped as x.
/// Training: mean and (biased) variance are of this batch, over N,H,W, and the running ones are updated in place:
/// running = (1 - momentum) * running + momentum * batch, with the unbiased variance.
/// Inference: mean and variance are the running ones, and nothing changes. There y = a * x + b with
/// a = gamma / sqrt(variance + epsilon), b = beta - mean * a: exactly 0 where gamma, beta and mean are 0.
/// Backward reads x and a few numbers a channel; the activation's mask is worked out again from a * x + b > 0.
/// @throws ShapeError if a [C] operand does not match x, an option is out of range, or N*H*W < 2 in training
/// Source: Ioffe & Szegedy 2015, algorithms 1 and 2.
template <class T>
Var<T> batch_norm(const Var<T>& x, const Var<T>& gamma, const Var<T>& beta, Var<T> running_mean, Var<T> running_var,
                  const BatchNormOptions& options = {}) {
    expect(x.rank() == 2 || x.rank() == 4, "batch_norm: expected x [N,H,W,C] or [N,C], got ", x.shape());
    const Index channels = x.size(-1), count = x.shape().product(0, x.rank() - 1);
    const auto match = [&](const char* name, const Var<T>& v) {
        expect(v.shape() == Shape{channels}, "batch_norm: expected ", name, " [", channels, "] for x ", x.shape(),
               ", got ", v.shape());
    };
    match("gamma", gamma);
    match("beta", beta);
    match("running_mean", running_mean);
    match("running_var", running_var);
    const bool training = options.mode == Mode::training;
    expect(options.momentum >= 0 && options.momentum <= 1, "batch_norm: expected a momentum in [0, 1], got ",
           options.momentum);
    expect(options.epsilon > 0, "batch_norm: expected a positive epsilon, got ", options.epsilon);
    expect(!training || count >= 2, "batch_norm: expected at least 2 pixels in training, got x ", x.shape());
    expect_same_device("batch_norm", x, gamma, beta, running_mean, running_var);

    Tensor<double> statistics({2, channels}, x.device());
    const Tensor<T> moments = x.node()->moments.take(x.value());
    Tensor<T> fold;
    Deferred<T> y;
    dispatch(x.device(), [&](auto on) {
        const Index row = kernels::batch_norm_row(on, channels);
        fold = Tensor<T>({3, row}, x.device());
        if (training) {
            Tensor<T> pivot({row}, x.device());
            const View<const T, 3> tiles = moments.defined() ? view<3>(moments) : View<const T, 3>(nullptr, {0, 0, 0});
            const Index summed = moments.defined() ? moments.size(1) : count;
            Tensor<double> partial({kernels::batch_norm_blocks(on, summed, channels), 2, channels}, x.device());
            const kernels::BatchNormChannels<T> to{view<1>(gamma.value()),
                                                   view<1>(beta.value()),
                                                   options.epsilon,
                                                   options.momentum,
                                                   mutable_view<1>(running_mean.mutable_value()),
                                                   mutable_view<1>(running_var.mutable_value()),
                                                   mutable_view<2>(statistics),
                                                   mutable_view<2>(fold)};
            kernels::batch_norm_learn(on, pixels(x.value()), tiles, mutable_view<1>(pivot), mutable_view<3>(partial),
                                      to);
        } else {
            kernels::batch_norm_recall(on, view<1>(running_mean.value()), view<1>(running_var.value()),
                                       mutable_view<2>(statistics));
            kernels::batch_norm_fold(on, view<2>(statistics), view<1>(gamma.value()), view<1>(beta.value()),
                                     options.epsilon, mutable_view<2>(fold));
        }
        y = detail::batch_norm_y(on, x.value(), fold, options.activation);
    });

    const auto backward = [x = x.value(), statistics, fold, options, channels, count,
                           training](const Tensor<T>& dy, const Inputs<T>& input) {
        const bool of_parameters = input[1].needs_grad() || input[2].needs_grad();
        Tensor<T> slope({2, fold.size(1)}, x.device()), dgamma({channels}, x.device()), dbeta = empty_like(dgamma);
        if (!training) slope.fill(0);
        dispatch(x.device(), [&](auto on) {
            if (training || of_parameters) {
                Tensor<double> partial({kernels::batch_norm_blocks(on, count, channels), 2, channels}, x.device());
                Tensor<double> sums({2, channels}, x.device());
                kernels::batch_norm_gradients(
                    on, pixels(x), pixels(dy), options.activation, mutable_view<3>(partial), mutable_view<2>(sums),
                    kernels::BatchNormGradients<T>{view<2>(statistics), view<2>(fold), options.epsilon, training,
                                                   mutable_view<2>(slope), mutable_view<1>(dgamma),
                                                   mutable_view<1>(dbeta)});
            }
            if (input[0].needs_grad())
                input[0].add_grad(detail::batch_norm_dx(on, x, dy, fold, slope, options.activation));
        });
        if (!of_parameters) return;
        input[1].add_grad(std::move(dgamma));
        input[2].add_grad(std::move(dbeta));
    };
    return record_deferred<T>(
        "batch_norm", std::move(y), {x, gamma, beta, running_mean, running_var},
        ChannelRule::declared()
            .pass(0)
            .ride(1, 0, ChannelRole::scales)
            .ride(2, 0, ChannelRole::shifts)
            .ride(3, 0, ChannelRole::mean)
            .ride(4, 0, ChannelRole::variance),
        backward, {{"mode", options.mode}, {"epsilon", options.epsilon}, {"activation", options.activation}});
}

ESPALIER_COMPILED_FUNCTION(batch_norm);

} // namespace espalier::inline ESPALIER_BACKEND
