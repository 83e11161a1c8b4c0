#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/trace.hpp>

#include <functional>
#include <string>

namespace espalier::inline ESPALIER_BACKEND {

/// What a network costs, for one image.
struct Cost {
    Index parameters = 0; ///< elements of all parameters
    Index macs = 0;    ///< multiply-adds of convolutions and linear layers, borders counted in full, bias not counted
    Index filters = 0; ///< output channels of all convolutions

    friend bool operator==(const Cost&, const Cost&) = default;
};

/// `269434 parameters, 30821248 MACs, 688 filters`
inline std::string to_text(const Cost& cost) {
    return join_text(cost.parameters, " parameters, ", cost.macs, " MACs, ", cost.filters, " filters");
}

namespace pruning {

/// Cost of the traced network (traced with a batch of one) if its variables had the shapes that `shape_of` gives.
template <class T>
Cost cost(const Trace<T>& trace, const Module<T>& model, const std::function<Shape(const Var<T>&)>& shape_of) {
    Cost total;
    for (const auto& [name, var] : model.parameters()) total.parameters += shape_of(var).size();
    std::unordered_map<const Node<T>*, bool> counted; // a filter used twice is one filter
    for (const auto& node : trace.nodes) {
        if (node->rule.weight() < 0) continue;
        const Node<T>* const weight = node->inputs[static_cast<std::size_t>(node->rule.weight())].get();
        const auto variable = trace.variables.find(weight);
        if (variable == trace.variables.end()) continue;
        const Shape shape = shape_of(variable->second.var);
        total.macs += node->rule.positions() * shape.size();
        if (shape.rank() == 4 && counted.emplace(weight, true).second) total.filters += shape[0];
    }
    return total;
}

namespace detail {
template <class T> Cost cost_of_network(const Network<T>& net, const Shape& image) {
    return cost<T>(trace_image(net, image), net.module, [](const Var<T>& var) { return var.shape(); });
}
} // namespace detail
} // namespace pruning

/// Cost of a model for one image of shape [H,W,C].
template <class M> Cost cost(M& model, const Shape& image) {
    return pruning::detail::cost_of_network(network(model), image);
}

ESPALIER_COMPILED_FUNCTION(pruning::cost);
ESPALIER_COMPILED_FUNCTION(pruning::detail::cost_of_network);

} // namespace espalier::inline ESPALIER_BACKEND
