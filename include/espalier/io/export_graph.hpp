#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/io/export_step.hpp>
#include <espalier/ops/batch_norm.hpp>
#include <espalier/pruning/trace.hpp>
#include <espalier/tensor/random.hpp>
#include <espalier/tensor/swap_axes.hpp>

#include <set>
#include <unordered_map>

// Not part of espalier.hpp: few programs export.

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// Ops of one operand that treat elements, or rows of the last axis, alike.
inline bool exports_plainly(const std::string& op) {
    static const std::set<std::string> ops{
        "relu",    "relu6", "sigmoid", "tanh",   "exp",        "log",        "abs", "sqrt", "softmax",        "scale",
        "reshape", "slice", "pad",     "concat", "max_pool2d", "avg_pool2d", "sum", "mean", "global_max_pool"};
    return ops.contains(op);
}

/// Makes an export graph of a trace, node by node.
template <class T> class ExportBuilder {
public:
    ExportBuilder(const pruning::Trace<T>& trace, const KeepValues<T>& kept) : trace_(trace), kept_(kept) {}

    ExportGraph build() {
        graph_.values.push_back({"image", image_shape(*trace_.input), {}});
        ids_.emplace(trace_.input.get(), 0);
        for (const auto& node : trace_.nodes) {
            if (node->is_leaf() || !depends(*node)) continue; // constants are made when they are used
            expect<StateError>(node->shape.rank() > 0 && node->shape[0] == batch && !mixes_images(*node),
                               "export_graph: expected an op that treats images one by one, got ", near(*node));
            add(*node);
        }
        const auto last = ids_.find(trace_.output.node().get());
        expect<StateError>(last != ids_.end() && !graph_.steps.empty(),
                           "export_graph: expected logits that depend on the image, got others");
        graph_.output = last->second;
        graph_.drop_dead_steps();
        return std::move(graph_);
    }

    static constexpr Index batch = 2; // more than one, so that an op that mixes images shows

private:
    static Shape image_shape(const Node<T>& node) {
        Shape shape;
        for (int axis = 1; axis < node.shape.rank(); ++axis) shape.append(node.shape[axis]);
        return shape;
    }
    bool depends(const Node<T>& node) const { // on the image
        return std::any_of(node.inputs.begin(), node.inputs.end(),
                           [&](const auto& input) { return ids_.contains(input.get()); });
    }
    static bool mixes_images(const Node<T>& node) {
        for (const Index axis : node.attributes.list("axis"))
            if (axis == 0) return true;
        return node.op == std::string_view("softmax") && node.shape.rank() == 1;
    }
    /// "op mystery [2,4,4,6] after a.conv": what an error says about a node.
    std::string near(const Node<T>& node) const {
        const Node<T>* at = &node;
        while (at != trace_.input.get()) { // up the first operand that depends on the image
            if (const std::string module = module_of(*at); !module.empty())
                return join_text("op ", node.op, " ", node.shape, at == &node ? " of " : " after ", module);
            const auto next = std::find_if(at->inputs.begin(), at->inputs.end(),
                                           [&](const auto& input) { return ids_.contains(input.get()); });
            at = next->get();
        }
        return join_text("op ", node.op, " ", node.shape, " after the image");
    }
    /// The module whose parameter or buffer a node reads first, or an empty text.
    std::string module_of(const Node<T>& node) const {
        for (const auto& input : node.inputs)
            if (const auto it = trace_.variables.find(input.get()); it != trace_.variables.end()) {
                const std::string& name = it->second.name;
                return name.substr(0, std::min(name.rfind('.'), name.size()));
            }
        return {};
    }

    /// The value of an operand that depends on the image.
    std::size_t activation(const Node<T>& node, std::size_t i) const {
        const auto it = ids_.find(node.inputs[i].get());
        expect<StateError>(it != ids_.end(), "export_graph: expected operand ", i, " of ", near(node),
                           " to depend on the image, got a constant");
        return it->second;
    }
    /// The value of an operand that does not.
    std::size_t constant(const Node<T>& node, std::size_t i) {
        const Node<T>* const operand = node.inputs[i].get();
        expect<StateError>(!ids_.contains(operand) || graph_.values[ids_[operand]].constant.defined(),
                           "export_graph: expected operand ", i, " of ", near(node),
                           " to be a constant, got one that depends on the image");
        if (const auto it = constants_.find(operand); it != constants_.end()) return it->second;
        const auto variable = trace_.variables.find(operand);
        const bool registered = variable != trace_.variables.end();
        expect<StateError>(registered || !operand->is_leaf(), "export_graph: expected operand ", i, " of ", near(node),
                           " to be the image, a parameter or a buffer of the model, got a leaf ", operand->shape,
                           " that is not registered");
        const Tensor<T> value = registered ? variable->second.var.value() : kept_.of(operand);
        const std::string name =
            registered ? variable->second.name : join_text(operand->op, "_constant_", graph_.values.size());
        graph_.values.push_back({name, value.shape(), value.template cast<double>()});
        return constants_[operand] = graph_.values.size() - 1;
    }
    std::size_t either(const Node<T>& node, std::size_t i) {
        return ids_.contains(node.inputs[i].get()) ? activation(node, i) : constant(node, i);
    }

    std::size_t append(ExportStep step, const std::string& base, const Shape& shape) {
        step.name = unique_(base);
        step.output = graph_.values.size();
        graph_.values.push_back({step.name, shape, {}});
        graph_.steps.push_back(std::move(step));
        return graph_.values.size() - 1;
    }
    void finish(const Node<T>& node, ExportStep step) {
        const std::string module = module_of(node);
        ids_.emplace(&node, append(std::move(step), module.empty() ? node.op : module, image_shape(node)));
    }

    /// One axis of an adaptive pool: `size` windows whose extents may differ, each a slice and its mean, side by side.
    std::size_t averaged(std::size_t value, int axis, Index size, const std::string& base) {
        const Shape from = graph_.values[value].shape;
        if (from[axis] == size) return value;
        ExportStep together{"concat", "", {}, 0, {{"axis", axis}}};
        Shape one = from, all = from;
        one[axis] = 1;
        all[axis] = size;
        for (Index p = 0; p < size; ++p) {
            const Index begin = p * from[axis] / size, end = ((p + 1) * from[axis] + size - 1) / size;
            Shape window = from;
            window[axis] = end - begin;
            const std::size_t part =
                append({"slice", "", {value}, 0, {{"axis", axis}, {"begin", begin}, {"step", 1}}}, base, window);
            together.inputs.push_back(
                append({"mean", "", {part}, 0, {{"divisor", end - begin}, {"axis", axis}}}, base, one));
        }
        return append(std::move(together), base, all);
    }

    void add(const Node<T>& node) {
        const std::string op = node.op;
        ExportStep step{op, "", {}, 0, image_axes(node.attributes)};
        if (op == "dropout") {
            ids_.emplace(&node, activation(node, 0));
            return;
        }
        if (op == "adaptive_avg_pool2d") {
            std::size_t value = activation(node, 0);
            for (const int axis : {0, 1}) value = averaged(value, axis, node.shape[axis + 1], op);
            ids_.emplace(&node, value);
            return;
        }
        if (op == "conv2d" || op == "linear" || op == "batch_norm" || op == "matmul") {
            step.inputs.push_back(activation(node, 0));
            for (std::size_t i = 1; i < node.inputs.size(); ++i) step.inputs.push_back(constant(node, i));
        } else if (op == "add" || op == "sub" || op == "mul") {
            step.inputs = {operand_of_images(node, 0), operand_of_images(node, 1)};
        } else if (op == "join") {
            step.inputs = {activation(node, 0), activation(node, 1)};
        } else if (op == "place") {
            step.inputs = {activation(node, 1)};
            step.channels = node.join->kept;
        } else {
            expect<StateError>(exports_plainly(op), "export_graph: expected an op that can be exported, got ",
                               near(node));
            for (std::size_t i = 0; i < node.inputs.size(); ++i) step.inputs.push_back(activation(node, i));
        }
        if (op == "matmul") transpose_weight(step);
        if (op == "batch_norm") check_batch_norm(node);
        if (op == "batch_norm" || op == "join")
            step.activation = static_cast<Activation>(node.attributes.index("activation"));
        if (op == "join" && node.join->indexed()) {
            step.channels = node.join->kept;
            step.inputs.push_back(constant(node, 2));
            Tensor<double>& absent = graph_.values[step.inputs[2]].constant;
            for (const Index channel : step.channels) absent.mutable_data()[channel] = 0; // the branch adds there
            if (step.channels.empty()) { // all that is left of the branch
                step.op = "add";
                step.inputs.erase(step.inputs.begin() + 1);
            }
        }
        finish(node, std::move(step));
    }

    /// Attributes with axes of one image.
    static Attributes image_axes(const Attributes& attributes) {
        Attributes result;
        bool batch_axis = true; // a list over all axes starts with that of the batch
        for (const Attributes::Entry& entry : attributes) {
            const std::string_view name = entry.name;
            if (name == "before" && std::exchange(batch_axis, false)) continue;
            result.add({entry.name, name == "axis" ? entry.value - 1 : entry.value});
        }
        return result;
    }
    /// An operand that is broadcast against images: all axes of an activation, those of one image of a constant.
    std::size_t operand_of_images(const Node<T>& node, std::size_t i) {
        const Shape& shape = node.inputs[i]->shape;
        const std::size_t id = either(node, i);
        ExportValue& value = graph_.values[id];
        const bool all_axes = shape.rank() == node.shape.rank();
        if (!value.constant.defined()) {
            expect<StateError>(all_axes && shape[0] == batch,
                               "export_graph: expected operands with all axes of the result, got ", shape, " in ",
                               near(node));
            return id;
        }
        expect<StateError>(!all_axes || shape[0] == 1, "export_graph: expected a constant for one image, got ", shape,
                           " in ", near(node));
        if (!all_axes) return id;
        const Shape one = image_shape(*node.inputs[i]);
        graph_.values.push_back({value.name, one, value.constant.reshape(one)});
        return graph_.values.size() - 1;
    }
    void transpose_weight(ExportStep& step) { // x [C] times [C,K] is a linear layer
        const ExportValue& from = graph_.values[step.inputs[1]];
        const Index C = from.shape[0], K = from.shape[1];
        const Tensor<double> w = swap_axes(from.constant.reshape({1, C, K})).reshape({K, C});
        graph_.values.push_back({from.name, w.shape(), w});
        step.op = "linear";
        step.inputs[1] = graph_.values.size() - 1;
    }
    void check_batch_norm(const Node<T>& node) const {
        expect<StateError>(static_cast<Mode>(node.attributes.index("mode")) == Mode::inference,
                           "export_graph: expected batch norm in inference mode, got statistics of a batch in ",
                           near(node));
    }

    const pruning::Trace<T>& trace_;
    const KeepValues<T>& kept_;
    ExportGraph graph_;
    std::unordered_map<const Node<T>*, std::size_t> ids_, constants_;
    UniqueNames unique_;
};

