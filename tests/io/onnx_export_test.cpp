#include "data/temporary.hpp"
#include "io/odd_network.hpp"

#include <espalier/io/onnx_export.hpp>
#include <espalier/models/lenet.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/models/vgg.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>

#include <onnx/checker.h>

#include <cstdlib>
#include <fstream>

using namespace espalier;
using namespace espalier::test;

namespace {

/// ONNX's own checker takes the model. Where the environment names a folder, model and sample go to a folder in it:
/// tools/check_onnx.py runs them in ONNX Runtime.
template <class M>
onnx::ModelProto check_onnx(const std::string& name, M& model, const Shape& image,
                            BatchNormExport batch_norm = BatchNormExport::kept) {
    const ExportGraph graph = export_graph(model, image);
    const OnnxOptions options{.name = name, .batch_norm = batch_norm};
    const onnx::ModelProto made = onnx_model(graph, options);
    CHECK_NOTHROW(onnx::checker::check_model(made));
    if (const char* const folder = std::getenv("ESPALIER_ONNX_FOLDER")) {
        const std::string here = std::string(folder) + "/" + name;
        std::filesystem::create_directories(here);
        write_onnx(graph, here + "/model.onnx", options);
        write_onnx_sample(graph, here);
    }
    return made;
}
std::map<std::string, int> count_ops(const onnx::ModelProto& model) {
    std::map<std::string, int> count;
    for (const auto& node : model.graph().node()) ++count[node.op_type()];
    return count;
}
const onnx::TensorProto& initializer(const onnx::ModelProto& model, const std::string& name) {
    for (const auto& tensor : model.graph().initializer())
        if (tensor.name() == name) return tensor;
    throw StateError("no initializer " + name);
}
float element(const onnx::TensorProto& tensor, Index i) {
    float value = 0;
    std::memcpy(&value, tensor.raw_data().data() + 4 * i, 4);
    return value;
}

} // namespace

TEST_CASE("onnx_model: names, shapes, a batch of any size, weights with channels first") {
    Chain<float> model;
    shake(model);
    const onnx::ModelProto made = check_onnx("chain", model, {4, 5, 3});
    CHECK(made.producer_name() == "Espalier");
    CHECK(made.opset_import(0).version() == 13);
    const auto& input = made.graph().input(0);
    CHECK(input.name() == "image");
    const auto& dims = input.type().tensor_type().shape();
    CHECK(dims.dim(0).dim_param() == "batch");
    CHECK(dims.dim(1).dim_value() == 3);
    CHECK(dims.dim(2).dim_value() == 4);
    CHECK(dims.dim(3).dim_value() == 5);
    CHECK(made.graph().output(0).name() == "logits");
    CHECK(made.graph().node(0).name() == "a.conv");
    const onnx::TensorProto& w = initializer(made, "b.weight"); // [6,8,3,3] of [6,3,3,8]
    CHECK(w.dims(1) == 8);
    CHECK(element(w, ((2 * 8 + 5) * 3 + 1) * 3 + 2) == model.b.weight.value().at(2, 1, 2, 5));
    CHECK(count_ops(made)["BatchNormalization"] == 2);
    CHECK(count_ops(check_onnx("chain_folded", model, {4, 5, 3}, BatchNormExport::folded))["BatchNormalization"] == 0);
}

TEST_CASE("onnx_model: LeNet-5 flattens without a transposition") {
    models::LeNet<float> smooth({.channels = 1, .seed = 1}),
        kinked({.channels = 1, .seed = 2, .size = 32, .nonlinearity = models::Nonlinearity::relu});
    const auto ops = count_ops(check_onnx("lenet5", smooth, {28, 28, 1}));
    CHECK_FALSE(ops.contains("Transpose"));
    CHECK(ops.at("Flatten") == 1);
    check_onnx("lenet5_relu", kinked, {32, 32, 1});
}

TEST_CASE("onnx_model: VGG-11") {
    models::Vgg<float> model(11, {.seed = 1});
    check_onnx("vgg11", model, {32, 32, 3});
}

