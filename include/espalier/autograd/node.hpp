#pragma once

#include <espalier/autograd/attributes.hpp>
#include <espalier/autograd/channel_moments.hpp>
#include <espalier/autograd/channels.hpp>
#include <espalier/autograd/deferred.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/accumulate.hpp>
#include <espalier/tensor/tensor.hpp>
#if ESPALIER_CUDA
#include <espalier/cuda/elementwise.cuh>
#endif

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
template <class T> class Node : public std::enable_shared_from_this<Node<T>> {
public:
    /// Sends the gradient dy [shape of the value] to the inputs that need one. A function that takes a tensor dy will
    /// do. dy is its own: where no other tensor shares its memory, the function may write over it.
    using Backward = std::function<void(Deferred<T> dy, const Inputs<T>& input)>;

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
    /// Whether there was one.
    bool has_grad() const { return grad_.defined(); }
    /// Forgets the gradient, and its memory with it.
    void clear_grad() { grad_ = {}; }
    /// Hands the gradient out, and forgets it.
    Deferred<T> take_grad() { return std::exchange(grad_, {}); }

    /// Adds g to the gradient; a value used twice gets the sum. @throws ShapeError if g has not the value's shape
    ///
    /// No copy is made: the first g becomes the gradient, which may be a map that is made when it is read, and others
    /// are added to it in place unless another tensor shares its memory. Only a leaf, whose gradient users see, does
    /// not take over memory that is shared.
    void add_grad(Deferred<T> g);
    /// As `add_grad` of what `write(g, false)` puts into a tensor g, shaped as the value and on that device; where
    /// there is a gradient that may be added to in place, `write(gradient, true)` does that instead, without a g. Does
    /// not call `write` where no gradient is needed.
    template <class Write> void write_grad(Device device, const Write& write);

    const char* op = "leaf";                   ///< name of the op that made it
    Shape shape;                               ///< of the value
    std::vector<std::shared_ptr<Node>> inputs; ///< in the order of the op's operands; none for a leaf
    Backward backward;                         ///< empty for a leaf
    ChannelRule rule;                          ///< how channels pass from the inputs to the value
    Attributes attributes;                     ///< what the op was told beside its operands
    std::shared_ptr<JoinState<T>> join;        ///< the indexed join that recorded this node, if it was one
    ChannelMoments<T> moments;                 ///< of the value, until they are taken

private:
    Deferred<T> grad_;
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

template <class T> void Node<T>::add_grad(Deferred<T> g) {
    if (!wants_grad_) return;
    expect(g.shape() == shape, op, ": expected a gradient ", shape, ", got ", g.shape());
    if (!grad_.defined() && !is_leaf()) {
        grad_ = std::move(g);
        return;
    }
    Tensor<T> added = std::move(g), sum = std::move(grad_);
    if (!sum.defined()) {
        sum = added.is_shared() ? added.clone() : std::move(added);
    } else if (!sum.is_shared()) {
        dispatch(sum.device(), [&](auto on) { kernels::accumulate(on, flat(added), mutable_flat(sum)); });
    } else {
        const Tensor<T> shared = sum;
        sum = empty_like(shared);
        dispatch(sum.device(), [&](auto on) { kernels::sum_of(on, flat(shared), flat(added), mutable_flat(sum)); });
    }
    if (is_recording() && is_leaf()) // another gradient may have taken its place when it is replayed
        on_replay([self = this->weak_from_this(), sum] {
            if (const auto node = self.lock()) node->grad_ = sum;
        });
    grad_ = std::move(sum);
}

template <class T> template <class Write> void Node<T>::write_grad(Device device, const Write& write) {
    if (!wants_grad_) return;
    if (grad_.defined() && !grad_.pending() && !grad_.value().is_shared()) return write(grad_.mutable_value(), true);
    Tensor<T> g(shape, device);
    write(g, false);
    add_grad(std::move(g));
}

ESPALIER_COMPILED_CLASS(Node);

} // namespace espalier::inline ESPALIER_BACKEND
