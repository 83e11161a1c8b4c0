#pragma once

#include <espalier/autograd/backward.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/core/scoped_value.hpp>

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
inline bool& grad_enabled() {
    thread_local bool enabled = true;
    return enabled;
}
} // namespace detail

/// Ops called by this thread record nothing until the end of the scope: for evaluation and for updating parameters.
class NoGrad : ScopedValue<bool> {
public:
    NoGrad() : ScopedValue(detail::grad_enabled(), false) {}
};

/// Whether gradients are taken with respect to a leaf.
enum class Gradient { none, wanted };

/// A tensor that ops can be applied to and gradients taken with respect to. Copies are handles of the same variable.
template <class T> class Var {
public:
    using Scalar = T; ///< what it holds

    Var() = default; ///< undefined: an absent optional operand
    /// A leaf: an input or a constant, or with `Gradient::wanted` a parameter.
    explicit Var(Tensor<T> value, Gradient gradient = Gradient::none)
        : Var(value, std::make_shared<Node<T>>(value.shape(), gradient == Gradient::wanted)) {}
    /// The result of an op, as `record` makes it.
    Var(Deferred<T> value, std::shared_ptr<Node<T>> node)
        : state_(std::make_shared<State>(State{std::move(value), std::move(node)})) {}

    /// False for an absent optional operand; nothing else may then be asked.
    bool defined() const { return state_ != nullptr; }
    /// The tensor, without its history.
    const Tensor<T>& value() const { return state_->value.value(); }
    /// As `value`, which a map need not be made for.
    const Deferred<T>& deferred() const { return state_->value; }
    /// As of the value.
    /// @{
    const Shape& shape() const { return node()->shape; }
    int rank() const { return shape().rank(); }
    Index size() const { return shape().size(); }
    Index size(int axis) const {
        expect(axis >= -rank() && axis < rank(), "Var::size: expected an axis below ", rank(), ", got ", axis);
        return shape()[axis];
    }
    Device device() const { return deferred().device(); }
    T item() const { return value().item(); }
    /// @}

    /// Whether a parameter is among the things it was made from.
    bool needs_grad() const { return state_->node->needs_grad(); }
    /// Sum of all gradients since the last `clear_grad`; undefined before the first.
    const Tensor<T>& grad() const { return state_->node->grad(); }
    /// Forgets the gradient; optimizers then leave the parameter alone until the next one.
    void clear_grad() { state_->node->clear_grad(); }
    /// Memory of a leaf's value, for optimizers: changes it under every handle.
    Tensor<T>& mutable_value() {
        expect<StateError>(node()->is_leaf(), "Var::mutable_value: expected a leaf, got the result of ", node()->op);
        return state_->value.mutable_value();
    }
    /// Replaces a leaf's value, its shape included, under every handle; the gradient is cleared.
    void set_value(Tensor<T> value) {
        mutable_value() = std::move(value);
        detail::memory_moved();
        node()->shape = state_->value.shape();
        clear_grad();
    }
    /// The same value as a constant: no gradient flows through it.
    Var detach() const { return Var(value()); }

    /// Gradients of this scalar with respect to every leaf that wants one, added to what they hold.
    /// @throws StateError if nothing was recorded, ShapeError if this is no scalar
    void backward() const {
        expect(size() == 1, "backward: expected one element, got ", shape(), "; pass the gradient for other shapes");
        backward(Tensor<T>::full(shape(), T(1), device()));
    }
    /// As above for a value of any shape, with dy [like the value] as its gradient.
    void backward(const Tensor<T>& dy) const {
        expect<StateError>(needs_grad(),
                           "backward: expected a value that depends on a parameter, got one that was not recorded");
        expect_same_device("backward", *this, dy);
        propagate(node(), dy);
    }

    /// The value's place in the recorded graph.
    const std::shared_ptr<Node<T>>& node() const { return state_->node; }

private:
    struct State {
        Deferred<T> value;
        std::shared_ptr<Node<T>> node;
    };
    std::shared_ptr<State> state_;
};

/// A leaf that wants a gradient.
template <class T> Var<T> parameter(Tensor<T> value) { return Var<T>(std::move(value), Gradient::wanted); }

/// Keeps the value of every node that ops of this thread record until the end of the scope: for looking into a network.
template <class T> class KeepValues : ScopedValue<KeepValues<T>*> {
public:
    KeepValues() : ScopedValue<KeepValues*>(current(), this) {}

    /// Value of a node recorded in this scope. @throws StateError if it was not
    const Tensor<T>& of(const Node<T>* node) const {
        const auto it = values_.find(node);
        expect<StateError>(it != values_.end(), "KeepValues: expected a node recorded in this scope, got ", node->op);
        return it->second.value();
    }
    /// What `record` calls for every node.
    void keep(const Node<T>* node, const Deferred<T>& value) { values_.emplace(node, value); }
    /// The innermost scope of this thread, or null.
    static KeepValues*& current() {
        thread_local KeepValues* scope = nullptr;
        return scope;
    }

private:
    std::unordered_map<const Node<T>*, Deferred<T>> values_;
};

/// Whether an op of these operands is recorded: one of them needs a gradient, and there is no `NoGrad`.
template <class T> bool is_recorded(const std::vector<Var<T>>& operands) {
    return detail::grad_enabled() &&
           std::any_of(operands.begin(), operands.end(), [](const Var<T>& operand) { return operand.needs_grad(); });
}

/// As `record`, for a map that may be made when it is read.
template <class T>
Var<T> record_deferred(const char* op, Deferred<T> y, const std::vector<Var<T>>& operands, ChannelRule rule,
                       typename Node<T>::Backward backward, const Attributes& attributes = {}) {
    const bool wanted = is_recorded<T>(operands);
    auto node = std::make_shared<Node<T>>(y.shape(), wanted);
    if (!wanted) return Var<T>(std::move(y), std::move(node));
    node->op = op;
    node->rule = std::move(rule);
    node->attributes = attributes;
    node->backward = std::move(backward);
    for (const Var<T>& operand : operands) node->inputs.push_back(operand.node());
    if (auto* const scope = KeepValues<T>::current()) scope->keep(node.get(), y);
    return Var<T>(std::move(y), std::move(node));
}

/// Makes the result of an op: `y` with its place in the graph.
///
/// `backward(dy, input)` adds to `input[i]` the gradient of operand i. It captures, by value, what it reads and no
/// more: what it does not capture is free to go. `attributes` are the numbers that, beside the operands, say what `y`
/// is: what exporters need. Nothing is recorded under `NoGrad` or when no operand needs a gradient.
template <class T>
Var<T> record(const char* op, Tensor<T> y, const std::vector<Var<T>>& operands, ChannelRule rule,
              typename Node<T>::Backward backward, const Attributes& attributes = {}) {
    return record_deferred<T>(op, std::move(y), operands, std::move(rule), std::move(backward), attributes);
}

ESPALIER_COMPILED_FUNCTION(record);
ESPALIER_COMPILED_FUNCTION(record_deferred);

} // namespace espalier::inline ESPALIER_BACKEND
