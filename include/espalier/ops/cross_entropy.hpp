#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/ops/reduce.hpp>
#include <espalier/ops/softmax.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/cross_entropy.cuda.cuh>
#endif

namespace espalier::inline ESPALIER_BACKEND {

/// Options of `cross_entropy`.
struct CrossEntropyOptions {
    double label_smoothing = 0; ///< share of the target that is spread evenly over all classes, in [0, 1]
};

namespace kernels {

// The target of row n is t[k] = e / K, plus 1 - e at k = labels[n], where e is the label smoothing.

/// loss[n] = sum_k t[k] (lse[n] - x[n,k]), given lse[n] = ln sum_k e^x[n,k].
template <class T>
void cross_entropy(Cpu, double smoothing, View<const T, 2> x, View<const Index, 1> labels, View<const double, 1> lse,
                   View<double, 1> loss) {
    const Index K = x.size(1);
    parallel_ranges(x.size(0), std::max<Index>(1, elementwise_grain / K), [&](Index begin, Index end) {
        for (Index n = begin; n < end; ++n) {
            loss(n) = (1 - smoothing) * (lse(n) - static_cast<double>(x(n, labels(n))));
            if (smoothing == 0) continue; // 0 times an infinite logit would be NaN
            double all = 0;
            for (Index k = 0; k < K; ++k) all += lse(n) - static_cast<double>(x(n, k));
            loss(n) += smoothing / static_cast<double>(K) * all;
        }
    });
}

/// dx[n,k] = (p[n,k] - t[k]) * dy / rows, where p is the softmax of x; dy [1] is the gradient of the mean.
template <class T>
void cross_entropy_backward(Cpu, double smoothing, View<const T, 2> p, View<const Index, 1> labels, View<const T, 1> dy,
                            T rows, View<T, 2> dx) {
    const T g = dy(0) / rows;
    const Index K = p.size(1);
    const T even = static_cast<T>(smoothing / static_cast<double>(K)), chosen = static_cast<T>(1 - smoothing);
    parallel_ranges(p.size(0), std::max<Index>(1, elementwise_grain / K), [&](Index begin, Index end) {
        for (Index n = begin; n < end; ++n)
            for (Index k = 0; k < K; ++k) dx(n, k) = (p(n, k) - even - (k == labels(n) ? chosen : T(0))) * g;
    });
}

/// right[n] = 1 if the largest x[n,k], the first if several are, is at k = labels[n] and none is NaN, else 0.
template <class T> void correct(Cpu, View<const T, 2> x, View<const Index, 1> labels, View<Index, 1> right) {
    for (Index n = 0; n < x.size(0); ++n) {
        const T* const row = x.at(n);
        const Index label = labels(n);
        bool best = row[label] == row[label];
        for (Index k = 0; k < x.size(1) && best; ++k) best = k < label ? row[k] < row[label] : row[k] <= row[label];
        right(n) = best;
    }
}

} // namespace kernels

namespace detail {
template <class T> void check_labels(const char* op, const Tensor<T>& logits, const Tensor<Index>& labels) {
    expect(logits.rank() == 2 && labels.shape() == Shape{logits.shape()[0]}, op,
           ": expected logits [N,K] and labels [N], got logits ", logits.shape(), " and labels ", labels.shape());
    expect_same_device(op, logits, labels);
    if (labels.device() != Device::cpu) return; // kernels look at them
    for (Index n = 0; n < labels.size(); ++n)
        expect(labels.data()[n] >= 0 && labels.data()[n] < logits.size(1), op, ": expected labels from 0 to ",
               logits.size(1) - 1, " for logits ", logits.shape(), ", got ", labels.data()[n], " in row ", n);
}
} // namespace detail

/// Mean over the batch of -sum_k t[k] ln softmax(logits[n])[k]: a scalar. logits [N,K], labels [N] in 0 .. K-1.
///
/// The target t is (1 - e) at the label plus e / K at every class, e being the label smoothing. Logarithm and softmax
/// are fused: large logits do not overflow.  d logits = (softmax - t) / N.
/// @throws ShapeError for shapes that do not fit, an empty batch, a label outside its range (naming row and label). On
/// a GPU, which nothing waits for, such a label makes the result NaN instead.
template <class T>
Var<T> cross_entropy(const Var<T>& logits, const Tensor<Index>& labels, const CrossEntropyOptions& options = {}) {
    const double smoothing = options.label_smoothing;
    detail::check_labels("cross_entropy", logits.value(), labels);
    expect(labels.size() > 0, "cross_entropy: expected at least one row, got logits ", logits.shape());
    expect(smoothing >= 0 && smoothing <= 1, "cross_entropy: expected label smoothing in [0, 1], got ", smoothing);
    const auto rows = static_cast<double>(labels.size());
    Tensor<T> p = empty_like(logits.value());
    Tensor<double> lse({labels.size()}, logits.device()), loss = empty_like(lse);
    dispatch(logits.device(), [&](auto on) {
        kernels::softmax(on, view<2>(logits.value()), mutable_view<2>(p), mutable_flat(lse));
        kernels::cross_entropy(on, smoothing, view<2>(logits.value()), flat(labels), flat(lse), mutable_flat(loss));
    });
    const Tensor<T> y = detail::reduce<T>({true}, std::identity(), detail::DividedBy<double>{rows}, loss);
    const auto backward = [p, smoothing, rows, kept = labels.clone()](const Tensor<T>& dy, const Inputs<T>& input) {
        Tensor<T> dx = empty_like(p);
        dispatch(dy.device(), [&](auto on) {
            kernels::cross_entropy_backward(on, smoothing, view<2>(p), flat(kept), flat(dy), static_cast<T>(rows),
                                            mutable_view<2>(dx));
        });
        input[0].add_grad(std::move(dx));
    };
    return record<T>("cross_entropy", y.reshape({}), {logits}, ChannelRule::declared().block(0, "classes"), backward);
}

/// Number of rows whose largest logit, the first if several are, is at the label. A row with NaN is never correct.
/// Waits for a GPU, where a row with a label outside its range is not correct. @throws ShapeError as `cross_entropy`
template <class T> Index correct(const Tensor<T>& logits, const Tensor<Index>& labels) {
    detail::check_labels("correct", logits, labels);
    Tensor<Index> right = empty_like(labels);
    dispatch(logits.device(),
             [&](auto on) { kernels::correct(on, view<2>(logits), flat(labels), mutable_flat(right)); });
    return detail::reduce<Index>({true}, std::identity(), std::identity(), right).item();
}

ESPALIER_COMPILED_FUNCTION(cross_entropy);

} // namespace espalier::inline ESPALIER_BACKEND
