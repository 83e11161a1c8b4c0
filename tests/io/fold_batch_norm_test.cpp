#include "io/steps.hpp"
#include "pruning/networks.hpp"

#include <espalier/io/export_graph.hpp>
#include <espalier/io/fold_batch_norm.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// What batch norm reads is read by another op as well, or is the result, or went through a relu.
struct Unfoldable : Module<float> {
    Conv2d<float> conv = child("conv", convolution<float>(3, 4));
    BatchNorm<float> a = child("a", BatchNorm<float>({.channels = 4})),
                     b = child("b", BatchNorm<float>({.channels = 4}));
    Var<float> forward(const Var<float>& x) const {
        const Var<float> y = conv.forward(x);
        return global_avg_pool(b.forward(relu(a.forward(y) + y)));
    }
};

} // namespace

TEST_CASE("fold_batch_norm: a convolution with and without a bias, the activation moves along") {
    Chain<double> model;
    shake(model);
    ExportGraph graph = export_graph(model, {4, 4, 3});
    const std::size_t output = graph.output;
    CHECK(fold_batch_norm(graph) == 2);
    CHECK(ops(graph) == std::vector<std::string>{"conv2d", "conv2d", "mean", "linear"});
    CHECK(graph.output == output);
    const ExportStep &a = graph.steps[0], &b = graph.steps[1];
    CHECK(a.activation == Activation::relu);
    CHECK(a.name == "a.conv");
    CHECK(b.inputs[0] == a.output);
    for (Index k = 0; k < 6; ++k) { // against the definition, in other words
        const double deviation = std::sqrt(model.b_bn.running_var.value().at(k) + model.b_bn.epsilon);
        const double gamma = model.b_bn.gamma.value().at(k);
        const double bias = gamma * (model.b.bias.value().at(k) - model.b_bn.running_mean.value().at(k)) / deviation +
                            model.b_bn.beta.value().at(k);
        CHECK(graph.input(b, 2).constant.at(k) == doctest::Approx(bias).epsilon(1e-12)); // a few roundings
        for (Index e = 0; e < 72; ++e)
            CHECK(graph.input(b, 1).constant.data()[k * 72 + e] ==
                  doctest::Approx(gamma * model.b.weight.value().data()[k * 72 + e] / deviation).epsilon(1e-12));
    }
    CHECK(model.b.weight.value().data()[0] != graph.input(b, 1).constant.data()[0]); // the model keeps its weights
}

TEST_CASE("fold_batch_norm: a module used twice shares what it is folded to") {
    Shared<float> model;
    shake(model);
    ExportGraph graph = export_graph(model, {4, 4, 3});
    CHECK(fold_batch_norm(graph) == 3);
    CHECK(graph.steps[1].inputs[1] == graph.steps[2].inputs[1]);
    CHECK(graph.steps[1].inputs[2] == graph.steps[2].inputs[2]);
    CHECK(graph.steps[0].inputs[1] != graph.steps[1].inputs[1]);
}

TEST_CASE("fold_batch_norm: where another op reads the convolution, or none comes before, batch norm stays") {
    Unfoldable model;
    shake(model);
    ExportGraph graph = export_graph(model, {4, 4, 3});
    CHECK(fold_batch_norm(graph) == 0);
    CHECK(ops(graph) == std::vector<std::string>{"conv2d", "batch_norm", "add", "relu", "batch_norm", "mean"});
    fuse_relu(graph);
    CHECK(ops(graph) == std::vector<std::string>{"conv2d", "batch_norm", "add", "batch_norm", "mean"});
    CHECK(graph.steps[2].activation == Activation::relu);
    Concats<float> concats;
    ExportGraph after_concat = export_graph(concats, {4, 4, 3});
    CHECK(fold_batch_norm(after_concat) == 3);
    CHECK(std::count_if(after_concat.steps.begin(), after_concat.steps.end(),
                        [](const ExportStep& step) { return step.op == "batch_norm"; }) == 1);
}
