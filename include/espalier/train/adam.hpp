#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/train/optimizer.hpp>
#if ESPALIER_CUDA
#include <espalier/cuda/for_each.cuh>
#endif

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

/// factors = {learning_rate / (1 - beta1^t), sqrt(1 - beta2^t)} of now = {learning_rate, t}; powers are the device's.
struct AdamFactors {
    const double* now;   ///< [2]
    double beta1, beta2; ///< as in the options
    double* factors;     ///< [2]

    /// Both.
    ESPALIER_HD void operator()(Index) const {
        factors[0] = now[0] / (1 - std::pow(beta1, now[1]));
        factors[1] = std::sqrt(1 - std::pow(beta2, now[1]));
    }
};

/// Works the factors out.
inline void adam_factors(Cpu, const AdamFactors& work_out) { work_out(0); }
#if ESPALIER_CUDA
/// As on the CPU.
inline void adam_factors(Cuda on, const AdamFactors& work_out) { for_each(on, 1, work_out); }
#endif

/// A step's factors; those that change from step to step lie on the device.
template <class T> struct AdamStep {
    const double* now;       ///< of `AdamFactors`
    const double* factors;   ///< of `AdamFactors`
    T beta1, beta2, epsilon; ///< as in the options
    T added;                 ///< weight decay in the gradient
    double decoupled;        ///< weight decay beside the step

    /// @{
    ESPALIER_HD T step_size() const { return static_cast<T>(factors[0]); }        ///< of the mean
    ESPALIER_HD T root_of_second() const { return static_cast<T>(factors[1]); }   ///< of the correction
    ESPALIER_HD T kept() const { return static_cast<T>(1 - now[0] * decoupled); } ///< of a parameter, before
    /// @}
};

/// One parameter of a step.
template <class T> struct AdamUpdate {
    AdamStep<T> by;     ///< its factors
    View<const T, 1> g; ///< [N], the gradient
    View<T, 1> m, v, p; ///< [N] each: mean, mean square, parameter
};

/// d = g + added * p;  m = beta1 * m + (1 - beta1) * d;  v = beta2 * v + (1 - beta2) * d^2;
/// p = kept * p - step_size * m / (sqrt(v) / root_of_second + epsilon).
///
/// One pass; one range of elements a thread.
template <class T> void adam(Cpu, const AdamUpdate<T>& update) {
    parallel_ranges(update.p.size(), update_grain, [&](Index begin, Index end) {
        const AdamStep<T> by = update.by;
        const T* const gradient = update.g.data();
        T *const mean = update.m.data(), *const square = update.v.data(), *const value = update.p.data();
        const T kept = by.kept(), step_size = by.step_size(), root_of_second = by.root_of_second();
        for (Index i = begin; i < end; ++i) {
            const T d = gradient[i] + by.added * value[i];
            mean[i] += (1 - by.beta1) * (d - mean[i]);
            square[i] = by.beta2 * square[i] + (1 - by.beta2) * d * d;
            value[i] = kept * value[i] - step_size * mean[i] / (std::sqrt(square[i]) / root_of_second + by.epsilon);
        }
    });
}

/// All of a step.
template <class T> void adam(Cpu on, const std::vector<AdamUpdate<T>>& all) {
    for (const AdamUpdate<T>& update : all) adam(on, update);
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
        p[i] = by.kept() * p[i] - by.step_size() * m[i] / (std::sqrt(v[i]) / by.root_of_second() + by.epsilon);
    }
};
/// As on the CPU.
template <class T> void adam(Cuda on, const std::vector<AdamUpdate<T>>& all) {
    std::vector<std::pair<Index, AdamElement<T>>> elements;
    for (const auto& [by, g, m, v, p] : all)
        elements.push_back({p.size(), {by, g.data(), m.data(), v.data(), p.data()}});
    for_each_of(on, elements);
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
        : Optimizer<T>(parameters, {"mean", "square"}, options.learning_rate), options_(options),
          factors_({2}, this->device()) {
        expect(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
               "Adam: expected betas in [0, 1), got ", options.beta1, " and ", options.beta2);
        expect(options.epsilon > 0, "Adam: expected a positive epsilon, got ", options.epsilon);
        expect(options.weight_decay >= 0, "Adam: expected a weight decay of at least 0, got ", options.weight_decay);
    }
    /// @}

protected:
    void update(const std::vector<ParameterUpdate<T>>& all) override {
        const bool decoupled = options_.form == DecayForm::decoupled;
        std::vector<kernels::AdamUpdate<T>> updates;
        for (const auto& [state, g, p] : all) {
            const double decay = this->decay_of(p, options_.weight_decay, options_.decay);
            updates.push_back({{.now = this->now().data(),
                                .factors = factors_.data(),
                                .beta1 = static_cast<T>(options_.beta1),
                                .beta2 = static_cast<T>(options_.beta2),
                                .epsilon = static_cast<T>(options_.epsilon),
                                .added = static_cast<T>(decoupled ? 0 : decay),
                                .decoupled = decoupled ? decay : 0},
                               flat(g),
                               mutable_flat(state[0]),
                               mutable_flat(state[1]),
                               mutable_flat(p)});
        }
        dispatch(this->device(), [&](auto on) {
            kernels::adam_factors(on, {this->now().data(), options_.beta1, options_.beta2, factors_.mutable_data()});
            kernels::adam<T>(on, updates);
        });
    }

private:
    AdamOptions options_;
    Tensor<double> factors_;
};

ESPALIER_COMPILED_CLASS(Adam);

} // namespace espalier::inline ESPALIER_BACKEND
