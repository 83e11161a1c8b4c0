#pragma once

#include <espalier/io/buffer_plan.hpp>
#include <espalier/io/c_kernels.hpp>
#include <espalier/io/c_text.hpp>
#include <espalier/io/fold_batch_norm.hpp>
#include <espalier/tensor/swap_axes.hpp>

#include <cmath>
#include <map>
#include <set>
#include <utility>

// Not part of espalier.hpp: few programs export.

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// The C of a graph's steps and constants.
class CWriter {
public:
    explicit CWriter(const ExportGraph& graph) : graph_(graph), plan_(plan_buffers(graph)) {
        for (const ExportStep& step : graph_.steps) write_step(step);
    }

    Index weight_count() const { return weight_count_; }
    Index workspace() const { return plan_.size; }

    /// Functions and constants that the steps use.
    std::string definitions() const {
        std::string text = uses_math_ ? "#include <math.h>\n\n" : "";
        for (const CKernel& kernel : c_kernels())
            if (kernels_.contains(kernel.name)) text += kernel.text + "\n";
        return text + arrays_;
    }
    /// The steps: statements that read `image`, write `output` and use `workspace`.
    const std::string& statements() const { return body_; }

private:
    // Where things are.

    void need(const std::string& kernel) {
        kernels_.insert(kernel);
        for (const CKernel& known : c_kernels())
            if (known.name == kernel)
                for (const std::string& other : known.needs) need(other);
    }
    std::string place(std::size_t value) const {
        const std::size_t root = plan_.root[value];
        if (root == plan_.root[graph_.output]) return "output";
        return root == 0 ? "image" : join_text("v", root);
    }
    std::string x(const ExportStep& step, std::size_t i = 0) const { return place(step.inputs[i]); }
    const Shape& shape(const ExportStep& step, std::size_t i = 0) const { return graph_.input(step, i).shape; }

    /// The array of a constant's elements in an order: `from[i]` is the element that stands at place i.
    std::string constant(std::size_t value, const std::string& layout, const Tensor<double>& elements) {
        const auto [it, fresh] = arrays_of_.emplace(std::pair(value, layout), join_text("w", arrays_of_.size()));
        if (fresh) {
            for (const double element : elements)
                expect<StateError>(std::isfinite(static_cast<float>(element)), "write_c: expected finite weights, got ",
                                   element, " in ", graph_.values[value].name);
            arrays_ += join_text("/* ", c_comment(graph_.values[value].name), ", ", layout, " */\n",
                                 c_array("static const float", it->second, elements), "\n");
            weight_count_ += elements.size();
        }
        return it->second;
    }
    std::string plain(std::size_t value) {
        return constant(value, to_text(graph_.values[value].shape), graph_.values[value].constant);
    }
    std::string bias(const ExportStep& step) { return step.inputs.size() > 2 ? plain(step.inputs[2]) : "0"; }
    std::string channel_list(const ExportStep& step) {
        const std::string name = join_text("channels", lists_++);
        std::string text = join_text("static const int ", name, "[", step.channels.size(), "] = {");
        for (const Index channel : step.channels) text += join_text(" ", channel, ",");
        arrays_ += text + " };\n\n";
        return name;
    }
    /// An operand of an elementwise step: an activation, or a constant's array.
    std::string operand(const ExportStep& step, std::size_t i) {
        return graph_.input(step, i).constant.defined() ? plain(step.inputs[i]) : x(step, i);
    }

    // Statements.

    void line(const std::string& text) { body_ += "    " + text + "\n"; }
    /// The statement, for all i0, i1, ... within the extents.
    void each(const Shape& extents, const std::string& statement) { body_ += c_loops(extents, statement); }
    std::string activated(const ExportStep& step, const std::string& expression) {
        if (step.activation == Activation::none) return expression;
        need("relu");
        return "relu(" + expression + ")";
    }

    // Steps.

