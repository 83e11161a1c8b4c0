#pragma once

#include <espalier/data/atomic_file.hpp>
#include <espalier/data/normalize.hpp>
#include <espalier/io/c_writer.hpp>
#include <espalier/io/export_graph.hpp>

// Not part of espalier.hpp: few programs export.

namespace espalier::inline ESPALIER_BACKEND {

/// What exported C is called and what it carries beside the network.
struct CExportOptions {
    std::string name = "network";          ///< a C identifier: of the files, and what every public name starts with
    std::string folder = ".";              ///< where `<name>.h` and `<name>.c` go
    ChannelStatistics normalize = {};      ///< given: `<name>_prepare` turns bytes into what the network takes
    std::vector<std::string> classes = {}; ///< given: `<name>_classes`, a name for each output
};

/// What was written. Bytes are those of a program with 4-byte floats.
struct CExport {
    std::string header, source; ///< paths
    Index weight_bytes = 0;     ///< constants
    Index workspace_bytes = 0;  ///< what the caller provides to run
};

namespace detail {

// NAME_ and name_ stand for the network's name.
inline constexpr const char* c_header_start = R"(
 *
 * name_run takes one image, [NAME_HEIGHT][NAME_WIDTH][NAME_CHANNELS] floats, normalized as in training, and writes
 * NAME_OUTPUTS floats. The workspace holds nothing between calls, and calls with different workspaces may run at the
 * same time. There is no other state, no heap, no input and no output.
 */
#ifndef NAME_H
#define NAME_H

)";
inline constexpr const char* c_header_functions = R"(
#ifdef __cplusplus
extern "C" {
#endif

void name_run(const float *image, float *output, float *workspace);

/* Runs an image that is kept here; 0 if each output is within 1e-5 of the one it had in the framework, relative to the
 * largest of them. */
int name_self_test(float *workspace);
)";
inline constexpr const char* c_header_prepare = R"(
/* Bytes of an image to what the network takes: (byte / 255 - mean) / deviation of each channel. */
void name_prepare(const unsigned char *bytes, float *image);
)";
inline constexpr const char* c_header_end = R"(
#ifdef __cplusplus
}
#endif

#endif
)";
inline constexpr const char* c_self_test = R"(
int name_self_test(float *workspace) {
    float output[NAME_OUTPUTS], largest = 0;
    int i;
    name_run(sample, output, workspace);
    for (i = 0; i < NAME_OUTPUTS; ++i) {
        const float size = expected[i] < 0 ? -expected[i] : expected[i];
        largest = size > largest ? size : largest;
    }
    for (i = 0; i < NAME_OUTPUTS; ++i) {
        const float error = output[i] < expected[i] ? expected[i] - output[i] : output[i] - expected[i];
        if (!(error <= 1e-5f * largest)) return 1;
    }
    return 0;
}
)";
inline constexpr const char* c_prepare = R"(
void name_prepare(const unsigned char *bytes, float *image) {
    int i, c;
    for (i = 0; i < NAME_HEIGHT * NAME_WIDTH; ++i)
        for (c = 0; c < NAME_CHANNELS; ++c) *image++ = (float)((*bytes++ / 255.0 - mean[c]) / deviation[c]);
}
)";

/// The text with the network's name in place of name_ and NAME_.
inline std::string c_named(std::string text, const std::string& name) {
    std::string capitals;
    for (const char c : name) capitals += static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    for (const auto& [from, to] : {std::pair<std::string, std::string>{"name_", name + "_"}, {"NAME_", capitals + "_"}})
        for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
            text.replace(at, from.size(), to);
    return text;
}

inline std::string c_header(const ExportGraph& graph, const CWriter& writer, const CExportOptions& options) {
    const Shape& image = graph.values[0].shape;
    std::string text =
        join_text("/* A neural network, written by Espalier ", ESPALIER_VERSION, ".", c_header_start,
                  "#define NAME_HEIGHT ", image[0], "\n#define NAME_WIDTH ", image[1], "\n#define NAME_CHANNELS ",
                  image[2], "\n#define NAME_OUTPUTS ", graph.expected.size(), "\n#define NAME_WORKSPACE ",
                  std::max<Index>(1, writer.workspace()), " /* floats */\n", c_header_functions);
    if (!options.normalize.empty()) text += c_header_prepare;
    if (!options.classes.empty()) text += "\nextern const char *const name_classes[NAME_OUTPUTS];\n";
    return c_named(text + c_header_end, options.name);
}

inline std::string c_source(const ExportGraph& graph, const CWriter& writer, const CExportOptions& options) {
    const auto named = [&](const std::string& text) { return c_named(text, options.name); };
    std::string text = "#include \"" + options.name + ".h\"\n\n" + writer.definitions() +
                       named("void name_run(const float *image, float *output, float *workspace) {\n");
    if (writer.workspace() == 0) text += "    (void)workspace;\n";
    text += writer.statements() + "}\n\n";
    text += c_array("static const float", "sample", graph.sample) +
            c_array("static const float", "expected", graph.expected) + named(c_self_test);
    if (!options.normalize.empty()) {
        for (const auto& [what, values] :
             {std::pair("mean", options.normalize.mean), std::pair("deviation", options.normalize.deviation)}) {
            text += join_text("\nstatic const double ", what, "[", values.size(), "] = {");
            for (const double value : values) text += c_number(value) + ", ";
            text += "};";
        }
        text += "\n" + named(c_prepare);
    }
    if (!options.classes.empty()) {
        text += named("\nconst char *const name_classes[NAME_OUTPUTS] = {\n");
        for (const std::string& name : options.classes) text += "    " + c_quoted(name) + ",\n";
        text += "};\n";
    }
    return text;
}

} // namespace detail

/// Writes a network as one header and one source file of C99 that need nothing but a compiler and perhaps libm.
///
/// The code allocates nothing and has no state: weights are constants, exact as hexadecimal floats, and the caller
/// gives the workspace, in which maps share memory when no step needs both. Batch norm is folded into the weights
/// before it. An image is [H,W,C] floats. Compile it with -O3, or the loops over channels stay scalar. Outputs agree
/// with the framework's to 1e-5 of the largest; `<name>_self_test` checks that for `graph.sample` on the target itself.
/// Each file appears whole or not at all.
/// @throws StateError for a name that is no C identifier, class names that don't fit, weights that are not finite;
/// ShapeError for statistics that don't fit; IoError if a file can't be written
inline CExport write_c(ExportGraph graph, const CExportOptions& options = {}) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    const std::string& name = options.name;
    expect<StateError>(
        !name.empty() && letter(name[0]) &&
            std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); }),
        "write_c: expected a name that is a C identifier, got '", name, "'");
    const Index outputs = graph.values[graph.output].shape.size();
    const auto given = static_cast<Index>(options.classes.size());
    expect<StateError>(given == 0 || given == outputs, "write_c: expected ", outputs, " class names, got ", given);
    options.normalize.check("write_c", graph.values[0].shape.back());
    fold_batch_norm(graph);
    fuse_relu(graph);
    const detail::CWriter writer(graph);
    CExport result{options.folder + "/" + name + ".h", options.folder + "/" + name + ".c", 4 * writer.weight_count(),
                   4 * writer.workspace()};
    AtomicFile header(result.header), source(result.source);
    header.write(detail::c_header(graph, writer, options));
    source.write(detail::c_source(graph, writer, options));
    header.commit();
    source.commit();
    return result;
}

} // namespace espalier::inline ESPALIER_BACKEND
