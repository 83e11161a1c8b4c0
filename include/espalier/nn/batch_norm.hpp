#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/ops/batch_norm.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// What a new batch norm looks like.
struct BatchNormSpec {
    Index channels;        ///< C
    double momentum = 0.1; ///< weight of the new batch in the running statistics, in [0, 1]
    double epsilon = 1e-5; ///< added to the variance, positive
};

/// Batch norm over all axes but the last: parameters `gamma` and `beta`, buffers `running_mean` and `running_var`, all
/// [C]. Takes batch statistics and updates the running ones in training mode, uses the running ones in inference.
template <class T> class BatchNorm : public Module<T> {
public:
    /// Scales 1, shifts 0, running mean 0, running variance 1.
    explicit BatchNorm(const BatchNormSpec& spec) : momentum(spec.momentum), epsilon(spec.epsilon) {
        expect(spec.channels >= 1, "BatchNorm: expected at least one channel, got ", spec.channels);
        gamma = this->add_parameter("gamma", Tensor<T>::ones({spec.channels}));
        beta = this->add_parameter("beta", Tensor<T>::zeros({spec.channels}));
        running_mean = this->add_buffer("running_mean", Tensor<T>::zeros({spec.channels}));
        running_var = this->add_buffer("running_var", Tensor<T>::ones({spec.channels}));
    }

    /// x [N,C] or [N,H,W,C] -> the same shape, with the activation applied in the same pass.
    Var<T> forward(const Var<T>& x, Activation activation = Activation::none) const {
        return batch_norm(x, gamma, beta, running_mean, running_var,
                          {.mode = this->mode(), .momentum = momentum, .epsilon = epsilon, .activation = activation});
    }

    Var<T> gamma, beta, running_mean, running_var; ///< [C] each
    double momentum, epsilon;                      ///< as in the specification
};

ESPALIER_COMPILED_CLASS(BatchNorm);

} // namespace espalier::inline ESPALIER_BACKEND
