#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/ops/join.hpp>
#include <espalier/ops/mode.hpp>

#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// A variable with the dotted name that it has in its model: `stage1.0.conv1.weight`.
template <class T> struct NamedVar {
    std::string name; ///< path from the module asked: `stage1.0.conv1.weight`
    Var<T> var;       ///< the variable itself, not a copy
};
/// The residual join of a block with its dotted name.
template <class T> struct NamedJoin {
    std::string name;                   ///< path from the module asked
    std::shared_ptr<JoinState<T>> join; ///< the state itself, not a copy
};

/// What layers and models are made of: named parameters, buffers, joins and children.
///
/// A module is a handle, like a variable: copies share everything. Derive from it, and register members as they are
/// initialised, which also fixes their order:
///
///     struct Net : es::Module<float> {
///         es::Conv2d<float> conv = child("conv", es::Conv2d<float>({.in = 1, .out = 8, .size = 3}));
///         es::Linear<float> head = child("head", es::Linear<float>({.in = 8, .out = 10}));
///         es::Var<float> forward(const es::Var<float>& x) { return
///         head.forward(global_avg_pool(relu(conv.forward(x)))); }
///     };
template <class T> class Module {
public:
    using Scalar = T; ///< of all parameters

    /// Everything that optimizers train, depth first in order of registration, each variable once.
    std::vector<NamedVar<T>> parameters() const { return collect(&State::parameters); }
    /// State that is saved but not trained: running statistics.
    std::vector<NamedVar<T>> buffers() const { return collect(&State::buffers); }
    /// Residual joins, which surgery may turn into indexed ones.
    std::vector<NamedJoin<T>> joins() const;
    /// Parameters and buffers together. @throws StateError naming the ones there are if `name` is not among them
    Var<T> find(const std::string& name) const;

    /// Sum of the elements of all parameters.
    Index parameter_count() const;

    /// Training or inference, for this module and everything below: what batch norm and dropout do.
    void set_mode(Mode mode);
    /// `set_mode(Mode::training)`.
    void train() { set_mode(Mode::training); }
    /// `set_mode(Mode::inference)`.
    void eval() { set_mode(Mode::inference); }
    /// What was set last; training before that.
    Mode mode() const { return state_->mode; }

    /// Of all parameters here and below.
    void clear_grad();

    /// Moves all parameters and buffers to a device, under every handle; what is there already stays as it is, what
    /// moves forgets its gradient. Make optimizers and averages afterwards: their state lies where parameters lie.
    /// @throws DeviceError if the device is not there, Error if its memory is too small; nothing has changed then
    void to(Device device);
    /// Where the first parameter, or buffer, is; the CPU for a module without any.
    Device device() const;

protected:
    /// Registers a parameter of this module. @throws StateError if the name is taken or holds a dot
    Var<T> add_parameter(const std::string& name, Tensor<T> value);
    /// Registers state that is saved but not trained. @throws StateError if the name is taken or holds a dot
    Var<T> add_buffer(const std::string& name, Tensor<T> value);
    /// Registers a residual join: its channel list as `kept`, its constant as the parameter `constant`.
    std::shared_ptr<JoinState<T>> add_join(std::shared_ptr<JoinState<T>> join);
    /// Registers a module below this one and returns it.
    template <class M> M child(const std::string& name, M module) {
        claim(name);
        state_->children.emplace_back(name, static_cast<const Module&>(module).state_);
        return module;
    }

private:
    struct State {
        std::vector<std::pair<std::string, Var<T>>> parameters, buffers;
        std::vector<std::pair<std::string, std::shared_ptr<JoinState<T>>>> joins;
        std::vector<std::pair<std::string, std::shared_ptr<State>>> children;
        Mode mode = Mode::training;
    };

    void claim(const std::string& name) const;
    template <class S, class F> static void visit(S& state, const std::string& prefix, const F& f) {
        f(state, prefix);
        for (auto& [name, below] : state.children) visit(*below, prefix + name + ".", f);
    }
    std::vector<NamedVar<T>> collect(std::vector<std::pair<std::string, Var<T>>> State::*list) const;

    std::shared_ptr<State> state_ = std::make_shared<State>();
};

template <class T> std::vector<NamedJoin<T>> Module<T>::joins() const {
    std::vector<NamedJoin<T>> all;
    visit(*state_, "", [&](const State& state, const std::string& prefix) {
        for (const auto& [name, join] : state.joins) all.push_back({prefix + name, join});
    });
    return all;
}

template <class T> Var<T> Module<T>::find(const std::string& name) const {
    std::string known;
    for (const auto& list : {parameters(), buffers()})
        for (const auto& [candidate, var] : list) {
            if (candidate == name) return var;
            known += (known.empty() ? "" : ", ") + candidate;
        }
    throw StateError("Module::find: expected one of " + known + "; got " + name);
}

template <class T> Index Module<T>::parameter_count() const {
    Index count = 0;
    for (const auto& [name, var] : parameters()) count += var.size();
    return count;
}

template <class T> void Module<T>::set_mode(Mode mode) {
    visit(*state_, "", [mode](State& state, const std::string&) { state.mode = mode; });
}

template <class T> void Module<T>::clear_grad() {
    for (auto& [name, var] : parameters()) var.clear_grad();
}

template <class T> void Module<T>::to(Device device) {
    std::vector<std::pair<Var<T>, Tensor<T>>> moved;
    for (const auto& list : {parameters(), buffers()})
        for (const auto& [name, var] : list)
            if (var.device() != device) moved.emplace_back(var, var.value().to(device));
    for (auto& [var, value] : moved) var.set_value(std::move(value));
}

template <class T> Device Module<T>::device() const {
    for (const auto& list : {parameters(), buffers()})
        for (const auto& [name, var] : list) return var.device();
    return Device::cpu;
}

template <class T> Var<T> Module<T>::add_parameter(const std::string& name, Tensor<T> value) {
    claim(name);
    return state_->parameters.emplace_back(name, Var<T>(std::move(value), Gradient::wanted)).second;
}

template <class T> Var<T> Module<T>::add_buffer(const std::string& name, Tensor<T> value) {
    claim(name);
    return state_->buffers.emplace_back(name, Var<T>(std::move(value))).second;
}

template <class T> std::shared_ptr<JoinState<T>> Module<T>::add_join(std::shared_ptr<JoinState<T>> join) {
    claim("kept");
    claim("constant");
    state_->parameters.emplace_back("constant", join->constant);
    return state_->joins.emplace_back("kept", std::move(join)).second;
}

template <class T> void Module<T>::claim(const std::string& name) const {
    const auto taken = [&](const auto& list) {
        for (const auto& entry : list)
            if (entry.first == name) return true;
        return false;
    };
    expect<StateError>(!name.empty() && name.find('.') == std::string::npos && !taken(state_->parameters) &&
                           !taken(state_->buffers) && !taken(state_->joins) && !taken(state_->children),
                       "Module: expected a new name without dots, got '", name, "'");
}

template <class T>
std::vector<NamedVar<T>> Module<T>::collect(std::vector<std::pair<std::string, Var<T>>> State::*list) const {
    std::vector<NamedVar<T>> all;
    std::unordered_set<const Node<T>*> seen; // a module used under two names is listed once
    visit(*state_, "", [&](const State& state, const std::string& prefix) {
        for (const auto& [name, var] : state.*list)
            if (seen.insert(var.node().get()).second) all.push_back({prefix + name, var});
    });
    return all;
}

ESPALIER_COMPILED_CLASS(Module);

} // namespace espalier::inline ESPALIER_BACKEND
