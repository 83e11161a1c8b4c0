#pragma once

#include <espalier/io/export_step.hpp>
#include <espalier/io/onnx_messages.hpp>

#include <map>
#include <utility>

// Not part of espalier.hpp: needs ONNX and protobuf, which the CMake target espalier::onnx brings.

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

/// The ONNX nodes of a graph's steps and the initializers of its constants.
///
/// ONNX has channels first: maps [H,W,C] of one image are [batch,C,H,W], other values keep their order. An op whose
/// result depends on the order of elements is put between transpositions.
class OnnxWriter {
public:
    OnnxWriter(const ExportGraph& graph, onnx::GraphProto& to) : graph_(graph), to_(to), names_(graph.values.size()) {
        names_[0] = unique_("image");
        names_[graph.output] = unique_("logits");
        describe(*to_.add_input(), 0);
        describe(*to_.add_output(), graph.output);
        for (const ExportStep& step : graph.steps) write_step(step);
    }

private:
    using Names = std::vector<std::string>;
    using Indices = std::vector<Index>;

    // Names and constants.

    const Shape& shape(std::size_t value) const { return graph_.values[value].shape; }
    bool is_map(std::size_t value) const { return shape(value).rank() == 3; }
    void describe(onnx::ValueInfoProto& info, std::size_t value) {
        info.set_name(names_[value]);
        auto& type = *info.mutable_type()->mutable_tensor_type();
        type.set_elem_type(onnx::TensorProto::FLOAT);
        type.mutable_shape()->add_dim()->set_dim_param("batch");
        const Shape& s = shape(value);
        for (int axis = 0; axis < s.rank(); ++axis)
            type.mutable_shape()->add_dim()->set_dim_value(s[is_map(value) ? (axis + 2) % 3 : axis]);
    }
    /// Axis of ONNX for an axis of one image of a value.
    Index onnx_axis(std::size_t value, Index axis) const { return is_map(value) ? (axis + 1) % 3 + 1 : axis + 1; }

    /// The initializer of a constant, once for each order of its elements that is used.
    std::string constant(std::size_t value, const std::string& order, const Tensor<double>& elements) {
        const auto [it, fresh] = constants_.emplace(std::pair(value, order), "");
        if (fresh) {
            it->second = unique_(graph_.values[value].name);
            fill_tensor(*to_.add_initializer(), it->second, elements.shape(), elements);
        }
        return it->second;
    }
    std::string constant(std::size_t value) { return constant(value, "", graph_.values[value].constant); }
    std::string integers(const std::string& name, const Indices& values) {
        onnx::TensorProto& tensor = *to_.add_initializer();
        tensor.set_name(unique_(name));
        tensor.set_data_type(onnx::TensorProto::INT64);
        tensor.add_dims(static_cast<Index>(values.size()));
        for (const Index value : values) tensor.add_int64_data(value);
        return tensor.name();
    }
    std::string number(const std::string& name, double value) {
        onnx::TensorProto& tensor = *to_.add_initializer();
        fill_tensor(tensor, unique_(name), {}, Tensor<double>::scalar(value));
        return tensor.name();
    }

    // Nodes.

    onnx::NodeProto& node(const char* op, const Names& inputs, const std::string& output) {
        onnx::NodeProto& made = *to_.add_node();
        made.set_op_type(op);
        made.set_name(output);
        for (const std::string& input : inputs) made.add_input(input);
        made.add_output(output);
        return made;
    }
    std::string transposed(const std::string& x, const Indices& order, const std::string& y) {
        set_attribute(node("Transpose", {x}, y), "perm", order);
        return y;
    }
    /// A value with its channels last, as the framework has it. A map of one pixel is the same in both orders.
    std::string channels_last(std::size_t value) {
        const bool turned = is_map(value) && shape(value)[0] * shape(value)[1] != 1;
        const std::string& name = names_[value];
        return turned ? transposed(name, {0, 2, 3, 1}, unique_(name + ".channels_last")) : name;
    }
    /// The constant in the order in which ONNX broadcasts it against a result of that rank.
    std::string broadcast(std::size_t value, int rank) {
        const Tensor<double> from = graph_.values[value].constant;
        if (rank != 3) return constant(value);
        Shape full;
        for (int missing = from.rank(); missing < 3; ++missing) full.append(1);
        for (const Index extent : from.shape()) full.append(extent);
        return constant(value, "channels first", channels_first(from.reshape(full)));
    }
    // Steps.