TEST_CASE("onnx_model: ResNet-20, dense and pruned with indexed joins to odd widths") {
    models::ResNet<float> model(20, {.channels = 1, .seed = 1});
    shake(model);
    const auto dense = count_ops(check_onnx("resnet20", model, {28, 28, 1}));
    CHECK(dense.at("Pad") == 2);           // the padded shortcuts
    CHECK_FALSE(dense.contains("Gather")); // whose channels are a run
    const auto plan = pruning::plan(model, {28, 28, 1}, {.keep_macs = 0.4, .joins = pruning::Joins::indexed});
    pruning::apply(plan, model);
    CHECK(count_ops(check_onnx("resnet20_pruned", model, {28, 28, 1})).at("Gather") > 0);
    CHECK(count_ops(check_onnx("resnet20_pruned_folded", model, {28, 28, 1}, BatchNormExport::folded))
              .count("BatchNormalization") == 0);
    models::ResNet<float> projected(20, {.seed = 1, .shortcut = models::Shortcut::projection});
    shake(projected);
    check_onnx("resnet20_projection", projected, {32, 32, 3});
}

TEST_CASE("onnx_model: every way to couple channels, and ops that no model of the library uses") {
    const auto check = [](const char* name, auto model, const Shape& image) {
        shake(model);
        check_onnx(name, model, image);
    };
    check("concats", Concats<float>(), {4, 4, 3});
    check("depthwise", Depthwise<float>(), {4, 4, 3});
    check("grouped", Grouped<float>(), {4, 4, 3});
    check("flattened", Flattened<float>(), {4, 4, 3});
    check("excited", Excited<float>(), {4, 4, 3});
    check("one_filter", OneFilter<float>(), {4, 4, 3});
    check("shared", Shared<float>(), {4, 4, 3});
    check("odd", Odd<float>(), {10, 12, 3});
    Residual<float> emptied;
    shake(emptied);
    empty_branch(emptied.one);
    check_onnx("emptied", emptied, {4, 4, 3});
}

TEST_CASE("write_onnx: the file is the model, with its statistics, and the sample lies beside it") {
    const TemporaryFolder folder;
    const std::string at = folder.path().string();
    Chain<float> model;
    const ExportGraph graph = export_graph(model, {4, 4, 3});
    write_onnx(graph, at + "/net.onnx", {.name = "net", .normalize = {.mean = {0, 0.5, 1}, .deviation = {1, 2, 3}}});
    onnx::ModelProto read;
    std::ifstream in(at + "/net.onnx", std::ios::binary);
    REQUIRE(read.ParseFromIstream(&in));
    CHECK(read.graph().name() == "net");
    CHECK(read.metadata_props(0).key() == "mean");
    CHECK(read.metadata_props(0).value() == "[0,0.5,1]");
    CHECK(read.metadata_props(1).value() == "[1,2,3]");
    write_onnx_sample(graph, at);
    onnx::TensorProto sample;
    std::ifstream from(at + "/input_0.pb", std::ios::binary);
    REQUIRE(sample.ParseFromIstream(&from));
    CHECK(sample.dims_size() == 4);
    CHECK(element(sample, (2 * 4 + 1) * 4 + 3) == static_cast<float>(graph.sample.at(1, 3, 2))); // channels first
    CHECK(std::filesystem::file_size(at + "/output_0.pb") > 16);
}

TEST_CASE("write_onnx: errors come before any file") {
    const TemporaryFolder folder;
    const std::string at = folder.path().string();
    Chain<float> model;
    const ExportGraph graph = export_graph(model, {4, 4, 3});
    CHECK_THROWS_WITH_AS(write_onnx(graph, at + "/n.onnx", {.normalize = {.mean = {0}, .deviation = {1}}}),
                         "onnx_model: expected statistics of 3 channels, got 1 means and 1 deviations", ShapeError);
    OneFilter<float> empty;
    empty_map(empty);
    CHECK_THROWS_WITH_AS(write_onnx(export_graph(empty, {4, 4, 3}), at + "/n.onnx"),
                         "onnx_model: expected maps of at least one element, got [4,4,0] from a.conv", StateError);
    CHECK(std::filesystem::is_empty(folder.path()));
    CHECK_THROWS_AS(write_onnx(graph, at + "/nowhere/n.onnx"), IoError);
}
