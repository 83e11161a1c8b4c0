#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/train/optimizer.hpp>

#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {

/// Where weight decay enters Adam.
enum class DecayForm {
    gradient,  ///< d = g + weight_decay * p, which the root of the second moment then divides: Adam
    decoupled, ///< p shrinks by learning_rate * weight_decay * p beside the step: AdamW
};

/// Options of Adam, PyTorch's defaults.
struct AdamOptions {
    double learning_rate = 1e-3;          ///< at least 0; a schedule replaces it
    double beta1 = 0.9, beta2 = 0.999;    ///< decay of the mean gradient and of its mean square, both in [0, 1)
    double epsilon = 1e-8;                ///< added to the root of the mean square, positive
    DecayForm form = DecayForm::gradient; ///< where the weight decay goes
    double weight_decay = 0;              ///< at least 0
    Decay decay = Decay::all;             ///< which parameters decay
};

namespace kernels {

/// One step's factors, with the bias corrections of its number.
template <class T> struct AdamStep {
    T step_size;             ///< learning_rate / (1 - beta1^t)
    T root_of_second;        ///< sqrt(1 - beta2^t)
    T beta1, beta2, epsilon; ///< as in the options
    T added;                 ///< weight decay in the gradient
    T kept;                  ///< 1 - learning_rate * weight decay beside the step
};

/// d = g + added * p;  m = beta1 * m + (1 - beta1) * d;  v = beta2 * v + (1 - beta2) * d^2;
/// p = kept * p - step_size * m / (sqrt(v) / root_of_second + epsilon).
///
/// g, m, v, p: [N]. One pass; one range of elements a thread.
template <class T> void adam(Cpu, AdamStep<T> by, View<const T, 1> g, View<T, 1> m, View<T, 1> v, View<T, 1> p) {
    parallel_ranges(p.size(), update_grain, [&](Index begin, Index end) {
        const T* const gradient = g.data();
        T *const mean = m.data(), *const square = v.data(), *const value = p.data();
        for (Index i = begin; i < end; ++i) {
            const T d = gradient[i] + by.added * value[i];
            mean[i] += (1 - by.beta1) * (d - mean[i]);
            square[i] = by.beta2 * square[i] + (1 - by.beta2) * d * d;
            value[i] =
                by.kept * value[i] - by.step_size * mean[i] / (std::sqrt(square[i]) / by.root_of_second + by.epsilon);
        }
    });
}

#if ESPALIER_CUDA
// Element i of the above.
template <class T> struct AdamElement {
    AdamStep<T> by;
    const T* g;
    T *m, *v, *p;

    __device__ void operator()(Index i) const {
        const T d = g[i] + by.added * p[i];
        m[i] += (1 - by.beta1) * (d - m[i]);
        v[i] = by.beta2 * v[i] + (1 - by.beta2) * d * d;
        p[i] = by.kept * p[i] - by.step_size * m[i] / (std::sqrt(v[i]) / by.root_of_second + by.epsilon);
    }
};
/// As on the CPU.
template <class T> void adam(Cuda on, AdamStep<T> by, View<const T, 1> g, View<T, 1> m, View<T, 1> v, View<T, 1> p) {
    for_each(on, p.size(), AdamElement<T>{by, g.data(), m.data(), v.data(), p.data()});
}
#endif

} // namespace kernels

/// Adam with bias correction and either form of weight decay, by PyTorch's formulas.
///
/// State: `mean` and `square` of the gradient. The correction counts this optimizer's steps.
/// @throws ShapeError for an option out of range
/// Source: Kingma & Ba 2015, algorithm 1, in the form of torch.optim.Adam; decoupled: Loshchilov & Hutter 2019,
/// algorithm 2, in the form of torch.optim.AdamW, whose decay is a multiple of the learning rate.
template <class T> class Adam : public Optimizer<T> {
public:
    /// For the parameters of a module, or some of them. @throws ShapeError for an option out of range
    /// @{
    Adam(const Module<T>& module, const AdamOptions& options) : Adam(module.parameters(), options) {}
    Adam(const std::vector<NamedVar<T>>& parameters, const AdamOptions& options)
        : Optimizer<T>(parameters, {"mean", "square"}, options.learning_rate), options_(options) {
        expect(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
               "Adam: expected betas in [0, 1), got ", options.beta1, " and ", options.beta2);
        expect(options.epsilon > 0, "Adam: expected a positive epsilon, got ", options.epsilon);
        expect(options.weight_decay >= 0, "Adam: expected a weight decay of at least 0, got ", options.weight_decay);
    }
    /// @}

protected:
    void update(std::vector<Tensor<T>>& state, const Tensor<T>& g, Tensor<T>& p) override {
        const double t = static_cast<double>(this->steps());
        const double decay = this->decay_of(p, options_.weight_decay, options_.decay);
        const bool decoupled = options_.form == DecayForm::decoupled;
        const kernels::AdamStep<T> by{.step_size =
                                          static_cast<T>(this->learning_rate() / (1 - std::pow(options_.beta1, t))),
                                      .root_of_second = static_cast<T>(std::sqrt(1 - std::pow(options_.beta2, t))),
                                      .beta1 = static_cast<T>(options_.beta1),
                                      .beta2 = static_cast<T>(options_.beta2),
                                      .epsilon = static_cast<T>(options_.epsilon),
                                      .added = static_cast<T>(decoupled ? 0 : decay),
                                      .kept = static_cast<T>(decoupled ? 1 - this->learning_rate() * decay : 1)};
        dispatch(p.device(), [&](auto on) {
            kernels::adam(on, by, flat(g), mutable_flat(state[0]), mutable_flat(state[1]), mutable_flat(p));
        });
    }

private:
    AdamOptions options_;
};

ESPALIER_COMPILED_CLASS(Adam);

} // namespace espalier::inline ESPALIER_BACKEND