    const std::string& x(const ExportStep& step, std::size_t i = 0) const { return names_[step.inputs[i]]; }

    void write_step(const ExportStep& step) {
        std::string& y = names_[step.output];
        const std::string name = step.output == graph_.output ? y : unique_(step.name);
        const bool relu = step.activation == Activation::relu;
        y = relu ? unique_(name + ".before_relu") : name;
        write(step, y);
        if (relu) node("Relu", {std::exchange(y, name)}, name);
    }

    void write(const ExportStep& step, const std::string& y) {
        static const std::map<std::string, const char*> same{
            {"relu", "Relu"}, {"sigmoid", "Sigmoid"}, {"tanh", "Tanh"}, {"exp", "Exp"}, {"log", "Log"},
            {"abs", "Abs"},   {"sqrt", "Sqrt"},       {"add", "Add"},   {"sub", "Sub"}, {"mul", "Mul"}};
        if (step.op == "conv2d") return write_conv2d(step, y);
        if (step.op == "linear") return write_linear(step, y);
        if (step.op == "reshape") return write_reshape(step, y);
        if (step.op == "sum" || step.op == "mean") return write_reduction(step, y);
        if (step.op.ends_with("pool2d")) return write_pool(step, y);
        if (step.op == "join" || step.op == "place") return write_indexed(step, y);
        if (step.op == "concat" || step.op == "slice" || step.op == "pad") return write_copy(step, y);
        if (step.op == "batch_norm") {
            Names inputs{x(step)};
            for (std::size_t i = 1; i < 5; ++i) inputs.push_back(constant(step.inputs[i]));
            set_attribute(node("BatchNormalization", inputs, y), "epsilon", step.attributes.number("epsilon"));
        } else if (step.op == "softmax") {
            const Index last = shape(step.inputs[0]).rank() - 1;
            set_attribute(node("Softmax", {x(step)}, y), "axis", onnx_axis(step.inputs[0], last));
        } else if (step.op == "relu6") {
            node("Clip", {x(step), number(step.name + ".lowest", 0), number(step.name + ".highest", 6)}, y);
        } else if (step.op == "scale") {
            node("Mul", {x(step), number(step.name + ".factor", step.attributes.number("factor"))}, y);
        } else if (step.op == "global_max_pool") {
            const std::string map = unique_(y + ".map");
            node("GlobalMaxPool", {x(step)}, map);
            node("Flatten", {map}, y);
        } else {
            Names inputs;
            for (const std::size_t input : step.inputs)
                inputs.push_back(graph_.values[input].constant.defined() ? broadcast(input, shape(step.output).rank())
                                                                         : names_[input]);
            node(same.at(step.op), inputs, y);
        }
    }

