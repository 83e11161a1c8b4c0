#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/train/optimizer.hpp>

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

/// d = g + weight_decay * p;  v = momentum * v + d;  p -= learning_rate * (nesterov: d + momentum * v, else v).
///
/// g, p, v: [N]; without momentum v is empty and d is the step. One pass; one range of elements a thread.
template <class T> void sgd(Cpu, SgdStep<T> by, View<const T, 1> g, View<T, 1> v, View<T, 1> p) {
    const auto pass = [&](const auto& direction) {
        parallel_ranges(p.size(), update_grain, [&](Index begin, Index end) {
            const T* const gradient = g.data();
            T *const velocity = v.data(), *const value = p.data();
            const T rate = static_cast<T>(*by.learning_rate);
            for (Index i = begin; i < end; ++i)
                value[i] -= rate * direction(gradient[i] + by.weight_decay * value[i], velocity, i);
        });
    };
    if (v.size() == 0)
        pass([](T d, T*, Index) { return d; });
    else if (by.form == Momentum::classical)
        pass([m = by.momentum](T d, T* velocity, Index i) { return velocity[i] = m * velocity[i] + d; });
    else
        pass([m = by.momentum](T d, T* velocity, Index i) {
            velocity[i] = m * velocity[i] + d;
            return d + m * velocity[i];
        });
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
template <class T> void sgd(Cuda on, SgdStep<T> by, View<const T, 1> g, View<T, 1> v, View<T, 1> p) {
    for_each(on, p.size(), SgdElement<T>{by, g.data(), v.size() == 0 ? nullptr : v.data(), p.data()});
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
    void update(std::vector<Tensor<T>>& state, const Tensor<T>& g, Tensor<T>& p) override {
        const kernels::SgdStep<T> by{this->now().data(), static_cast<T>(options_.momentum),
                                     static_cast<T>(this->decay_of(p, options_.weight_decay, options_.decay)),
                                     options_.form};
        dispatch(p.device(), [&](auto on) {
            kernels::sgd(on, by, flat(g), state.empty() ? View<T, 1>(nullptr, {0}) : mutable_flat(state[0]),
                         mutable_flat(p));
        });
    }

private:
    SgdOptions options_;
};

ESPALIER_COMPILED_CLASS(Sgd);

} // namespace espalier::inline ESPALIER_BACKEND
