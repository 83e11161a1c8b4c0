#pragma once

#include <espalier/data/loader.hpp>
#include <espalier/models/model.hpp>
#include <espalier/ops/cross_entropy.hpp>

#include <type_traits>

namespace espalier::inline ESPALIER_BACKEND {

/// What a network does on a set of images.
struct Evaluation {
    double accuracy = 0; ///< in [0, 1]
    double loss = 0;     ///< mean cross-entropy of an image
    Index images = 0;    ///< that were counted
};

/// A forward pass of a network whose `forward` returns a `models::Output`, or logits alone.
template <class Net, class T> models::Output<T> forward_output(Net& net, const Var<T>& x) {
    if constexpr (std::is_convertible_v<decltype(net.forward(x)), models::Output<T>>)
        return net.forward(x);
    else
        return {.logits = net.forward(x), .flow = {}};
}

/// Accuracy and mean loss over all batches of a loader, in inference mode and without recording.
///
/// Pass a loader with `LoaderOptions::for_evaluation()`. The network is left in the mode that its root was in.
/// @throws StateError if the loader has no images
template <class Net, class T> Evaluation evaluate(Net& net, const Loader<T>& loader) {
    struct Restore {
        Net& net;
        Mode mode = net.mode();
        ~Restore() { net.set_mode(mode); }
    } const restore{net};
    net.eval();
    const NoGrad no_grad;
    Evaluation result;
    Index right = 0;
    auto epoch = loader.epoch(0);
    for (const Batch<T>& batch : epoch) {
        const Var<T> logits = forward_output(net, Var<T>(batch.images.to(net.device()))).logits;
        const Tensor<Index> labels = batch.labels.to(net.device());
        result.loss += static_cast<double>(cross_entropy(logits, labels).item()) * static_cast<double>(labels.size());
        right += correct(logits.value(), labels);
        result.images += batch.labels.size();
    }
    expect<StateError>(result.images > 0, "evaluate: expected at least one image, got none");
    result.loss /= static_cast<double>(result.images);
    result.accuracy = static_cast<double>(right) / static_cast<double>(result.images);
    return result;
}

} // namespace espalier::inline ESPALIER_BACKEND