template <class T> ExportGraph traced_graph(const Network<T>& net, const Shape& image) {
    expect(image.rank() == 3 && image.size() > 0, "export_graph: expected an image [H,W,C], got ", image);
    const DeviceScope<T> cpu(net.module, Device::cpu);
    const KeepValues<T> kept; // of the nodes, some are computed from parameters alone: constants
    const Tensor<T> x = uniform<T>(batch_of(ExportBuilder<T>::batch, image), Random(0, "export"), -1, 1);
    const auto trace = pruning::detail::trace_batch(net, x);
    ExportGraph graph = ExportBuilder<T>(trace, kept).build();
    graph.sample = x.rows(0, 1).template cast<double>().reshape(image);
    graph.expected = trace.output.value().rows(0, 1).template cast<double>().reshape(graph.values[graph.output].shape);
    return graph;
}

} // namespace detail

/// The graph of a model, read off one recorded forward pass in inference mode on images of shape [H,W,C].
///
/// Works for any model whose ops are listed at `ExportStep`: what depends on parameters alone becomes a constant,
/// dropout disappears, a matrix product is a linear layer, an adaptive pool slices and means, an indexed join without a
/// branch the addition of its constant. The model is unchanged; one on a GPU visits the CPU.
/// @throws StateError naming the op and the module near it: an op that can't be exported or mixes images, a tensor that
/// is neither the image nor a parameter or buffer of the model
template <class M> ExportGraph export_graph(M& model, const Shape& image) {
    return detail::traced_graph(network(model), image);
}

ESPALIER_COMPILED_FUNCTION(detail::traced_graph);

} // namespace espalier::inline ESPALIER_BACKEND
