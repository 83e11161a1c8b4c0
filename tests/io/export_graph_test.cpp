#include "io/odd_network.hpp"
#include "io/steps.hpp"

#include <espalier/io/export_graph.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/nn/dropout.hpp>
#include <espalier/ops/matmul.hpp>
#include <espalier/ops/pad.hpp>
#include <espalier/ops/slice.hpp>
#include <espalier/ops/softmax.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

const ExportStep& step_named(const ExportGraph& graph, const std::string& name) {
    for (const ExportStep& step : graph.steps)
        if (step.name == name) return step;
    throw StateError("no step " + name);
}

/// A module made of a function, with one parameter `weight` [3,4] and one buffer `offset` [4].
struct Custom : Module<float> {
    using Forward = std::function<Var<float>(const Custom&, const Var<float>&)>;
    explicit Custom(Forward f) : f_(std::move(f)) {}
    Var<float> forward(const Var<float>& x) const { return f_(*this, x); }
    Var<float> weight = add_parameter("weight", random_tensor<float>({3, 4})),
               offset = add_buffer("offset", random_tensor<float>({4}));

private:
    Forward f_;
};
std::string error_of(const Custom::Forward& f) {
    Custom model(f);
    try {
        export_graph(model, {2, 2, 3});
    } catch (const StateError& error) {
        return error.what();
    }
    return "none";
}

} // namespace

TEST_CASE("export_graph: steps in order, with names, attributes, shapes of one image and constants") {
    Chain<float> model;
    shake(model);
    const ExportGraph graph = export_graph(model, {6, 6, 3});
    CHECK(ops(graph) == std::vector<std::string>{"conv2d", "batch_norm", "conv2d", "batch_norm", "mean", "linear"});
    const ExportStep& conv = step_named(graph, "a.conv");
    CHECK(conv.attributes.index("padding") == 1);
    CHECK(graph.input(conv, 0).name == "image");
    CHECK(graph.input(conv, 0).shape == Shape{6, 6, 3});
    CHECK(graph.input(conv, 1).name == "a.conv.weight");
    CHECK(graph.input(conv, 1).constant.to_vector().size() == 8 * 9 * 3);
    CHECK(graph.input(conv, 1).constant.data()[7] == static_cast<double>(model.a.conv.weight.value().data()[7]));
    CHECK(graph.result(conv).shape == Shape{6, 6, 8});
    CHECK(step_named(graph, "b").inputs.size() == 3);
    const ExportStep& norm = step_named(graph, "a.bn");
    CHECK(norm.activation == Activation::relu);
    CHECK(norm.attributes.number("epsilon") == 1e-5);
    CHECK(step_named(graph, "mean").attributes.list("axis") == std::vector<Index>{0, 1});
    CHECK(graph.values[graph.output].shape == Shape{4});
    CHECK(graph.sample.shape() == Shape{6, 6, 3});

    Tensor<float> x({1, 6, 6, 3});
    for (Index i = 0; i < x.size(); ++i) x.mutable_data()[i] = static_cast<float>(graph.sample.data()[i]);
    model.eval();
    const Tensor<float> y = model.forward(Var<float>(x)).value();
    check_close(y.reshape({4}), graph.expected); // the batch of one may sum in another order
}

TEST_CASE("export_graph: the model keeps its mode, and float and double give the same graph") {
    Chain<float> model;
    Chain<double> wide;
    model.train();
    CHECK(ops(export_graph(model, {4, 4, 3})) == ops(export_graph(wide, {4, 4, 3})));
    CHECK(model.mode() == Mode::training);
}

TEST_CASE("export_graph: a module used twice has two steps and shares its constants") {
    Shared<float> model;
    const ExportGraph graph = export_graph(model, {4, 4, 3});
    const ExportStep &first = step_named(graph, "again.conv"), &second = step_named(graph, "again.conv_2");
    CHECK(first.inputs[1] == second.inputs[1]);
    CHECK(first.output != second.output);
}

TEST_CASE("export_graph: indexed joins and padded shortcuts carry their channels") {
    models::ResNet<float> model(20, {.channels = 1});
    shake(model);
    const auto plan = pruning::plan(model, {8, 8, 1}, {.keep_macs = 0.5, .joins = pruning::Joins::indexed});
    pruning::apply(plan, model);
    shake(model); // constants as well, also where a branch adds and they are unused
    const ExportGraph graph = export_graph(model, {8, 8, 1});
    int indexed = 0, placed = 0;
    for (const ExportStep& step : graph.steps) {
        if (step.op == "join" && step.inputs.size() == 3) {
            ++indexed;
            CHECK(static_cast<Index>(step.channels.size()) == graph.input(step, 1).shape.back());
            CHECK(graph.input(step, 2).shape == Shape{graph.input(step, 0).shape.back()});
            for (Index c = 0; c < graph.input(step, 2).shape[0]; ++c) {
                const bool added = std::count(step.channels.begin(), step.channels.end(), c) > 0;
                CHECK((graph.input(step, 2).constant.at(c) == 0) == added);
            }
        }
        placed += step.op == "place" && step.channels.size() == static_cast<std::size_t>(graph.input(step, 0).shape[2]);
    }
    CHECK(indexed > 0);
    CHECK(placed == 2);
}

TEST_CASE("export_graph: of an indexed join without a branch its constant stays") {
    Residual<float> model;
    shake(model);
    empty_branch(model.one);
    const ExportGraph graph = export_graph(model, {4, 4, 3});
    const ExportStep& left = step_named(graph, "one.join");
    CHECK(left.op == "add");
    CHECK(left.activation == Activation::relu);
    CHECK(graph.input(left, 1).name == "one.join.constant");
    for (const ExportStep& step : graph.steps) CHECK(step.name.find("one.b") == std::string::npos); // dead
}

