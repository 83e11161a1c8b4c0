#pragma once

#include <espalier/autograd/node.hpp>
#include <espalier/core/compiled.hpp>

#include <memory>
#include <unordered_set>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Every node that `root` depends on, itself last: inputs before the ops that use them, each once, without recursion.
template <class T> std::vector<std::shared_ptr<Node<T>>> topological_order(const std::shared_ptr<Node<T>>& root) {
    std::vector<std::shared_ptr<Node<T>>> order;
    std::unordered_set<const Node<T>*> seen{root.get()};
    std::vector<std::pair<std::shared_ptr<Node<T>>, std::size_t>> path{{root, 0}}; // a node and its next input
    while (!path.empty()) {
        auto& [node, next] = path.back();
        if (next < node->inputs.size()) {
            const std::shared_ptr<Node<T>> input = node->inputs[next++];
            if (seen.insert(input.get()).second) path.emplace_back(input, 0);
        } else {
            order.push_back(std::move(node));
            path.pop_back();
        }
    }
    return order;
}

/// Gives `root` the gradient `dy` and lets it flow back to the leaves: each op runs its backward once, after all ops
/// that used its result.
template <class T> void propagate(const std::shared_ptr<Node<T>>& root, const Tensor<T>& dy) {
    const auto order = topological_order(root);
    root->add_grad(dy);
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
        Node<T>& visited = **it;
        if (!visited.backward || !visited.has_grad()) continue;
        visited.backward(visited.take_grad(), Inputs<T>(visited.inputs)); // only leaves keep theirs
    }
}

ESPALIER_COMPILED_FUNCTION(propagate);

} // namespace espalier::inline ESPALIER_BACKEND
