#include "record.hpp"

#include <espalier/core/parallel.hpp>
#include <espalier/io/atomic_file.hpp>
#include <espalier/report/table.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>

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

Table stage_table(const Record& record) {
    Table table({"", "accuracy", "parameters", "MACs", "filters", "bytes", "ms, batch 1", "ms, batch 128"});
    for (const auto& [name, stage] : record.stages) {
        std::vector<std::string> row{name,
                                     number(100 * stage.accuracy, "%.2f %%"),
                                     to_text(stage.cost.parameters),
                                     to_text(stage.cost.macs),
                                     to_text(stage.cost.filters),
                                     to_text(stage.bytes)};
        for (const Index batch : {1, 128}) {
            const auto it = stage.latencies.find(batch);
            row.push_back(it == stage.latencies.end()
                              ? "-"
                              : number(it->second.median, "%.2f") + " (" + number(it->second.lowest, "%.2f") + " to " +
                                    number(it->second.highest, "%.2f") + ")");
        }
        table.row(row);
    }
    return table;
}

} // namespace

std::string Record::table() const { return stage_table(*this).text(); }

void Record::save(const std::string& path) const {
    using Json = nlohmann::ordered_json;
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
        json["certificate"] = {{"reference_path_bit_equal", certificate->reference_path_bit_equal},
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
    json["threads"] = threads();
    json["seconds"] = seconds;
    json["settings"] = {{"epochs", settings.epochs},
                        {"finetune_epochs", settings.finetune_epochs},
                        {"batch", settings.batch},
                        {"lr", settings.lr},
                        {"finetune_lr", settings.finetune_lr},
                        {"momentum", settings.momentum},
                        {"weight_decay", settings.weight_decay},
                        {"schedule", settings.schedule},
                        {"crop", settings.crop},
                        {"flip", settings.flip},
                        {"subset", settings.subset},
                        {"downscale", settings.downscale},
                        {"ffr_gradient", settings.ffr.gradient},
                        {"ffr_curvature", settings.ffr.curvature},
                        {"criterion", settings.criterion},
                        {"joins", pruning::to_text(settings.joins)}};
    if (!warnings.empty()) json["warnings"] = warnings;
    write(path, json.dump(2) + "\n");
}

void Record::save_page(const std::string& path, const std::string& plan, const std::vector<std::string>& plots) const {
    std::string page =
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>" + Table::escaped(experiment) +
        "</title>\n<style>body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:right}"
        "td:first-child,th:first-child{text-align:left}pre{background:#f4f4f4;padding:1em;overflow:auto}"
        "svg{max-width:100%}</style>\n<h1>" +
        Table::escaped(experiment + ", " + settings.model) + "</h1>\n";
    page += stage_table(*this).html();
    if (certificate) page += "<h2>Certificate</h2>\n<p>" + Table::escaped(to_text(*certificate)) + "</p>\n";
    for (const std::string& warning : warnings) page += "<p><strong>" + Table::escaped(warning) + "</strong></p>\n";
    for (const std::string& plot : plots) page += plot;
    if (!plan.empty()) page += "<h2>Plan</h2>\n<pre>" + Table::escaped(plan) + "</pre>\n";
    page += join_text("<p>Espalier ", ESPALIER_VERSION, ", seed ", settings.seed, ", ", threads(), " threads, ",
                      number(seconds, "%.0f"), " s. Compiled by ", Table::escaped(ESPALIER_COMPILER), " with <code>",
                      Table::escaped(ESPALIER_FLAGS), "</code>.</p>\n");
    write(path, page);
}

} // namespace espalier::programs