    void write_step(const ExportStep& step) {
        const ExportValue& result = graph_.result(step);
        expect<StateError>(result.shape.size() > 0, "write_c: expected maps of at least one element, got ",
                           result.shape, " from ", step.name);
        body_ += join_text(body_.empty() ? "" : "\n", "    /* ", c_comment(step.name), ": ", step.op, " ", shape(step),
                           " to ", result.shape, " */\n");
        const std::string y = place(step.output);
        if (plan_.root[step.output] == step.output && y != "output")
            line(join_text("float *const ", y, " = workspace + ", plan_.offset[step.output], ";"));
        if (step.op == "reshape") {
            expect<StateError>(plan_.root[graph_.output] != 0, "write_c: expected a network that computes, got one "
                                                               "that returns its image");
        } else if (step.op == "conv2d" || step.op == "linear") {
            write_product(step, y);
        } else if (step.op == "join" || step.op == "place") {
            write_indexed(step, y);
        } else if (step.op == "add" || step.op == "sub" || step.op == "mul") {
            write_binary(step, y);
        } else if (step.op.ends_with("pool2d") || step.op == "global_max_pool") {
            const std::string kernel = step.op == "avg_pool2d" ? "avg_pool2d" : "max_pool2d";
            need(kernel);
            need("window");
            const Shape map = step.op == "global_max_pool" ? Shape{1, 1, result.shape[0]} : result.shape;
            const Shape taps{step.attributes.index("rows"), step.attributes.index("columns")};
            line(join_text(kernel, "(", window(step, map, taps, 1, 1), ", ", x(step), ", ", y, ");"));
        } else if (step.op == "softmax") {
            need("softmax");
            uses_math_ = true;
            const Index columns = result.shape.back();
            line(join_text("softmax(", x(step), ", ", result.shape.size() / columns, ", ", columns, ", ", y, ");"));
        } else if (step.op == "sum" || step.op == "mean") {
            write_reduction(step, y);
        } else if (step.op == "concat" || step.op == "slice" || step.op == "pad") {
            write_copy(step, y);
        } else {
            write_elementwise(step, y);
        }
    }

    std::string window(const ExportStep& step, const Shape& map, const Shape& taps, Index dilation, Index groups) {
        const Shape& from = shape(step);
        return join_text("&(const struct window){", from[0], ", ", from[1], ", ", from[2], ", ", map[0], ", ", map[1],
                         ", ", map[2], ", ", taps[0], ", ", taps[1], ", ", step.attributes.index("stride"), ", ",
                         step.attributes.index("padding"), ", ", dilation, ", ", groups, "}");
    }
    void write_product(const ExportStep& step, const std::string& y) {
        const Tensor<double> w = graph_.input(step, 1).constant;
        const int with_relu = step.activation == Activation::relu;
        const Index groups = step.op == "conv2d" ? step.attributes.index("groups") : 1;
        const Index K = w.size(0), inner = w.size(-1);
        const bool depthwise = groups > 1 && groups == K && inner == 1;
        const Index blocks = depthwise ? 1 : groups; // within which filters go from first to last
        const std::string weights = constant(
            step.inputs[1], join_text(w.shape(), " in ", groups, groups == 1 ? " group" : " groups", ", filters last"),
            swap_axes(w.reshape({blocks, K / blocks, w.shape().product(1, w.rank())})));
        if (step.op == "linear") {
            need("linear");
            return line(join_text("linear(", x(step), ", ", weights, ", ", bias(step), ", ", inner, ", ", K, ", ",
                                  with_relu, ", ", y, ");"));
        }
        const std::string kernel = depthwise ? "conv2d_depthwise" : "conv2d";
        need(kernel);
        line(join_text(
            kernel, "(",
            window(step, graph_.result(step).shape, {w.size(1), w.size(2)}, step.attributes.index("dilation"), groups),
            ", ", x(step), ", ", weights, ", ", bias(step), ", ", with_relu, ", ", y, ");"));
    }

    void write_indexed(const ExportStep& step, const std::string& y) {
        const Shape& to = graph_.result(step).shape;
        const Shape pixels{to.size() / to.back(), to.back()};
        if (step.op == "join" && step.channels.empty())
            return each({to.size()},
                        join_text(y, "[i0] = ", activated(step, join_text(x(step), "[i0] + ", x(step, 1), "[i0]"))));
        const std::string kept = channel_list(step);
        const Index J = static_cast<Index>(step.channels.size()), K = to.back();
        if (step.op == "place") {
            each({to.size()}, y + "[i0] = 0");
            const Shape& from = shape(step);
            const Index stride = step.attributes.index("stride");
            return each({to[0], to[1], J},
                        join_text(y, "[(i0 * ", to[1], " + i1) * ", K, " + ", kept, "[i2]] = ", x(step), "[(i0 * ",
                                  stride * from[1], " + i1 * ", stride, ") * ", from[2], " + i2]"));
        }
        const std::string all = c_at(y, pixels, {K, 1}),
                          shift = constant(step.inputs[2], "of absent channels", graph_.input(step, 2).constant);
        each(pixels, join_text(all, " = ", c_at(x(step), pixels, {K, 1}), " + ", c_at(shift, pixels, {0, 1})));
        each({pixels[0], J}, join_text(y, "[i0 * ", K, " + ", kept, "[i1]] += ", x(step, 1), "[i0 * ", J, " + i1]"));
        if (step.activation != Activation::none) each({to.size()}, y + "[i0] = " + activated(step, y + "[i0]"));
    }

