#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/io/tensor_file.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/pruning/follower.hpp>

#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Which parameters weight decay pulls towards zero.
enum class Decay {
    all,     ///< every parameter, as PyTorch does
    weights, ///< those of two axes or more: not biases, batch norm and join constants
};

namespace kernels {
/// Elements that an optimizer's update gives a thread at a time.
inline constexpr Index update_grain = 16384;
} // namespace kernels

/// A parameter p with its gradient g and its state, all of one shape and on one device: what an optimizer's kind
/// updates.
template <class T> struct ParameterUpdate {
    std::vector<Tensor<T>>& state; ///< in the order of the names of state
    const Tensor<T>& g;            ///< dL/dp
    Tensor<T>& p;                  ///< to be changed in place
};

/// Changes parameters by their gradients, and keeps a few tensors of state for each, shaped as the parameter.
///
/// A kind of optimizer says how many tensors, what they are called, and how one parameter is updated; checks, surgery
/// and saving are the same for all. Parameters without a gradient are left alone, their state too, as in PyTorch.
template <class T> class Optimizer {
public:
    virtual ~Optimizer() = default;
    Optimizer(const Optimizer&) = delete;
    Optimizer& operator=(const Optimizer&) = delete;

    /// One update of every parameter that has a gradient.
    /// @throws StateError, with nothing changed, if surgery changed a parameter and its cuts were not applied;
    /// DeviceError, likewise, if the parameters moved to another device since the optimizer was made
    void step() {
        for (const Slot& slot : slots_) {
            expect_same_device("Optimizer::step", slot.parameter.var, now_);
            for (std::size_t i = 0; i < slot.state.size(); ++i)
                expect<StateError>(slot.state[i].shape() == slot.parameter.var.shape(), "Optimizer::step: expected ",
                                   state_names_[i], " ", slot.parameter.var.shape(), " for '", slot.parameter.name,
                                   "', got ", slot.state[i].shape(), "; apply the cuts of surgery first");
        }
        every_call([this] { ++steps_; });
        dispatch(now_.device(),
                 [&](auto on) { kernels::increase(on, 1.0, View<double, 1>(now_.mutable_data() + 1, {1})); });
        std::vector<ParameterUpdate<T>> updates;
        for (Slot& slot : slots_) {
            Var<T>& var = slot.parameter.var;
            if (var.grad().defined()) updates.push_back({slot.state, var.grad(), var.mutable_value()});
        }
        update(updates);
    }
    /// Of all parameters of this optimizer.
    void clear_grad() {
        for (Slot& slot : slots_) slot.parameter.var.clear_grad();
    }

    /// Of the next step, at least 0. @throws ShapeError for a negative or infinite rate
    /// @{
    double learning_rate() const { return learning_rate_; }
    void set_learning_rate(double rate) {
        expect(rate >= 0 && rate < infinity, "Optimizer: expected a learning rate of at least 0, got ", rate);
        if (rate == learning_rate_) return;
        expect_not_recording("Optimizer::set_learning_rate"); // it would be the rate of every replay
        learning_rate_ = rate;
        now_.rows(0, 1).fill(rate);
    }
    /// @}
    /// Updates made so far.
    Index steps() const { return steps_; }
    /// Calls f(parameter, tensor) for each tensor of state, to be changed in place: what masks do.
    template <class F> void each_state(const F& f) {
        for (Slot& slot : slots_)
            for (Tensor<T>& tensor : slot.state) f(slot.parameter.var, tensor);
    }

    /// Follows surgery (`Follower`): keeps of each state what was kept of its parameter, so that the next step is that
    /// of a network that had been small all along. A parameter made anew starts with zeros. Cuts of what is not trained
    /// here (running statistics) are passed over.
    /// @throws StateError if state and parameters would not fit each other afterwards
    Commit prepare(const std::vector<Cut<T>>& cuts) {
        std::vector<std::vector<Tensor<T>>> next;
        for (const Slot& slot : slots_) {
            const auto& [name, var] = slot.parameter;
            for (Tensor<T>& tensor : next.emplace_back(slot.state)) {
                const Device device = tensor.device();
                tensor = follow("Optimizer::prepare", cuts, name, var, tensor);
                if (!tensor.defined()) tensor = Tensor<T>::zeros(var.shape(), device);
            }
        }
        return [this, next = std::move(next)]() mutable noexcept {
            for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].state = std::move(next[i]);
            detail::memory_moved();
        };
    }

    /// Adds state, learning rate and number of steps under `prefix`; the tensors share memory with this optimizer.
    void save(TensorFile& file, const std::string& prefix) const {
        file.add(prefix + "steps", Tensor<Index>::scalar(steps_));
        file.add(prefix + "learning_rate", Tensor<double>::scalar(learning_rate_));
        for (std::size_t i = 0; i < state_names_.size(); ++i)
            for (const Slot& slot : slots_) file.add(prefix + state_name(i, slot), slot.state[i]);
    }
    /// Takes back what `save` added; the parameters must have the shapes that they had then.
    /// @throws StateError, with nothing changed, if names, types or shapes differ
    void load(const TensorFile& file, const std::string& prefix) {
        std::vector<std::string> names{"steps", "learning_rate"};
        for (std::size_t i = 0; i < state_names_.size(); ++i)
            for (const Slot& slot : slots_) names.push_back(state_name(i, slot));
        file.expect_names("Optimizer::load", prefix, names);
        std::vector<std::vector<Tensor<T>>> loaded;
        for (const Slot& slot : slots_) {
            std::vector<Tensor<T>>& state = loaded.emplace_back();
            for (std::size_t i = 0; i < state_names_.size(); ++i) {
                state.push_back(file.get<T>(prefix + state_name(i, slot)).clone().to(slot.state[i].device()));
                expect<StateError>(state[i].shape() == slot.parameter.var.shape(), "Optimizer::load: expected '",
                                   prefix, state_name(i, slot), "' ", slot.parameter.var.shape(), ", got ",
                                   state[i].shape(), " in ", file.source());
            }
        }
        const Index steps = file.get<Index>(prefix + "steps").item();
        set_learning_rate(file.get<double>(prefix + "learning_rate").item());
        steps_ = steps;
        now_.rows(1, 2).fill(static_cast<double>(steps));
        detail::memory_moved();
        for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].state = std::move(loaded[i]);
    }

