#pragma once

#include <espalier/data/dataset.hpp>
#include <espalier/models/model.hpp>
#include <espalier/ops/flow_options.hpp>
#include <espalier/pruning/groups.hpp>
#include <espalier/pruning/ranking.hpp>
#include <espalier/pruning/schedule.hpp>
#include <espalier/regularizers/growing_l2.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace espalier::programs {

/// Everything that the command line of an experiment says, after the defaults of its data set's recipe.
struct Settings {
    std::string verb;
    std::string data, out = "runs/latest", from, plan_file, resume;
    std::map<std::string, std::string> flags; ///< every flag that has a value, as text: what it takes to run this again

    std::string model = "resnet20";
    models::Options
        network; ///< what the flags say of it: classes, channels, size and seed are the data's and the run's
    std::uint64_t seed = 1;
    int threads = 0;
    Device device = Device::cpu;
    Path path = Path::fast;
    MatmulPrecision precision = MatmulPrecision::fp32;

    Index batch = 128, subset = 0, downscale = 1, crop = 0, cutout = 0;
    bool flip = false;
    Index epochs = 10, finetune_epochs = 2;
    std::string schedule = "one-cycle", optimizer = "sgd";
    double lr = 0.1, finetune_lr = 0.02, momentum = 0.9, weight_decay = 5e-4, label_smoothing = 0;
    double clip_norm = 0, ema = 0; ///< 0: neither

    FeatureFlowOptions ffr{.gradient = 0, .curvature = 0};
    Index ffr_warm_up = 0;
    double l1 = 0, l2 = 0, batch_norm_l1 = 0, group_lasso = 0, group_sparsity = 0;
    Index gauges_every = 100;

    std::string criterion = "folded";
    pruning::Ranking ranking = pruning::Ranking::global;
    pruning::Normalization normalization = pruning::Normalization::mean;
    pruning::Joins joins = pruning::Joins::coupled;
    std::optional<double> keep_macs, keep_parameters, keep_channels, keep_latency, threshold;
    Index latency_batch = 1, scan_images = 1000;
    Index minimum_width = 1, round_to = 1;
    double maximum_ratio = 1;
    pruning::Gradual gradual;                               ///< one step: all at once
    Index step_epochs = 1;                                  ///< of fine-tuning between steps
    GrowingL2Options growing;                               ///< on what prune will cut
    Index growing_epochs = 0;                               ///< 0: no growing regularization
    std::vector<double> ratios = {0.1, 0.3, 0.5, 0.7, 0.9}; ///< of the verb `sensitivity`

    std::string format = "c", export_name = "network";
    bool fold_batch_norm = false;
};

/// A flag that one data set alone has; its value is in `Settings::flags`.
struct Flag {
    std::string name, help, value;
    std::vector<std::string> choices; ///< none: any value
};

/// One data set and its recipe: all that an example has to say.
struct Experiment {
    std::string name, summary;
    std::string published;  ///< where the data is to be had: one sentence, shown by --help
    Settings recipe;        ///< defaults of every flag
    Settings demonstration; ///< defaults of the verb `demo`
    std::vector<Flag> flags = {};
    std::function<ImageSet(const Settings&, Split)> load;
};

/// Reads the command line. Returns the exit code if the program is done (help, a wrong flag), which has then been
/// printed.
std::optional<int> parse(const Experiment& experiment, int argc, char** argv, Settings& settings);

} // namespace espalier::programs
