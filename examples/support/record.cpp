#include "record.hpp"

#include <espalier/core/parallel.hpp>
#include <espalier/core/table.hpp>
#include <espalier/cpu/bf16_tile.hpp>
#include <espalier/data/atomic_file.hpp>
#include <espalier/report/svg_plot.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <fstream>

namespace espalier::programs {
namespace {

std::string number(double value, const char* format) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

void write(const std::string& path, const std::string& text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

using Json = nlohmann::ordered_json;

Stage read_stage(const Json& json) {
    Stage stage{.accuracy = json.at("accuracy").get<double>(),
                .cost = {.parameters = json.at("parameters").get<Index>(),
                         .macs = json.at("macs").get<Index>(),
                         .filters = json.at("filters").get<Index>()},
                .bytes = json.at("bytes").get<std::uintmax_t>(),
                .latencies = {}};
    for (const auto& [batch, median] : json.at("latency_ms").items()) {
        const Json& spread = json.at("latency_ms_spread").at(batch);
        stage.latencies[std::stoll(batch)] = {.median = median.get<double>(),
                                              .lowest = spread.at(0).get<double>(),
                                              .highest = spread.at(1).get<double>()};
    }
    return stage;
}
Certificate read_certificate(const Json& json) {
    Certificate certificate;
    certificate.images = json.at("images").get<Index>();
    certificate.reference_path_bit_equal = json.at("reference_path_bit_equal").get<bool>();
    certificate.reference_path_max_error = json.at("reference_path_max_relative_error").get<double>();
    certificate.fast_path_max_relative_error = json.at("fast_path_max_relative_error").get<double>();
    certificate.predicted_macs = json.at("predicted_macs").get<Index>();
    certificate.counted_macs = json.at("counted_macs").get<Index>();
    certificate.predicted_parameters = json.at("predicted_parameters").get<Index>();
    certificate.counted_parameters = json.at("counted_parameters").get<Index>();
    certificate.note = json.at("note").get<std::string>();
    return certificate;
}

using Rows = std::vector<std::vector<std::string>>;

Rows stage_rows(const Record& record) {
    Rows rows{{"network", "accuracy", "parameters", "MACs", "filters", "bytes", "ms, batch 1", "ms, batch 128"}};
    for (const auto& [name, stage] : record.stages) {
        auto& row = rows.emplace_back(std::vector<std::string>{name, number(100 * stage.accuracy, "%.2f %%"),
                                                               to_text(stage.cost.parameters), to_text(stage.cost.macs),
                                                               to_text(stage.cost.filters), to_text(stage.bytes)});
        for (const Index batch : {1, 128}) {
            const auto it = stage.latencies.find(batch);
            row.push_back(it == stage.latencies.end()
                              ? "-"
                              : number(it->second.median, "%.2f") + " (" + number(it->second.lowest, "%.2f") + " to " +
                                    number(it->second.highest, "%.2f") + ")");
        }
    }
    return rows;
}

std::string html(const Rows& rows) {
    std::string out = "<table>\n";
    for (std::size_t r = 0; r < rows.size(); ++r) {
        const std::string cell = r == 0 ? "th" : "td";
        out += "<tr>";
        for (const std::string& text : rows[r])
            out += "<" + cell + ">" + report::detail::escape_xml(text) + "</" + cell + ">";
        out += "</tr>\n";
    }
    return out + "</table>\n";
}

} // namespace

std::string Record::table() const {
    const Rows rows = stage_rows(*this);
    Table table(rows[0]);
    for (std::size_t r = 1; r < rows.size(); ++r) table.row(rows[r]);
    return table.text();
}

void Record::continue_from(const std::string& path, const std::string& first) {
    std::ifstream file(path);
    if (!file) return;
    try {
        const Json json = Json::parse(file);
        if (json.at("experiment") != experiment || json.at("model") != settings.model) return;
        std::vector<std::pair<std::string, Stage>> earlier;
        for (const char* name : {"dense", "pruned", "finetuned"}) {
            if (name == first) break;
            if (json.contains(name)) earlier.emplace_back(name, read_stage(json.at(name)));
        }
        if (!certificate && first == "finetuned" && json.contains("certificate"))
            certificate = read_certificate(json.at("certificate"));
        earlier_settings = json.at("settings").dump();
        stages.insert(stages.begin(), earlier.begin(), earlier.end());
    } catch (const std::exception& error) { // of JSON, or a batch size that is no number
        throw IoError(join_text("record: expected the record of a run in ", path, ", got ", error.what()));
    }
}

void Record::save(const std::string& path) const {
    Json json;
    for (const auto& [name, stage] : stages) {
        Json& s = json[name];
        s = {{"accuracy", stage.accuracy},
             {"parameters", stage.cost.parameters},
             {"macs", stage.cost.macs},
             {"filters", stage.cost.filters},
             {"bytes", stage.bytes},
             {"latency_ms", Json::object()},
             {"latency_ms_spread", Json::object()}};
        for (const auto& [batch, latency] : stage.latencies) {
            s["latency_ms"][to_text(batch)] = latency.median;
            s["latency_ms_spread"][to_text(batch)] = {latency.lowest, latency.highest};
        }
    }
    if (certificate)
        json["certificate"] = {{"images", certificate->images},
                               {"note", certificate->note},
                               {"reference_path_bit_equal", certificate->reference_path_bit_equal},
                               {"reference_path_max_relative_error", certificate->reference_path_max_error},
                               {"fast_path_max_relative_error", certificate->fast_path_max_relative_error},
                               {"predicted_macs", certificate->predicted_macs},
                               {"counted_macs", certificate->counted_macs},
                               {"predicted_parameters", certificate->predicted_parameters},
                               {"counted_parameters", certificate->counted_parameters},
                               {"holds", certificate->holds()}};
    json["experiment"] = experiment;
    json["model"] = settings.model;
    json["seed"] = settings.seed;
    json["version"] = ESPALIER_VERSION;
    json["compiler"] = ESPALIER_COMPILER;
    json["flags"] = ESPALIER_FLAGS;
    json["matrix_unit"] = kernels::has_bf16_tiles();
    json["threads"] = threads();
    json["seconds"] = seconds;
    json["settings"] = Json::parse(earlier_settings);
    for (const auto& [flag, value] : settings.flags) json["settings"][settings.verb][flag] = value;
    if (!warnings.empty()) json["warnings"] = warnings;
    write(path, json.dump(2) + "\n");
}

void Record::save_page(const std::string& path, const std::string& plan, const std::vector<std::string>& plots) const {
    std::string page =
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>" + report::detail::escape_xml(experiment) +
        "</title>\n<style>body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:right}"
        "td:first-child,th:first-child{text-align:left}pre{background:#f4f4f4;padding:1em;overflow:auto}"
        "svg{max-width:100%}</style>\n<h1>" +
        report::detail::escape_xml(experiment + ", " + settings.model) + "</h1>\n";
    page += html(stage_rows(*this));
    if (certificate) page += "<h2>Certificate</h2>\n<p>" + report::detail::escape_xml(to_text(*certificate)) + "</p>\n";
    for (const std::string& warning : warnings)
        page += "<p><strong>" + report::detail::escape_xml(warning) + "</strong></p>\n";
    for (const std::string& plot : plots) page += plot;
    if (!plan.empty()) page += "<h2>Plan</h2>\n<pre>" + report::detail::escape_xml(plan) + "</pre>\n";
    page += join_text("<p>Espalier ", ESPALIER_VERSION, ", seed ", settings.seed, ", ", threads(), " threads, ",
                      number(seconds, "%.0f"), " s. Compiled by ", report::detail::escape_xml(ESPALIER_COMPILER),
                      " with <code>", report::detail::escape_xml(ESPALIER_FLAGS), "</code>.</p>\n");
    write(path, page);
}

} // namespace espalier::programs