protected:
    /// State starts at zero. @param state_names  one for each tensor that is kept for a parameter
    Optimizer(const std::vector<NamedVar<T>>& parameters, std::vector<std::string> state_names, double learning_rate)
        : state_names_(std::move(state_names)),
          now_(Tensor<double>::zeros({2}, parameters.empty() ? Device::cpu : parameters.front().var.device())) {
        set_learning_rate(learning_rate);
        for (const NamedVar<T>& parameter : parameters) {
            expect_same_device("Optimizer", parameter.var, now_);
            Slot& slot = slots_.emplace_back(Slot{parameter, {}});
            for (std::size_t i = 0; i < state_names_.size(); ++i)
                slot.state.push_back(zeros_like(parameter.var.value()));
        }
    }

    /// Where parameters and state lie.
    Device device() const { return now_.device(); }
    /// Learning rate and number of this step, from 1, on the device: a captured step reads them anew at each replay.
    View<const double, 1> now() const { return flat(now_); }
    /// Updates all of these; a GPU takes many in one kernel.
    virtual void update(const std::vector<ParameterUpdate<T>>& all) = 0;

    /// Coefficient of weight decay for a parameter.
    static double decay_of(const Tensor<T>& p, double weight_decay, Decay decay) {
        return decay == Decay::all || p.rank() > 1 ? weight_decay : 0;
    }

private:
    struct Slot {
        NamedVar<T> parameter;
        std::vector<Tensor<T>> state;
    };
    static constexpr double infinity = std::numeric_limits<double>::infinity();

    std::string state_name(std::size_t i, const Slot& slot) const {
        return state_names_[i] + "." + slot.parameter.name;
    }

    std::vector<std::string> state_names_;
    std::vector<Slot> slots_;
    Tensor<double> now_; // [2]: learning rate and steps, once more, where the parameters lie
    double learning_rate_ = 0;
    Index steps_ = 0;
};

ESPALIER_COMPILED_CLASS(Optimizer);

} // namespace espalier::inline ESPALIER_BACKEND
