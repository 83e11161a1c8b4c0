#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/ops/batch_norm.cpu.hpp>
#include <espalier/ops/mode.hpp>

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
        return {kernels::MapRows<T>{x.size(0), x.size(1), x.size(2), x.size(3), read}, x.device()};
    }
    Tensor<T> y = empty_like(x);
    const Index channels = x.size(-1);
    dispatch(x.device(), [&](Cpu) {
        parallel_ranges(x.size(0), kernels::batch_norm_grain(channels), [&](Index begin, Index end) {
            make(begin, end - begin, y.mutable_data() + begin * channels, channels);
        });
    });
    return y;
}

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

    const Index row = kernels::batch_norm_row(channels), blocks = kernels::batch_norm_blocks(count, channels);
    Tensor<double> statistics({2, channels}, x.device());
    Tensor<T> fold({3, row}, x.device());
    dispatch(x.device(), [&](auto on) {
        if (training) {
            Tensor<T> pivot({row}, x.device());
            Tensor<double> partial({blocks, 2, channels}, x.device());
            kernels::batch_norm_statistics(on, pixels(x.value()), mutable_view<1>(pivot), mutable_view<3>(partial),
                                           mutable_view<2>(statistics));
            kernels::batch_norm_track(on, view<2>(statistics), count, options.momentum,
                                      mutable_view<1>(running_mean.mutable_value()),
                                      mutable_view<1>(running_var.mutable_value()));
        } else {
            kernels::batch_norm_recall(on, view<1>(running_mean.value()), view<1>(running_var.value()),
                                       mutable_view<2>(statistics));
        }
        kernels::batch_norm_fold(on, view<2>(statistics), view<1>(gamma.value()), view<1>(beta.value()),
                                 options.epsilon, mutable_view<2>(fold));
    });
    auto y = detail::batch_norm_map<T>(
        x.value(), [x = x.value(), fold, options, channels](Index first, Index some, T* to, Index pitch) {
            kernels::batch_norm_apply(x.data() + first * channels, view<2>(fold), options.activation, some, channels,
                                      to, pitch);
        });

    const auto backward = [x = x.value(), statistics, fold, options, channels, count,
                           training](const Tensor<T>& dy, const Inputs<T>& input) {
        Tensor<double> sums({2, channels}, x.device());
        dispatch(x.device(), [&](auto on) {
            if (training || input[1].needs_grad() || input[2].needs_grad()) {
                Tensor<double> partial({kernels::batch_norm_blocks(count, channels), 2, channels}, x.device());
                kernels::batch_norm_reduce(on, pixels(x), pixels(dy), view<2>(fold), options.activation,
                                           mutable_view<3>(partial), mutable_view<2>(sums));
            }
            if (input[0].needs_grad()) {
                Tensor<T> slope = Tensor<T>::zeros({2, fold.size(1)}, x.device());
                if (training)
                    kernels::batch_norm_slope(on, view<2>(sums), view<2>(statistics), view<2>(fold), count,
                                              options.epsilon, mutable_view<2>(slope));
                input[0].add_grad(detail::batch_norm_map<T>(
                    x, [x, dy, fold, slope, options, channels](Index first, Index some, T* to, Index pitch) {
                        kernels::batch_norm_dx(x.data() + first * channels, dy.data() + first * channels, view<2>(fold),
                                               view<2>(slope), options.activation, some, channels, to, pitch);
                    }));
            }
            if (input[1].needs_grad() || input[2].needs_grad()) {
                Tensor<T> dgamma({channels}, x.device()), dbeta({channels}, x.device());
                kernels::batch_norm_dparameters(on, view<2>(sums), view<2>(statistics), options.epsilon,
                                                mutable_view<1>(dgamma), mutable_view<1>(dbeta));
                input[1].add_grad(std::move(dgamma));
                input[2].add_grad(std::move(dbeta));
            }
        });
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
