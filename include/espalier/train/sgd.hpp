#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/train/optimizer.hpp>
#if ESPALIER_CUDA
#include <espalier/cuda/for_each.cuh>
#endif

namespace espalier::inline ESPALIER_BACKEND {

/// Form of momentum: PyTorch's default, or its `nesterov`.
enum class Momentum { classical, nesterov };

/// Options of stochastic gradient descent.
struct SgdOptions {
    double learning_rate = 0.1;          ///< at least 0; a schedule replaces it
    double momentum = 0;                 ///< in [0, 1)
    Momentum form = Momentum::classical; ///< unused without momentum
    double weight_decay = 0;             ///< at least 0
    Decay decay = Decay::all;            ///< which parameters decay
};

namespace kernels {

/// A step's factors; the learning rate, which changes, lies on the device.
template <class T> struct SgdStep {
    const double* learning_rate; ///< [1]
    T momentum, weight_decay;    ///< as in the options
    Momentum form;               ///< as in the options
};

/// One parameter of a step.
template <class T> struct SgdUpdate {
    SgdStep<T> by;      ///< its factors
    View<const T, 1> g; ///< [N], the gradient
    View<T, 1> v, p;    ///< [N] each, velocity and parameter; without momentum v is empty
};

/// d = g + weight_decay * p;  v = momentum * v + d;  p -= learning_rate * (nesterov: d + momentum * v, else v).
///
/// Without momentum d is the step. One pass; one range of elements a thread.
template <class T> void sgd(Cpu, const SgdUpdate<T>& update) {
    const SgdStep<T> by = update.by;
    const auto pass = [&](const auto& direction) {
        parallel_ranges(update.p.size(), update_grain, [&](Index begin, Index end) {
            const T* const gradient = update.g.data();
            T *const velocity = update.v.data(), *const value = update.p.data();
            const T rate = static_cast<T>(*by.learning_rate);
            for (Index i = begin; i < end; ++i)
                value[i] -= rate * direction(gradient[i] + by.weight_decay * value[i], velocity, i);
        });
    };
    if (update.v.size() == 0)
        pass([](T d, T*, Index) { return d; });
    else if (by.form == Momentum::classical)
        pass([m = by.momentum](T d, T* velocity, Index i) { return velocity[i] = m * velocity[i] + d; });
    else
        pass([m = by.momentum](T d, T* velocity, Index i) {
            velocity[i] = m * velocity[i] + d;
            return d + m * velocity[i];
        });
}

/// All of a step.
template <class T> void sgd(Cpu on, const std::vector<SgdUpdate<T>>& all) {
    for (const SgdUpdate<T>& update : all) sgd(on, update);
}

#if ESPALIER_CUDA
// Element i of the above.
template <class T> struct SgdElement {
    SgdStep<T> by;
    const T* g;
    T *v, *p;

    __device__ void operator()(Index i) const {
        T d = g[i] + by.weight_decay * p[i];
        if (v) {
            v[i] = by.momentum * v[i] + d;
            d = by.form == Momentum::classical ? v[i] : d + by.momentum * v[i];
        }
        p[i] -= static_cast<T>(*by.learning_rate) * d;
    }
};
/// As on the CPU.
template <class T> void sgd(Cuda on, const std::vector<SgdUpdate<T>>& all) {
    std::vector<std::pair<Index, SgdElement<T>>> elements;
    for (const auto& [by, g, v, p] : all)
        elements.push_back({p.size(), {by, g.data(), v.size() == 0 ? nullptr : v.data(), p.data()}});
    for_each_of(on, elements);
}
#endif

} // namespace kernels

/// Stochastic gradient descent with momentum, Nesterov's form of it, and weight decay, by PyTorch's formulas.
///
/// State: `momentum`, if there is any; it starts at zero, so the first step is along the gradient (no dampening).
/// @throws ShapeError for an option out of range
/// Source: Sutskever et al. 2013, section 2, in the form of torch.optim.SGD.
template <class T> class Sgd : public Optimizer<T> {
public:
    /// For the parameters of a module, or some of them. @throws ShapeError for an option out of range
    /// @{
    Sgd(const Module<T>& module, const SgdOptions& options) : Sgd(module.parameters(), options) {}
    Sgd(const std::vector<NamedVar<T>>& parameters, const SgdOptions& options)
        : Optimizer<T>(parameters,
                       options.momentum > 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>{},
                       options.learning_rate),
          options_(options) {
        expect(options.momentum >= 0 && options.momentum < 1, "Sgd: expected a momentum in [0, 1), got ",
               options.momentum);
        expect(options.form == Momentum::classical || options.momentum > 0,
               "Sgd: expected a momentum above 0 for Nesterov's form, got 0");
        expect(options.weight_decay >= 0, "Sgd: expected a weight decay of at least 0, got ", options.weight_decay);
    }
    /// @}

protected:
    void update(const std::vector<ParameterUpdate<T>>& all) override {
        std::vector<kernels::SgdUpdate<T>> updates;
        for (const auto& [state, g, p] : all)
            updates.push_back(
                {{this->now().data(), static_cast<T>(options_.momentum),
                  static_cast<T>(this->decay_of(p, options_.weight_decay, options_.decay)), options_.form},
                 flat(g),
                 state.empty() ? View<T, 1>(nullptr, {0}) : mutable_flat(state[0]),
                 mutable_flat(p)});
        dispatch(this->device(), [&](auto on) { kernels::sgd<T>(on, updates); });
    }

private:
    SgdOptions options_;
};

ESPALIER_COMPILED_CLASS(Sgd);

} // namespace espalier::inline ESPALIER_BACKEND
