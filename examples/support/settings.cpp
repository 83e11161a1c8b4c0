#include "settings.hpp"

#include "network.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <limits>

namespace espalier::programs {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// A number in [low, high], both included.
CLI::Validator between(double low, double high) {
    const auto problem = [low, high](const std::string& text) {
        double value = 0;
        const bool fits = CLI::detail::lexical_cast(text, value) && value >= low && value <= high;
        const std::string wanted = high < infinity ? join_text("from ", low, " to ", high) : join_text("from ", low);
        return fits ? "" : join_text("expected a number ", wanted, ", got ", text);
    };
    return CLI::Validator(problem, "");
}
CLI::Validator at_least(double low) { return between(low, infinity); }

/// Makes an option take one of some words, which help and errors list.
CLI::Option* one_of(const std::vector<std::string>& words, CLI::Option* option) {
    const std::string list = CLI::detail::join(words, ", ");
    const auto problem = [words, list](const std::string& text) {
        const bool known = std::find(words.begin(), words.end(), text) != words.end();
        return known ? "" : join_text("expected one of ", list, ", got ", text);
    };
    return option->type_name("{" + CLI::detail::join(words) + "}")->check(CLI::Validator(problem, ""));
}

/// An option whose words stand for values.
template <class E>
void add_choice(CLI::App& app, const std::string& name, E& value,
                const std::vector<std::pair<std::string, E>>& meanings, const std::string& help) {
    std::vector<std::string> words;
    for (const auto& [word, meaning] : meanings) words.push_back(word);
    const auto choose = [&value, meanings](const std::string& text) {
        for (const auto& [word, meaning] : meanings)
            if (word == text) value = meaning;
    };
    const auto chosen = [&value, meanings] {
        std::string text;
        for (const auto& [word, meaning] : meanings)
            if (meaning == value) text = word;
        return text;
    };
    one_of(words, app.add_option_function<std::string>(name, choose, help))->default_function(chosen);
}

/// A list with commas. An option of a vector would append the list of a repeated flag instead of taking the last.
void add_numbers(CLI::App& app, const std::string& name, std::vector<Index>& numbers, const std::string& help) {
    const auto read = [&numbers, name](const std::string& text) {
        numbers.clear();
        for (const std::string& number : CLI::detail::split(text, ','))
            if (!CLI::detail::lexical_cast(number, numbers.emplace_back()) || numbers.back() < 1)
                throw CLI::ValidationError(name, "expected numbers from 1 with commas between, got " + text);
    };
    app.add_option_function<std::string>(name, read, help)->type_name("INT,INT,..");
}

/// Numbers in (0, 1] with commas between.
void add_shares(CLI::App& app, const std::string& name, std::vector<double>& shares, const std::string& help) {
    const auto read = [&shares, name](const std::string& text) {
        shares.clear();
        for (const std::string& share : CLI::detail::split(text, ','))
            if (!CLI::detail::lexical_cast(share, shares.emplace_back()) || !(shares.back() > 0 && shares.back() <= 1))
                throw CLI::ValidationError(name, "expected shares above 0 up to 1 with commas between, got " + text);
    };
    const auto write = [&shares] {
        std::string text;
        for (const double share : shares) text += (text.empty() ? "" : ",") + to_text(share);
        return text;
    };
    app.add_option_function<std::string>(name, read, help)->type_name("FLOAT,FLOAT,..")->default_function(write);
}

/// A target of pruning, which may be missing.
CLI::Option* add_target(CLI::App& app, const std::string& name, std::optional<double>& value, const std::string& help) {
    return app.add_option(name, value, help)->default_function([&value] { return value ? to_text(*value) : ""; });
}

void add_flags(CLI::App& app, const Experiment& experiment, Settings& s) {
    const auto group = [&](const char* name) { app.option_defaults()->group(name); };

    group("Run");
    app.add_option("--data", s.data, "folder of the data set")->type_name("FOLDER");
    for (const Flag& flag : experiment.flags) {
        auto* const option = app.add_option(flag.name, flag.help)->default_str(flag.value)->expected(1);
        if (flag.choices.empty())
            option->type_name("TEXT");
        else
            one_of(flag.choices, option);
    }
    app.add_option("--out", s.out, "where checkpoints, log and record are")->type_name("FOLDER");
    app.add_option("--seed", s.seed, "of weights, order of images and augmentation");
    app.add_option("--threads", s.threads, "0: all cores; results do not depend on it")->check(at_least(0));
    add_choice<Device>(app, "--device", s.device, {{"cpu", Device::cpu}, {"cuda", Device::cuda}},
                       "where the network is; cuda: an NVIDIA GPU, in a program built with ESPALIER_WITH_CUDA");
    add_choice<Path>(app, "--path", s.path, {{"fast", Path::fast}, {"precise", Path::precise}},
                     "of convolutions: precise ones are slower, with a relative error of 1e-6 instead of up to 4e-6");
    add_choice<MatmulPrecision>(
        app, "--precision", s.precision,
        {{"fp32", MatmulPrecision::fp32}, {"tf32", MatmulPrecision::tf32}, {"bf16", MatmulPrecision::bf16}},
        "of a GPU's convolutions and linear layers: what their operands are rounded to, for its tensor cores");
    app.add_option("--resume", s.resume, "checkpoint of a run that stopped, to continue (train, finetune)")
        ->type_name("FILE");
    app.add_option("--from", s.from, "checkpoint to work on (plan, sensitivity, prune, finetune, eval, bench, export)")
        ->type_name("FILE");

    group("Network and its images (train and demo; later verbs find them in the checkpoint)");
    app.add_option("--model", s.model, network_names())->type_name("NAME");
    add_choice<models::Shortcut>(app, "--shortcut", s.network.shortcut,
                                 {{"padded", models::Shortcut::padded}, {"projection", models::Shortcut::projection}},
                                 "of resnet20 to resnet110");
    add_choice<models::Stem>(app, "--stem", s.network.stem,
                             {{"small", models::Stem::small}, {"imagenet", models::Stem::imagenet}},
                             "of resnet18, 34 and 50: a 3x3 convolution, or a 7x7 one and pooling");
    add_numbers(app, "--widths", s.network.widths, "of the convolutions of cnn (16,32,32,64)");
    add_numbers(app, "--hidden", s.network.hidden, "units of VGG's linear layers before the last (none)");
    app.add_option("--pooled", s.network.pooled, "pixels a side that VGG's last maps are averaged to");
    app.add_option("--dropout", s.network.dropout, "rate, of VGG's hidden layers and in blocks of WRNs");
    app.add_option("--downscale", s.downscale, "average blocks of so many by so many pixels")->check(at_least(1));

    group("Training (train, finetune and demo)");
    app.add_option("--subset", s.subset, "train on so many images, drawn by class (0: all)")->check(at_least(0));
    app.add_option("--crop", s.crop, "random crop after padding by so many pixels")->check(at_least(0));
    add_choice<bool>(app, "--flip", s.flip, {{"true", true}, {"false", false}}, "random horizontal flip");
    app.add_option("--cutout", s.cutout, "side in pixels of a random square that is blanked (0: none)")
        ->check(at_least(0));
    app.add_option("--epochs", s.epochs, "of train")->check(at_least(0));
    app.add_option("--finetune-epochs", s.finetune_epochs, "of finetune")->check(at_least(0));
    app.add_option("--batch", s.batch, "images a step")->check(at_least(1));
    app.add_option("--lr", s.lr, "highest learning rate of train")->check(at_least(0));
    app.add_option("--finetune-lr", s.finetune_lr, "highest learning rate of finetune")->check(at_least(0));
    one_of({"one-cycle", "cosine", "multi-step", "constant"},
           app.add_option("--schedule", s.schedule, "of the learning rate; multi-step: a tenth at 1/2 and 3/4"));
    one_of({"sgd", "adam", "adamw"},
           app.add_option("--optimizer", s.optimizer, "adamw: decoupled decay; both Adams want an --lr of 0.001"));
    app.add_option("--momentum", s.momentum, "Nesterov's, of sgd")->check(between(0, 1));
    app.add_option("--weight-decay", s.weight_decay, "of all parameters")->check(at_least(0));
    app.add_option("--clip-norm", s.clip_norm, "largest norm of all gradients together (0: any)")->check(at_least(0));
    app.add_option("--ema", s.ema,
                   "decay of averaged weights, which what comes after training then works on (0: none); the first "
                   "averages forget sooner")
        ->check(between(0, 1));
    app.add_option("--label-smoothing", s.label_smoothing, "share of the target spread over all classes")
        ->check(between(0, 1));
    app.add_option("--gauges-every", s.gauges_every, "steps between rows of the log (0: no rows)")->check(at_least(0));

    group("Regularizers of train and demo (weights; 0 is off)");
    app.add_option("--ffr-gradient", s.ffr.gradient, "k1, first differences of the feature flow")->check(at_least(0));
    app.add_option("--ffr-curvature", s.ffr.curvature, "k2, second differences")->check(at_least(0));
    add_choice<FlowNorm>(app, "--ffr-norm", s.ffr.norm,
                         {{"l1", FlowNorm::l1}, {"l2", FlowNorm::l2}, {"squared-l2", FlowNorm::squared_l2}},
                         "of differences; l2: of each sample");
    add_choice<FlowBoundary>(app, "--ffr-boundary", s.ffr.boundary,
                             {{"aligned", FlowBoundary::aligned}, {"skip", FlowBoundary::skip}},
                             "differences across stages: of aligned maps, or none");
    add_choice<FlowDifference>(app, "--ffr-difference", s.ffr.difference,
                               {{"features", FlowDifference::features}, {"branches", FlowDifference::branches}},
                               "what the flow is made of");
    app.add_option("--ffr-warm-up", s.ffr_warm_up, "steps until the full weight")->check(at_least(0));
    app.add_option("--l1", s.l1, "of all weights")->check(at_least(0));
    app.add_option("--l2", s.l2, "of all weights")->check(at_least(0));
    app.add_option("--batch-norm-l1", s.batch_norm_l1, "of batch-norm scales")->check(at_least(0));
    app.add_option("--group-lasso", s.group_lasso, "of filters")->check(at_least(0));
    app.add_option("--group-sparsity", s.group_sparsity, "of all that goes with a channel, weak ones most (DepGraph)")
        ->check(at_least(0));

    group("Pruning (plan, prune and demo; exactly one of the first five, or a plan)");
    add_target(app, "--keep-macs", s.keep_macs, "share of the multiply-adds to keep")->check(between(0, 1));
    add_target(app, "--keep-parameters", s.keep_parameters, "share of the parameters to keep")->check(between(0, 1));
    add_target(app, "--keep-channels", s.keep_channels, "share of the channels to keep")->check(between(0, 1));
    add_target(app, "--keep-latency", s.keep_latency,
               "share of the milliseconds to keep, as latencies.csv of --out predicts them; it is measured if need be")
        ->check(between(0, 1));
    add_target(app, "--threshold", s.threshold, "cut every channel whose normalized score is below");
    one_of({"l1", "l2", "linf", "batch-norm", "folded", "geometric-median", "lamp", "taylor", "activation-taylor",
            "rank", "apoz", "dead", "random"},
           app.add_option("--criterion", s.criterion,
                          "score of a channel (docs/criteria.md); folded: l2 with batch norm folded in; lamp wants "
                          "--normalization none; of one training batch: taylor, activation-taylor, rank, apoz, and "
                          "dead, the largest value after relu"));
    add_choice<pruning::Ranking>(app, "--ranking", s.ranking,
                                 {{"global", pruning::Ranking::global}, {"local", pruning::Ranking::local}},
                                 "of channels: among all, or the same share of each group");
    add_choice<pruning::Normalization>(app, "--normalization", s.normalization,
                                       {{"none", pruning::Normalization::none},
                                        {"mean", pruning::Normalization::mean},
                                        {"max", pruning::Normalization::max},
                                        {"sum", pruning::Normalization::sum},
                                        {"standard", pruning::Normalization::standard},
                                        {"gaussian", pruning::Normalization::gaussian}},
                                       "of the scores of a group: divided by one of them, moved to [0,1], or to mean 0 "
                                       "and deviation 1");
    add_choice<pruning::Joins>(
        app, "--joins", s.joins,
        {{"coupled", pruning::Joins::coupled}, {"indexed", pruning::Joins::indexed}, {"mixed", pruning::Joins::mixed}},
        "of residual blocks: whole streams are cut, or the ends of branches, or either");
    app.add_option("--minimum-width", s.minimum_width, "channels that every group keeps")->check(at_least(0));
    app.add_option("--maximum-ratio", s.maximum_ratio, "largest share of a group that may go")->check(between(0, 1));
    app.add_option("--round-to", s.round_to, "round widths up to a multiple; 8 makes whole vectors")
        ->check(at_least(1));
    app.add_option("--steps", s.gradual.steps, "of prune, to a target: cut by and by, with fine-tuning between")
        ->check(at_least(1));
    add_choice<pruning::Decline>(app, "--decline", s.gradual.decline,
                                 {{"linear", pruning::Decline::linear},
                                  {"cubic", pruning::Decline::cubic},
                                  {"geometric", pruning::Decline::geometric}},
                                 "of the share of the original that the steps keep");
    app.add_option("--step-epochs", s.step_epochs, "of fine-tuning after each step but the last, with --finetune-lr")
        ->check(at_least(0));
    app.add_option(
           "--growing-epochs", s.growing_epochs,
           "of prune: train so long under an l2 penalty that grows on what will be cut (GReg), with --finetune-lr")
        ->check(at_least(0));
    app.add_option("--growing-increment", s.growing.increment, "of that penalty's strength, each --growing-every steps")
        ->check(at_least(0));
    app.add_option("--growing-every", s.growing.every, "steps between two increments")->check(at_least(1));
    app.add_option("--growing-ceiling", s.growing.ceiling, "largest strength")->check(at_least(0));
    app.add_option("--latency-batch", s.latency_batch, "images a pass, of --keep-latency")->check(at_least(1));
    add_shares(app, "--ratios", s.ratios, "of sensitivity: shares of each group to cut, one after the other");
    app.add_option("--scan-images", s.scan_images, "of sensitivity: training images that a cut network is tested on")
        ->check(at_least(1));
    app.add_option("--plan", s.plan_file,
                   "plan to write (plan) or to carry out (prune), which may have been edited; prune takes plan.json of "
                   "--out if there is one and no target")
        ->type_name("FILE");

    group("Export");
    one_of({"c", "onnx"}, app.add_option("--format", s.format, "c: C99, a header and a source file"));
    app.add_option("--name", s.export_name, "of the files and of what they define")->type_name("NAME");
    app.add_flag("--fold-batch-norm", s.fold_batch_norm, "into the weights before it (onnx; c always does)");
}

constexpr const char* about_verbs =
    "Verbs work in the folder --out; each reads what the one before it wrote, unless --from or --plan names a file:\n"
    "  train      train a network: dense.safetensors, and the log dense.csv\n"
    "  plan       say which channels to cut: plan.json, to be edited at will\n"
    "  sensitivity cut each group alone by --ratios, and test: sensitivity.csv, which grows, and sensitivity.svg\n"
    "  prune      cut what a plan says: pruned.safetensors\n"
    "  finetune   train what is left: finetuned.safetensors, and the log finetuned.csv\n"
    "  eval       test the last network there is\n"
    "  bench      measure the dense network and the last one, side by side\n"
    "  export     write the last network as C or ONNX\n"
    "  demo       train, plan, prune and finetune, briefly: `demo --help` has its defaults\n"
    "train, prune, finetune and demo leave record.json and report.html as well.";

} // namespace

