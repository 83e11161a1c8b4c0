#pragma once

#include "settings.hpp"

#include <espalier/models/model.hpp>
#include <espalier/train/csv_log.hpp>
#include <espalier/train/progress.hpp>

#include <string>
#include <vector>

namespace espalier::programs {

/// The rows of a training run, every `--gauges-every` steps and after the last one: a CSV file and the plots of it.
class TrainingLog {
public:
    /// Of a run of `steps` steps that is at `step`: one that is not at its start continues the file behind that step.
    /// @throws IoError if the file can't be written, or has other columns
    TrainingLog(const std::string& path, const Settings& settings, Index step, Index steps);

    /// Looks at the filters, if the step will get a row; `out` is what the network made of the step's batch.
    void gauge(Index step, const models::Model<float>& net, const models::Output<float>& out);
    /// Writes the row of the step that was just made, if it gets one. The norm is that of all gradients before
    /// clipping, and is written only if the flags ask for clipping.
    void row(const Progress& progress, double gradient_norm);
    /// What was logged since the constructor, as SVG images; none if that is less than two rows.
    std::vector<std::string> plots(const std::string& title) const;

private:
    bool due(Index step) const { return every_ > 0 && (step % every_ == 0 || step == steps_); }

    /// Share of filters below 1 % of the largest of their layer, batch norm folded in.
    struct DeadFilters {
        double all = 0, branch_ends = 0; ///< of all convolutions; of the last ones of residual branches
    };
    Index every_, steps_;
    bool clips_;
    CsvLog csv_;
    DeadFilters dead_; // of the last step that was due
    std::vector<double> step_, loss_, regularizer_, accuracy_, dead_ends_;
};

} // namespace espalier::programs
