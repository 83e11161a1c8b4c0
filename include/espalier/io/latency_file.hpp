#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/latency_table.hpp>

#include <string>

// Not part of espalier.hpp: few programs measure.

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// What this machine calls its processor, or its GPU; `unknown` where the system does not say.
/// @throws DeviceError for a GPU that is not there
std::string machine_name(Device device = Device::cpu);

/// Writes a latency table as CSV, a row a point, behind comments that say where it was measured. Atomic.
/// @throws IoError if it can't be written
void save_latency_table(const LatencyTable& table, const std::string& path);

/// Reads a table, wherever it was measured. @throws IoError naming the file and what is wrong
LatencyTable load_latency_table(const std::string& path);

/// Why a table does not tell how long things take here and now, with `threads()` threads: another machine, other
/// threads, another batch. Empty if it does.
std::string stale(const LatencyTable& table, Index batch, Device device = Device::cpu);

namespace detail {
bool is_file(const std::string& path);

/// Whether a table has times of every layer of a network.
template <class T> bool covers_all(const LatencyTable& table, const Network<T>& net, const Shape& image) {
    for (const TimedLayer<T>& layer : timed_layers(trace_image(net, image)))
        if (!covers(table, layer)) return false;
    return true;
}
} // namespace detail

/// The table of a file, if it was measured here, with as many threads and images a pass, and has all layers of the
/// model; else the model is swept, and the file is written anew. @throws IoError if the file is there and is no table
template <class M>
LatencyTable latency_table(M& model, const Shape& image, SweepOptions options, const std::string& path) {
    if (detail::is_file(path)) {
        LatencyTable table = load_latency_table(path);
        if (stale(table, options.batch, model.device()).empty() && detail::covers_all(table, network(model), image))
            return table;
    }
    if (options.machine.empty()) options.machine = machine_name(model.device());
    LatencyTable table = sweep_widths(model, image, options);
    save_latency_table(table, path);
    return table;
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/data/atomic_file.hpp>
#include <espalier/io/csv_text.hpp>

#include <fstream>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

namespace detail {

inline constexpr const char* latency_columns = "layer,in,out,milliseconds";

ESPALIER_BODY bool is_file(const std::string& path) { return std::ifstream(path).good(); }

} // namespace detail

ESPALIER_BODY std::string machine_name(Device device) {
    synchronise(device);
#if ESPALIER_CUDA
    if (device == Device::cuda) {
        int gpu = 0;
        cudaDeviceProp properties{};
        espalier::detail::check_cuda("machine_name", cudaGetDevice(&gpu));
        espalier::detail::check_cuda("machine_name", cudaGetDeviceProperties(&properties, gpu));
        return properties.name;
    }
#endif
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("model name"))
            if (const std::size_t colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
    return "unknown";
}

ESPALIER_BODY std::string stale(const LatencyTable& table, Index batch, Device device) {
    if (table.machine != machine_name(device))
        return join_text("measured on '", table.machine, "', not on '", machine_name(device), "'");
    if (table.threads != threads()) return join_text("measured with ", table.threads, " threads, not with ", threads());
    if (table.batch != batch) return join_text("measured at batch ", table.batch, ", not at ", batch);
    return {};
}

ESPALIER_BODY void save_latency_table(const LatencyTable& table, const std::string& path) {
    std::string text =
        join_text("# format: espalier latency table 1\n# machine: ", table.machine, "\n# threads: ", table.threads,
                  "\n# batch: ", table.batch, "\n# rest: ", espalier::detail::exact(table.rest), "\n",
                  detail::latency_columns, "\n");
    for (const LayerTimes& layer : table.layers)
        for (std::size_t i = 0; i < layer.in.size(); ++i)
            for (std::size_t o = 0; o < layer.out.size(); ++o)
                text += join_text(layer.layer, ",", layer.in[i], ",", layer.out[o], ",",
                                  espalier::detail::exact(layer.milliseconds[i * layer.out.size() + o]), "\n");
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

ESPALIER_BODY LatencyTable load_latency_table(const std::string& path) {
    constexpr const char* who = "load_latency_table";
    const auto csv = espalier::detail::read_csv(who, path, detail::latency_columns);
    expect<IoError>(csv.comment(who, path, "format") == "espalier latency table 1" && csv.whole, who,
                    ": expected a whole file of format espalier latency table 1 in ", path, ", got ",
                    csv.whole ? csv.comment(who, path, "format") : "one that breaks off");
    const auto counted = [&](const std::string& cell) { return espalier::detail::count(who, path, cell); };
    LatencyTable table{.machine = csv.comment(who, path, "machine"),
                       .threads = static_cast<int>(counted(csv.comment(who, path, "threads"))),
                       .batch = counted(csv.comment(who, path, "batch")),
                       .rest = espalier::detail::number(who, path, csv.comment(who, path, "rest"))};
    for (std::size_t r = 1; r < csv.rows.size(); ++r) {
        const auto& row = csv.rows[r];
        if (table.layers.empty() || table.layers.back().layer != row[0]) {
            expect<IoError>(!table.find(row[0]), who, ": expected the rows of '", row[0], "' together in ", path,
                            ", got them apart");
            table.layers.push_back({row[0], {}, {}, {}});
        }
        LayerTimes& layer = table.layers.back();
        const Index in = counted(row[1]), out = counted(row[2]);
        if (layer.in.empty() || layer.in.back() != in) layer.in.push_back(in);
        if (layer.in.size() == 1) layer.out.push_back(out);
        layer.milliseconds.push_back(espalier::detail::number(who, path, row[3]));
        const std::size_t at = layer.milliseconds.size() - 1; // rows come in the order of the grid, widths ascending
        const bool in_order = at / layer.out.size() == layer.in.size() - 1 && layer.out[at % layer.out.size()] == out &&
                              (layer.in.size() < 2 || layer.in[layer.in.size() - 2] < in) &&
                              (layer.in.size() > 1 || at == 0 || layer.out[at - 1] < out);
        expect<IoError>(in_order, who, ": expected a grid of ascending widths for '", row[0], "' in ", path,
                        ", got in ", in, " and out ", out);
    }
    for (const LayerTimes& layer : table.layers)
        expect<IoError>(layer.milliseconds.size() == layer.in.size() * layer.out.size(), who,
                        ": expected a whole grid for '", layer.layer, "' in ", path, ", got ",
                        layer.milliseconds.size(), " points");
    return table;
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND
#endif
