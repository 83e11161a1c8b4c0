#pragma once

#include "settings.hpp"

#include <espalier/pruning/certificate.hpp>
#include <espalier/pruning/latency.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace espalier::programs {

/// What was measured of one network.
struct Stage {
    double accuracy = 0; ///< on the test set, after the last epoch, in [0, 1]
    Cost cost;
    std::uintmax_t bytes = 0;           ///< of the parameters and buffers, as a safetensors file
    std::map<Index, Latency> latencies; ///< by batch size
};

/// What a run leaves behind: `record.json` for programs, a table for people, and a page with the plots.
struct Record {
    const Settings& settings;
    std::string experiment;
    std::vector<std::pair<std::string, Stage>> stages; ///< dense, pruned, finetuned
    std::optional<Certificate> certificate;
    double seconds = 0;
    std::vector<std::string> warnings;
    std::string earlier_settings = "{}"; ///< JSON: those of earlier verbs, by verb

    /// Adds what `path` says of stages before `first`, as an earlier verb left them in the same folder. A file of
    /// another model, or none, adds nothing. @throws IoError if the file is no record
    void continue_from(const std::string& path, const std::string& first);
    void save(const std::string& path) const;
    /// The table of all stages, aligned for a terminal.
    std::string table() const;
    /// One HTML file: table, certificate, plan and the plots of the training log.
    void save_page(const std::string& path, const std::string& plan, const std::vector<std::string>& plots) const;
};

} // namespace espalier::programs
