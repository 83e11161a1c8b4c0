#include "exporting.hpp"

#include <espalier/io/c_export.hpp>
#ifdef ESPALIER_WITH_ONNX
#include <espalier/io/onnx_export.hpp>
#endif

namespace espalier::programs {

std::string export_network(models::Model<float>& net, const DataDescription& data, const Settings& settings) {
    const ExportGraph graph = export_graph(net, data.image);
    if (settings.format == "c") {
        const CExport c = write_c(graph, {.name = settings.export_name,
                                          .folder = settings.out,
                                          .normalize = data.normalize,
                                          .classes = data.class_names});
        return join_text(net.name(), " as C99 in ", c.header, " and ", c.source, ": ", c.weight_bytes,
                         " bytes of weights, ", c.workspace_bytes, " bytes of workspace");
    }
#ifdef ESPALIER_WITH_ONNX
    const std::string path = settings.out + "/" + settings.export_name + ".onnx";
    write_onnx(graph, path,
               {.name = settings.export_name,
                .batch_norm = settings.fold_batch_norm ? BatchNormExport::folded : BatchNormExport::kept,
                .normalize = data.normalize});
    return join_text(net.name(), " as ONNX in ", path);
#else
    throw StateError(
        "export: expected a program built with ONNX (Debian: libonnx-dev libprotobuf-dev), got one without");
#endif
}

} // namespace espalier::programs
