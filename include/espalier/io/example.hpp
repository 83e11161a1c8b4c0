#pragma once

#include <espalier/io/tensor_file.hpp>
#include <espalier/nn/network.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace espalier::inline ESPALIER_BACKEND {

/// How what a network computes compares with what it computed when it was saved.
struct ExampleCheck {
    double difference = 0;  ///< largest |logit - stored logit|, as a part of the largest |stored logit|
    bool bit_equal = false; ///< no bit differs
};

namespace detail {

template <class T> Tensor<T> infer(const Network<T>& net, const Tensor<T>& images) {
    const NoGrad no_grad;
    const ModeScope<T> mode(net.module, Mode::inference);
    return net.forward(Var<T>(images.to(net.module.device()))).value().to(Device::cpu);
}

template <class T> ExampleCheck compare_example(const TensorFile& file, const Network<T>& net, double tolerance) {
    const Tensor<T> stored = file.get_converted<T>("example.logits");
    const Tensor<T> got = infer(net, file.get_converted<T>("example.images"));
    expect<StateError>(got.shape() == stored.shape(), "check_example: expected logits ", stored.shape(),
                       ", as stored in ", file.source(), ", got ", got.shape());
    ExampleCheck check{.bit_equal = std::equal(got.begin(), got.end(), stored.begin(), [](T a, T b) {
                           return std::memcmp(&a, &b, sizeof a) == 0; // a network that says NaN says it again
                       })};
    if (check.bit_equal) return check;
    double largest = 0;
    for (Index i = 0; i < got.size(); ++i) {
        const double expected = static_cast<double>(stored.data()[i]);
        const double apart = std::abs(static_cast<double>(got.data()[i]) - expected);
        largest = std::max(largest, std::abs(expected));
        if (apart > check.difference || std::isnan(apart)) check.difference = apart; // nothing is more than NaN
    }
    if (check.difference > 0) check.difference /= largest;
    expect<StateError>(check.difference <= tolerance, "check_example: expected the logits stored in ", file.source(),
                       " within ", tolerance, " of the largest, got a difference of ", check.difference);
    return check;
}

} // namespace detail

/// Stores a few images [N,H,W,C] and what the model makes of them in inference mode, as `example.images` and
/// `example.logits`: whoever loads the file can ask for the same answers. The model is unchanged.
///
/// In a file of weights, keep those under a prefix (`save_state(file, model, "model.")`); in a checkpoint, the pair
/// belongs to `extra`. A GPU's logits differ from the CPU's by roundings. @throws StateError if the file has an example
template <class M> void save_example(TensorFile& file, M& model, const Tensor<typename M::Scalar>& images) {
    file.add("example.images", images);
    file.add("example.logits", detail::infer(network(model), images));
}

/// Runs the model on the images that `save_example` stored and compares its logits with theirs. The model is unchanged.
///
/// The same program on the same kind of processor gives the same bits, on any number of threads: ask for that with a
/// tolerance of 0. Another compiler or another width of vectors groups sums differently and fuses other products with
/// their additions. Between AVX2 and SSE2 that moved the logits of VGG-16 by 8e-6 of the largest, those of ResNet-110
/// by 3e-7; the tolerance leaves room. Weights that were not loaded, or a network that is wired differently, are far
/// off.
/// @throws StateError with the difference if it is beyond the tolerance, or if the file has no example
template <class M> ExampleCheck check_example(const TensorFile& file, M& model, double tolerance = 1e-4) {
    return detail::compare_example(file, network(model), tolerance);
}

ESPALIER_COMPILED_FUNCTION(detail::compare_example);

} // namespace espalier::inline ESPALIER_BACKEND
