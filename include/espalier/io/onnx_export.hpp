#pragma once

#include <espalier/data/atomic_file.hpp>
#include <espalier/data/normalize.hpp>
#include <espalier/io/export_graph.hpp>
#include <espalier/io/fold_batch_norm.hpp>
#include <espalier/io/onnx_writer.hpp>

// Not part of espalier.hpp: needs ONNX and protobuf, which the CMake target espalier::onnx brings.

namespace espalier::inline ESPALIER_BACKEND {

/// Whether batch norm is a node of its own or part of the weights before it.
enum class BatchNormExport { kept, folded };

/// Options of `onnx_model`.
struct OnnxOptions {
    std::string name = "network";                       ///< of the graph, for people
    BatchNormExport batch_norm = BatchNormExport::kept; ///< a node of its own, or part of the weights before it
    ChannelStatistics normalize = {}; ///< given: kept as metadata `mean` and `deviation`, the image is not changed
};

/// The network as an ONNX model: opset 13, input `image` [batch,C,H,W], output `logits` [batch,...], any batch.
///
/// Layers keep their names. Constants are floats, channels first. Indexed joins are Pad, Gather and Add, all exact.
/// The model is for inference.
/// @throws ShapeError for statistics that don't fit the image, StateError for maps without elements
inline onnx::ModelProto onnx_model(ExportGraph graph, const OnnxOptions& options = {}) {
    options.normalize.check("onnx_model", graph.values[0].shape.back());
    for (const ExportStep& step : graph.steps)
        expect<StateError>(graph.result(step).shape.size() > 0,
                           "onnx_model: expected maps of at least one element, got ", graph.result(step).shape,
                           " from ", step.name);
    if (options.batch_norm == BatchNormExport::folded) fold_batch_norm(graph);
    onnx::ModelProto model;
    model.set_ir_version(7);
    model.set_producer_name("Espalier");
    model.set_producer_version(ESPALIER_VERSION);
    model.set_doc_string("image: [batch, channels, height, width], normalized as in training");
    model.add_opset_import()->set_version(13);
    const auto describe = [&](const char* key, const std::vector<double>& values) {
        if (values.empty()) return;
        onnx::StringStringEntryProto& entry = *model.add_metadata_props();
        entry.set_key(key);
        entry.set_value(to_text(values));
    };
    describe("mean", options.normalize.mean);
    describe("deviation", options.normalize.deviation);
    model.mutable_graph()->set_name(options.name);
    detail::OnnxWriter(graph, *model.mutable_graph());
    return model;
}

namespace detail {
template <class Message> void write_message(const Message& message, const std::string& path) {
    std::string bytes;
    expect<IoError>(message.SerializeToString(&bytes), "write_onnx: expected less than 2 GiB for ", path, ", got more");
    AtomicFile file(path);
    file.write(bytes);
    file.commit();
}
} // namespace detail

/// Writes `onnx_model(graph, options)`; `path` holds the old or the new model, whatever happens.
/// @throws what `onnx_model` throws, IoError if the file can't be written
inline void write_onnx(const ExportGraph& graph, const std::string& path, const OnnxOptions& options = {}) {
    detail::write_message(onnx_model(graph, options), path);
}

/// Writes `graph.sample` and `graph.expected` as `input_0.pb` and `output_0.pb`, as ONNX's test runners want them.
inline void write_onnx_sample(const ExportGraph& graph, const std::string& folder) {
    const auto write = [&](const char* name, const char* file, const Tensor<double>& values) {
        const bool map = values.rank() == 3;
        const Tensor<double> turned = map ? detail::channels_first(values) : values;
        onnx::TensorProto tensor;
        Shape batch{1};
        for (const Index extent : turned.shape()) batch.append(extent);
        detail::fill_tensor(tensor, name, batch, turned);
        detail::write_message(tensor, folder + "/" + file);
    };
    write("image", "input_0.pb", graph.sample);
    write("logits", "output_0.pb", graph.expected);
}

} // namespace espalier::inline ESPALIER_BACKEND