TEST_CASE("export_graph: what depends on parameters alone is a constant, and dropout is nothing") {
    const Random random(3, "dropout");
    Custom model([&](const Custom& m, const Var<float>& x) {
        const Var<float> y = dropout(matmul(mean(x, {1, 2}), scale(abs(m.weight), 2)), 0.5, random);
        return add(y, m.offset);
    });
    const ExportGraph graph = export_graph(model, {2, 2, 3});
    CHECK(ops(graph) == std::vector<std::string>{"mean", "linear", "add"});
    const Tensor<double> w = graph.input(graph.steps[1], 1).constant;
    CHECK(w.shape() == Shape{4, 3}); // transposed
    for (Index k = 0; k < 4; ++k)
        for (Index c = 0; c < 3; ++c)
            CHECK(w.at(k, c) == 2 * std::abs(static_cast<double>(model.weight.value().at(c, k))));
    CHECK(graph.input(graph.steps[2], 1).shape == Shape{4});
}

TEST_CASE("export_graph: axes of ops don't count the batch") {
    Custom model([](const Custom& m, const Var<float>& x) {
        Var<float> y = concat({x, slice(x, 3, 1, 3)}, -1);
        y = pad(y, {0, 1, 0, 2}, {0, 0, 0, 0}, 0.5);
        y = mul(y, reshape(sum(m.weight), Shape{1, 1, 1, 1}));
        return softmax(sum(y, {1, 2}));
    });
    const ExportGraph graph = export_graph(model, {2, 2, 3});
    CHECK(ops(graph) == std::vector<std::string>{"slice", "concat", "pad", "mul", "sum", "softmax"});
    CHECK(graph.steps[0].attributes.index("axis") == 2);
    CHECK(graph.steps[1].attributes.index("axis") == 2);
    CHECK(graph.steps[2].attributes.list("before") == std::vector<Index>{1, 0, 2});
    CHECK(graph.input(graph.steps[3], 1).shape == Shape{1, 1, 1});
    CHECK(graph.steps[4].attributes.list("axis") == std::vector<Index>{0, 1});
}

TEST_CASE("export_graph: errors name the op and the module near it") {
    Undeclared<float> undeclared;
    CHECK_THROWS_WITH_AS(export_graph(undeclared, {4, 4, 3}),
                         "export_graph: expected an op that can be exported, got op mystery [2,4,4,6] after a.bn",
                         StateError);
    const auto head = [](const Var<float>& x) { return mean(x, {1, 2}); };
    const Var<float> loose(random_tensor<float>({3}));
    CHECK(
        error_of([&](const Custom&, const Var<float>& x) { return head(x * loose); }) ==
        "export_graph: expected operand 1 of op mul [2,2,2,3] after the image to be the image, a parameter or a buffer "
        "of the model, got a leaf [3] that is not registered");
    CHECK(error_of([&](const Custom& m, const Var<float>&) { return m.weight; }) ==
          "export_graph: expected logits that depend on the image, got others");
    CHECK(error_of([&](const Custom&, const Var<float>& x) {
              return concat({head(x), head(x)}, 0);
          }) == "export_graph: expected an op that treats images one by one, got op concat [4,3] after the image");
    CHECK(error_of([&](const Custom&, const Var<float>& x) {
              return mean(x, {0, 1});
          }).starts_with("export_graph: expected an op that treats images one by one, got op mean [2,3]"));
    CHECK(error_of([&](const Custom&, const Var<float>& x) {
              return softmax(sum(x, {1, 2, 3}));
          }).starts_with("export_graph: expected an op that treats images one by one, got op softmax [2]"));
    CHECK(error_of([&](const Custom&, const Var<float>& x) {
              return head(x) * mean(x, {0, 1, 2}, Keep::yes);
          }).starts_with("export_graph: expected an op that treats images one by one"));
    CHECK(error_of([&](const Custom&, const Var<float>& x) { return x * head(x); }) ==
          "export_graph: expected operands with all axes of the result, got [2,3] in op mul [2,2,2,3] after the image");
    CHECK(error_of([&](const Custom&, const Var<float>& x) {
              return matmul(head(x), reshape(x, {3, 8}));
          }).starts_with("export_graph: expected an op that treats images one by one"));
    CHECK(error_of([&](const Custom& m, const Var<float>& x) {
              return batch_norm(matmul(head(x), m.weight), m.offset, m.offset, m.offset, m.offset);
          }).starts_with("export_graph: expected batch norm in inference mode"));
    Chain<float> chain;
    CHECK_THROWS_WITH_AS(export_graph(chain, {4, 3}), "export_graph: expected an image [H,W,C], got [4,3]", ShapeError);
}

TEST_CASE("export_graph: an adaptive pool is slices, means and a concat along each axis that changes") {
    Custom model([](const Custom&, const Var<float>& x) { return adaptive_avg_pool2d(x, 2); });
    CHECK_THROWS_WITH_AS(export_graph(model, {2, 2, 3}),
                         "export_graph: expected logits that depend on the image, got others",
                         StateError); // nothing is left of it
    const ExportGraph graph = export_graph(model, {2, 3, 3});
    CHECK(ops(graph) == std::vector<std::string>{"slice", "mean", "slice", "mean", "concat"});
    CHECK(graph.steps[2].attributes.index("begin") == 1); // columns 0 and 1, then 1 and 2
    CHECK(graph.steps[3].attributes.index("divisor") == 2);
    CHECK(graph.values[graph.output].shape == Shape{2, 2, 3});
}
