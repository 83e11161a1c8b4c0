#pragma once

#include "networks.hpp"

#include <espalier/pruning/surgery.hpp>

namespace espalier::test {

/// What the networks of this folder see unless a test says otherwise.
inline const Shape small_image{4, 4, 3};

/// Scores of three random images, in evaluation.
template <class M>
Tensor<typename M::Scalar> logits(M& model, Path path = Path::fixed_order, const Shape& of = small_image) {
    using T = typename M::Scalar;
    const NoGrad no_grad;
    const PathScope scope(path);
    model.eval();
    const auto y = network(model).forward(Var<T>(random_tensor<T>(batch_of(3, of), "images"))).value();
    model.train();
    return y;
}

} // namespace espalier::test