std::optional<int> parse(const Experiment& experiment, int argc, char** argv, Settings& settings) {
    settings = experiment.recipe;
    CLI::App app(experiment.summary + "\nThe data: " + experiment.published, experiment.name);
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast); // scripts append to a common line
    app.get_formatter()->column_width(36);
    app.footer(about_verbs);
    const auto capture_defaults = [&app] {
        for (CLI::Option* option : app.get_options([](CLI::Option*) { return true; })) option->capture_default_str();
    };
    const auto choose_verb = [&](const std::string& verb) { // defined first, so that flags come on top
        if (verb == "demo") settings = experiment.demonstration;
        settings.verb = verb;
        capture_defaults();
    };
    CLI::Option* const verb =
        one_of({"train", "plan", "sensitivity", "prune", "finetune", "eval", "bench", "export", "demo"},
               app.add_option_function<std::string>("verb", choose_verb, "what to do, see below"));
    verb->required();
    add_flags(app, experiment, settings);
    capture_defaults();
    try {
        app.parse(argc, argv);
        if (settings.precision != MatmulPrecision::fp32 && settings.device == Device::cpu)
            throw CLI::ValidationError("--precision", "expected --device cuda with tf32 or bf16, got cpu");
    } catch (const CLI::ParseError& error) {
        return app.exit(error);
    }
    for (const CLI::Option* option : app.get_options()) {
        if (option == verb || option == app.get_help_ptr()) continue;
        const std::string value =
            option->count() > 0 ? CLI::detail::join(option->reduced_results()) : option->get_default_str();
        if (!value.empty()) settings.flags[option->get_name()] = value;
    }
    return std::nullopt;
}

} // namespace espalier::programs
