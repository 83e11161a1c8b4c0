#include "training_log.hpp"

#include <espalier/regularizers/gauges.hpp>
#include <espalier/report/svg_plot.hpp>

namespace espalier::programs {
namespace {

std::vector<std::string> columns(bool clips) {
    std::vector<std::string> names{"step",     "epoch",         "loss",         "cross_entropy",    "regularizer",
                                   "accuracy", "learning_rate", "dead_filters", "dead_branch_ends", "regularizer_share",
                                   "seconds"};
    if (clips) names.push_back("gradient_norm");
    return names;
}

CsvLog open_log(const std::string& path, const std::vector<std::string>& columns, Index step) {
    return step > 0 ? CsvLog::resume(path, columns, step) : CsvLog(path, columns);
}

} // namespace

TrainingLog::TrainingLog(const std::string& path, const Settings& settings, Index step, Index steps)
    : every_(settings.gauges_every), steps_(steps), clips_(settings.clip_norm > 0),
      csv_(open_log(path, columns(clips_), step)) {}

void TrainingLog::gauge(Index step, const models::Model<float>& net, const models::Output<float>& out) {
    // On a GPU the steps between may be replayed; one that is looked at runs as it is.
    const Index next = every_ > 0 ? std::min(step / every_ * every_ + every_, steps_) : steps_;
    if (!due(step)) return holds_for(next - step);
    holds_for(1);
    const std::vector<FilterNorms> layers = filter_norms(net, out.logits);
    std::vector<FilterNorms> ends;
    for (const FilterNorms& layer : layers)
        if (layer.ends_branch) ends.push_back(layer);
    dead_ = {share_below(layers), share_below(ends)};
}

void TrainingLog::row(const Progress& p, double gradient_norm) {
    if (!due(p.at.step)) return;
    const double share = p.last.cross_entropy > 0 ? p.last.regularizer / p.last.cross_entropy : 0;
    const auto step = static_cast<double>(p.at.step), epoch = static_cast<double>(p.at.epoch);
    std::vector<double> values{step,       epoch,           p.last.total, p.last.cross_entropy, p.last.regularizer,
                               p.accuracy, p.learning_rate, dead_.all,    dead_.branch_ends,    share,
                               p.seconds};
    if (clips_) values.push_back(gradient_norm);
    csv_.row(values);
    step_.push_back(step);
    loss_.push_back(p.last.cross_entropy);
    regularizer_.push_back(p.last.regularizer);
    accuracy_.push_back(p.accuracy);
    dead_ends_.push_back(dead_.branch_ends);
}

std::vector<std::string> TrainingLog::plots(const std::string& title) const {
    if (step_.size() < 2) return {};
    return {report::svg_plot({{"cross-entropy", step_, loss_}, {"regularizer", step_, regularizer_}},
                             {.title = title + ": training loss", .x_label = "step", .y_label = "loss"}),
            report::svg_plot(
                {{"accuracy on training images", step_, accuracy_}, {"dead ends of branches", step_, dead_ends_}},
                {.title = title + ": accuracy and dead filters", .x_label = "step", .y_label = "share"})};
}

} // namespace espalier::programs