    void write_binary(const ExportStep& step, const std::string& y) {
        const Shape& to = graph_.result(step).shape;
        const auto broadcast = [&](std::size_t i) {
            const Shape& from = shape(step, i);
            CStrides strides(static_cast<std::size_t>(to.rank()), 0);
            const CStrides own = c_strides(from);
            for (int axis = 1; axis <= from.rank(); ++axis)
                if (from[-axis] > 1)
                    strides[strides.size() - static_cast<std::size_t>(axis)] =
                        own[own.size() - static_cast<std::size_t>(axis)];
            return c_at(operand(step, i), to, strides);
        };
        const char* const sign = step.op == "add" ? " + " : step.op == "sub" ? " - " : " * ";
        each(to, join_text(c_at(y, to, c_strides(to)), " = ", activated(step, broadcast(0) + sign + broadcast(1))));
    }

    void write_reduction(const ExportStep& step, const std::string& y) {
        const Shape& from = shape(step);
        const Index count = graph_.result(step).shape.size(), divisor = step.attributes.index("divisor");
        const std::vector<Index> axes = step.attributes.list("axis");
        CStrides strides(static_cast<std::size_t>(from.rank()), 0);
        Index stride = 1;
        for (int axis = from.rank(); axis-- > 0;)
            if (std::find(axes.begin(), axes.end(), axis) == axes.end())
                strides[static_cast<std::size_t>(axis)] = std::exchange(stride, stride * from[axis]);
        each({count}, y + "[i0] = 0");
        each(from, join_text(c_at(y, from, strides), " += ", c_at(x(step), from, c_strides(from))));
        if (divisor != 1) each({count}, join_text(y, "[i0] /= ", divisor));
    }

    void write_copy(const ExportStep& step, const std::string& y) {
        const Shape& to = graph_.result(step).shape;
        if (step.op == "slice") {
            const Shape& from = shape(step);
            const auto axis = static_cast<std::size_t>(step.attributes.index("axis"));
            CStrides strides = c_strides(from);
            const Index offset = strides[axis] * step.attributes.index("begin");
            strides[axis] *= step.attributes.index("step");
            return each(to, join_text(c_at(y, to, c_strides(to)), " = ", c_at(x(step), to, strides, offset)));
        }
        const CStrides strides = c_strides(to);
        if (step.op == "pad") {
            const std::vector<Index> before = step.attributes.list("before");
            Index offset = 0;
            for (std::size_t axis = 0; axis < before.size(); ++axis) offset += before[axis] * strides[axis];
            each({to.size()}, join_text(y, "[i0] = ", c_float(step.attributes.number("value"))));
            const Shape& from = shape(step);
            return each(from, join_text(c_at(y, from, strides, offset), " = ", c_at(x(step), from, c_strides(from))));
        }
        const auto axis = static_cast<std::size_t>(step.attributes.index("axis"));
        Index offset = 0;
        for (std::size_t i = 0; i < step.inputs.size(); ++i) {
            const Shape& from = shape(step, i);
            each(from, join_text(c_at(y, from, strides, offset), " = ", c_at(x(step, i), from, c_strides(from))));
            offset += strides[axis] * from[static_cast<int>(axis)];
        }
    }

    void write_elementwise(const ExportStep& step, const std::string& y) {
        const Shape& to = graph_.result(step).shape;
        if (step.op == "batch_norm") {
            const ChannelAffine affine = channel_affine(graph_, step);
            const Shape pixels{to.size() / to.back(), to.back()};
            const CStrides rows{to.back(), 1}, channel{0, 1};
            const std::string a = constant(step.inputs[1], "factors for " + graph_.input(step, 4).name, affine.factor),
                              b = constant(step.inputs[2], "shifts for " + graph_.input(step, 4).name, affine.shift);
            return each(pixels, join_text(c_at(y, pixels, rows), " = ",
                                          activated(step, join_text(c_at(a, pixels, channel), " * ",
                                                                    c_at(x(step), pixels, rows), " + ",
                                                                    c_at(b, pixels, channel)))));
        }
        const std::string v = c_at(x(step), {to.size()}, {1});
        std::string value;
        if (step.op == "relu" || step.op == "relu6") {
            need(step.op);
            value = step.op + "(" + v + ")";
        } else if (step.op == "scale") {
            value = v + " * " + c_float(step.attributes.number("factor"));
        } else {
            uses_math_ = true;
            value = step.op == "sigmoid" ? "1 / (1 + expf(-" + v + "))"
                                         : (step.op == "abs" ? "fabs" : step.op) + "f(" + v + ")";
        }
        each({to.size()}, join_text(c_at(y, {to.size()}, {1}), " = ", activated(step, value)));
    }

    const ExportGraph& graph_;
    const BufferPlan plan_;
    std::string arrays_, body_;
    std::set<std::string> kernels_;
    std::map<std::pair<std::size_t, std::string>, std::string> arrays_of_;
    int lists_ = 0;
    Index weight_count_ = 0;
    bool uses_math_ = false;
};

} // namespace detail

} // namespace espalier::inline ESPALIER_BACKEND
