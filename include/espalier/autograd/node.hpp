#pragma once

#include <espalier/autograd/attributes.hpp>
#include <espalier/autograd/channels.hpp>
#include <espalier/autograd/deferred.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/accumulate.hpp>
#include <espalier/tensor/tensor.hpp>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

template <class T> class Node;
template <class T> struct JoinState; // ops/join.hpp

/// What a backward function sees of the op's inputs: whether each needs a gradient, and where to put it.
template <class T> class Inputs {
public:
    /// The inputs that were given to `record`, which outlive this.
    explicit Inputs(const std::vector<std::shared_ptr<Node<T>>>& nodes) : nodes_(nodes) {}
    /// Input i, in the order given to `record`: ask it `needs_grad()`, hand it `add_grad(dx)`.
    Node<T>& operator[](std::size_t i) const { return *nodes_[i]; }

private:
    const std::vector<std::shared_ptr<Node<T>>>& nodes_;
};

/// One value of the recorded graph: who made it, from what, and how its gradient flows back.
///
/// A node does not hold the value: an activation lives as long as somebody uses it or a backward function captured it.
template <class T> class Node {
public:
    /// Sends the gradient dy [shape of the value] to the inputs that need one. A function that takes a tensor dy will
    /// do.
    using Backward = std::function<void(const Deferred<T>& dy, const Inputs<T>& input)>;

    /// A leaf; `record` makes it the result of an op.
    Node(const Shape& shape_of_value, bool wants_grad) : shape(shape_of_value), wants_grad_(wants_grad) {}
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    // A chain of many thousand nodes must not be destroyed by as many nested destructor calls.
    ~Node();

    /// Whether a parameter is among the things it was made from.
    bool needs_grad() const { return wants_grad_; }
    /// Whether no op made it: a parameter, an input or a constant.
    bool is_leaf() const { return inputs.empty(); }
    /// What `add_grad` has added up; undefined before the first.
    const Tensor<T>& grad() const { return grad_.value(); }
    /// As `grad`, which a map need not be made for.
    const Deferred<T>& deferred_grad() const { return grad_; }
    /// Forgets the gradient, and its memory with it.
    void clear_grad() { grad_ = {}; }

    /// Adds g to the gradient; a value used twice gets the sum. @throws ShapeError if g has not the value's shape
    void add_grad(const Tensor<T>& g) {
        if (!grad_.defined() && is_leaf() && wants_grad_)
            add_grad(g.clone()); // g may be shared with other gradients
        else
            add(g, false);
    }
    /// As above; g's memory is taken over where that is possible.
    void add_grad(Tensor<T>&& g) { add(g, true); }
    /// As above, for a map that is made when it is read, or when another gradient is added.
    void add_grad(const Deferred<T>& g) {
        if (!wants_grad_) return;
        if (grad_.defined() || is_leaf() || !g.pending()) return add_grad(g.value());
        expect(g.shape() == shape, op, ": expected a gradient ", shape, ", got ", g.shape());
        grad_ = g;
        grad_is_ours_ = false;
    }

    const char* op = "leaf";                   ///< name of the op that made it
    Shape shape;                               ///< of the value
    std::vector<std::shared_ptr<Node>> inputs; ///< in the order of the op's operands; none for a leaf
    Backward backward;                         ///< empty for a leaf
    ChannelRule rule;                          ///< how channels pass from the inputs to the value
    Attributes attributes;                     ///< what the op was told beside its operands
    std::shared_ptr<JoinState<T>> join;        ///< the indexed join that recorded this node, if it was one

private:
    void add(const Tensor<T>& g, bool ours);

    Deferred<T> grad_;
    bool grad_is_ours_ = false; // nobody else holds this memory, so it may be added to in place
    bool wants_grad_;
};

template <class T> Node<T>::~Node() {
    std::vector<std::shared_ptr<Node>> doomed = std::move(inputs);
    while (!doomed.empty()) {
        const std::shared_ptr<Node> node = std::move(doomed.back());
        doomed.pop_back();
        if (node && node.use_count() == 1) {
            for (auto& input : node->inputs) doomed.push_back(std::move(input));
            node->inputs.clear();
        }
    }
}

template <class T> void Node<T>::add(const Tensor<T>& g, bool ours) {
    if (!wants_grad_) return;
    expect(g.shape() == shape, op, ": expected a gradient ", shape, ", got ", g.shape());
    if (!grad_.defined()) {
        grad_ = g;
        grad_is_ours_ = ours;
    } else if (grad_is_ours_) {
        Tensor<T> sum = grad_.value();
        dispatch(g.device(), [&](auto on) { kernels::accumulate(on, flat(g), mutable_flat(sum)); });
    } else {
        Tensor<T> sum = empty_like(g);
        dispatch(g.device(), [&](auto on) { kernels::sum_of(on, flat(grad_.value()), flat(g), mutable_flat(sum)); });
        grad_ = sum;
        grad_is_ours_ = true;
    }
}

ESPALIER_COMPILED_CLASS(Node);

} // namespace espalier::inline ESPALIER_BACKEND