    /// The window of `taps` that a convolution or pool slides over its map.
    static void set_window(onnx::NodeProto& node, const ExportStep& step, const Indices& taps) {
        set_attribute(node, "kernel_shape", taps);
        set_attribute(node, "strides", Indices(2, step.attributes.index("stride")));
        set_attribute(node, "pads", Indices(4, step.attributes.index("padding")));
    }
    void write_conv2d(const ExportStep& step, const std::string& y) {
        const Tensor<double> w = graph_.input(step, 1).constant; // [K,R,S,C] -> [K,C,R,S]
        Names inputs{x(step), constant(step.inputs[1], "channels first", channels_first(w))};
        if (step.inputs.size() > 2) inputs.push_back(constant(step.inputs[2]));
        onnx::NodeProto& conv = node("Conv", inputs, y);
        set_window(conv, step, {w.size(1), w.size(2)});
        set_attribute(conv, "dilations", Indices(2, step.attributes.index("dilation")));
        set_attribute(conv, "group", step.attributes.index("groups"));
    }
    void write_linear(const ExportStep& step, const std::string& y) {
        Names inputs{x(step)};
        const auto map = flattened_.find(step.inputs[0]);
        if (map == flattened_.end()) {
            inputs.push_back(constant(step.inputs[1]));
        } else { // columns in the order of a map with its channels first
            const Tensor<double> w = graph_.input(step, 1).constant;
            const Shape& s = map->second;
            inputs.push_back(constant(step.inputs[1], "columns of " + to_text(s),
                                      channels_first(w.reshape({w.size(0), s[0], s[1], s[2]})).reshape(w.shape())));
        }
        if (step.inputs.size() > 2) inputs.push_back(constant(step.inputs[2]));
        set_attribute(node("Gemm", inputs, y), "transB", Index(1));
    }
    void write_reshape(const ExportStep& step, const std::string& y) {
        const Shape &from = shape(step.inputs[0]), &to = shape(step.output);
        const bool only_linear = std::all_of(graph_.steps.begin(), graph_.steps.end(), [&](const ExportStep& user) {
            return user.op == "linear" || std::count(user.inputs.begin(), user.inputs.end(), step.output) == 0;
        });
        if (is_map(step.inputs[0]) && to.rank() == 1 && only_linear && step.output != graph_.output) {
            flattened_.emplace(step.output, from); // the linear layers' columns are permuted instead of the map
            node("Flatten", {x(step)}, y);
            return;
        }
        Indices extents{0}; // as before: the batch
        extents.insert(extents.end(), to.begin(), to.end());
        const bool turned = to.rank() == 3 && to[0] * to[1] != 1;
        if (to.rank() == 3 && !turned) std::rotate(extents.begin() + 1, extents.end() - 1, extents.end());
        const std::string last = turned ? unique_(y + ".channels_last") : y;
        node("Reshape", {channels_last(step.inputs[0]), integers(step.name + ".shape", extents)}, last);
        if (turned) transposed(last, {0, 3, 1, 2}, y);
    }
    void write_reduction(const ExportStep& step, const std::string& y) {
        const std::size_t from = step.inputs[0];
        const Indices axes = step.attributes.list("axis");
        const bool kept = shape(from).rank() == shape(step.output).rank();
        // Without H and W a map is its channels in either order; else what is left has to be in ours.
        const bool direct = !is_map(from) || kept || axes == Indices{0, 1};
        Indices places;
        for (const Index axis : axes) places.push_back(direct ? onnx_axis(from, axis) : axis + 1);
        const std::string input = direct ? x(step) : channels_last(from);
        if (step.op == "mean") {
            onnx::NodeProto& reduced = node("ReduceMean", {input}, y);
            set_attribute(reduced, "axes", places);
            set_attribute(reduced, "keepdims", Index(kept));
        } else {
            set_attribute(node("ReduceSum", {input, integers(step.name + ".axes", places)}, y), "keepdims",
                          Index(kept));
        }
    }
    void write_pool(const ExportStep& step, const std::string& y) {
        const bool average = step.op == "avg_pool2d";
        onnx::NodeProto& pool = node(average ? "AveragePool" : "MaxPool", {x(step)}, y);
        set_window(pool, step, {step.attributes.index("rows"), step.attributes.index("columns")});
        if (average) set_attribute(pool, "count_include_pad", Index(1));
    }

    /// Channels of x at `channels` among `width`, the others 0: padding, and where they are no run, a gather behind it.
    std::string spread(const ExportStep& step, const std::string& x, std::size_t like, const std::string& y) {
        const Index width = shape(step.output).back(), count = static_cast<Index>(step.channels.size());
        const Index first = step.channels.front();
        const bool run = step.channels.back() - first + 1 == count;
        const Index axis = onnx_axis(like, shape(like).rank() - 1), rank = shape(like).rank() + 1;
        Indices pads(static_cast<std::size_t>(2 * rank), 0);
        pads[static_cast<std::size_t>(axis)] = run ? first : 0;
        pads[static_cast<std::size_t>(rank + axis)] = run ? width - first - count : 1; // one channel of zeros
        const std::string padded = run ? y : unique_(y + ".padded");
        node("Pad", {x, integers(step.name + ".pads", pads)}, padded);
        if (run) return y;
        Indices source(static_cast<std::size_t>(width), count);
        for (Index j = 0; j < count; ++j)
            source[static_cast<std::size_t>(step.channels[static_cast<std::size_t>(j)])] = j;
        set_attribute(node("Gather", {padded, integers(step.name + ".source", source)}, y), "axis", axis);
        return y;
    }
    /// What a Slice of the step's operand reads.
    Names sliced(const ExportStep& step, const Indices& starts, const Indices& ends, const Indices& axes,
                 const Indices& steps) {
        return {x(step), integers(step.name + ".starts", starts), integers(step.name + ".ends", ends),
                integers(step.name + ".axes", axes), integers(step.name + ".steps", steps)};
    }
    void write_indexed(const ExportStep& step, const std::string& y) {
        if (step.op == "place") {
            const Index stride = step.attributes.index("stride");
            std::string from = x(step);
            if (stride > 1) {
                const std::string every = unique_(y + ".strided");
                const Shape& s = shape(step.inputs[0]);
                node("Slice", sliced(step, {0, 0}, {s[0], s[1]}, {2, 3}, {stride, stride}), every);
                from = every;
            }
            spread(step, from, step.inputs[0], y);
        } else if (step.channels.empty()) {
            node("Add", {x(step), x(step, 1)}, y);
        } else {
            const std::string all = spread(step, x(step, 1), step.inputs[1], unique_(y + ".branch"));
            const std::string shifted = unique_(y + ".with_constant");
            node("Add", {all, broadcast(step.inputs[2], shape(step.output).rank())}, shifted);
            node("Add", {x(step), shifted}, y);
        }
    }
    void write_copy(const ExportStep& step, const std::string& y) {
        const std::size_t from = step.inputs[0];
        if (step.op == "concat") {
            Names inputs;
            for (const std::size_t input : step.inputs) inputs.push_back(names_[input]);
            set_attribute(node("Concat", inputs, y), "axis", onnx_axis(from, step.attributes.index("axis")));
        } else if (step.op == "slice") {
            const Index axis = step.attributes.index("axis"), begin = step.attributes.index("begin");
            const Index every = step.attributes.index("step");
            const Index end = begin + every * shape(step.output)[static_cast<int>(axis)]; // past the end is the end
            node("Slice", sliced(step, {begin}, {end}, {onnx_axis(from, axis)}, {every}), y);
        } else {
            const Indices before = step.attributes.list("before");
            const auto rank = static_cast<Index>(before.size()) + 1;
            Indices pads(static_cast<std::size_t>(2 * rank), 0);
            for (Index axis = 0; axis + 1 < rank; ++axis) {
                const Index to = onnx_axis(from, axis), count = before[static_cast<std::size_t>(axis)];
                const int a = static_cast<int>(axis);
                pads[static_cast<std::size_t>(to)] = count;
                pads[static_cast<std::size_t>(rank + to)] = shape(step.output)[a] - shape(from)[a] - count;
            }
            node("Pad",
                 {x(step), integers(step.name + ".pads", pads),
                  number(step.name + ".value", step.attributes.number("value"))},
                 y);
        }
    }

    const ExportGraph& graph_;
    onnx::GraphProto& to_;
    Names names_; // by value
    UniqueNames unique_;
    std::map<std::pair<std::size_t, std::string>, std::string> constants_;
    std::map<std::size_t, Shape> flattened_; // maps flattened with their channels first, by the result
};

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
