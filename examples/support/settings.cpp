#include "settings.hpp"

#include "network.hpp"

#include <CLI/CLI.hpp>

#include <map>

namespace espalier::programs {
namespace {

template <class E> auto one_of(const std::map<std::string, E>& names) {
    return CLI::CheckedTransformer(names, CLI::ignore_case);
}

/// A list with commas. An option of a vector would append the list of a repeated flag instead of taking the last.
void add_numbers(CLI::App& group, const std::string& name, std::vector<Index>& numbers, const std::string& help) {
    const auto read = [&numbers, name](const std::string& text) {
        numbers.clear();
        for (const std::string& number : CLI::detail::split(text, ','))
            if (!CLI::detail::lexical_cast(number, numbers.emplace_back())) throw CLI::ConversionError(text, name);
    };
    group.add_option_function<std::string>(name, read, help)->type_name("INT,INT,..");
}

void add_flags(CLI::App& app, const Experiment& experiment, Settings& s) {
    const auto group = [&](const char* name) { return app.add_option_group(name); };

    auto* const run = group("Run");
    run->add_option("--data", s.data, "folder of the data set (" + experiment.published + ")")->capture_default_str();
    run->add_option("--out", s.out, "folder for checkpoints, log and record")->capture_default_str();
    run->add_option("--seed", s.seed, "of weights, order of images and augmentation")->capture_default_str();
    run->add_option("--threads", s.threads, "0: all cores; results do not depend on it")->capture_default_str();
    run->add_option("--resume", s.resume, "checkpoint to continue from (train, finetune)");
    run->add_option("--from", s.from, "checkpoint to work on (plan, prune, finetune, eval, bench, export)");

    auto* const network = group("Network and data");
    network->add_option("--model", s.model, network_names())->capture_default_str();
    network->add_option("--shortcut", s.network.shortcut, "of resnet20 to resnet110: padded or projection")
        ->transform(one_of<models::Shortcut>(
            {{"padded", models::Shortcut::padded}, {"projection", models::Shortcut::projection}}));
    network->add_option("--stem", s.network.stem, "of resnet18, 34 and 50: small (3x3) or imagenet (7x7, pooling)")
        ->transform(one_of<models::Stem>({{"small", models::Stem::small}, {"imagenet", models::Stem::imagenet}}));
    add_numbers(*network, "--widths", s.network.widths, "of the convolutions of cnn (16,32,32,64)");
    add_numbers(*network, "--hidden", s.network.hidden, "units of VGG's linear layers before the last (none)");
    network->add_option("--pooled", s.network.pooled, "pixels a side that VGG's last maps are averaged to")
        ->capture_default_str();
    network->add_option("--dropout", s.network.dropout, "rate, of VGG's hidden layers and in blocks of WRNs")
        ->capture_default_str();
    network->add_option("--subset", s.subset, "train on so many images, drawn by class (0: all)")
        ->capture_default_str();
    network->add_option("--downscale", s.downscale, "average blocks of so many by so many pixels")
        ->capture_default_str();
    network->add_option("--crop", s.crop, "random crop after padding by so many pixels")->capture_default_str();
    network->add_option("--flip", s.flip, "random horizontal flip (true or false)")->capture_default_str();
    network->add_option("--cutout", s.cutout, "side in pixels of a random square that is blanked (0: none)")
        ->capture_default_str();
    for (const Flag& flag : experiment.flags) {
        auto* const option =
            network->add_option(flag.name, flag.help)->default_str(flag.value)->type_name("TEXT")->expected(1);
        if (!flag.choices.empty()) option->check(CLI::IsMember(flag.choices));
    }

    auto* const training = group("Training");
    training->add_option("--epochs", s.epochs, "of train")->capture_default_str();
    training->add_option("--finetune-epochs", s.finetune_epochs, "of finetune")->capture_default_str();
    training->add_option("--batch", s.batch, "images a step")->capture_default_str();
    training->add_option("--lr", s.lr, "highest learning rate of train")->capture_default_str();
    training->add_option("--finetune-lr", s.finetune_lr, "highest learning rate of finetune")->capture_default_str();
    training->add_option("--schedule", s.schedule, "one-cycle, cosine, multi-step (a tenth at 1/2 and 3/4) or constant")
        ->check(CLI::IsMember({"one-cycle", "cosine", "multi-step", "constant"}))
        ->capture_default_str();
    training
        ->add_option("--optimizer", s.optimizer, "sgd, adam or adamw (decoupled decay); Adam wants an --lr of 0.001")
        ->check(CLI::IsMember({"sgd", "adam", "adamw"}))
        ->capture_default_str();
    training->add_option("--momentum", s.momentum, "Nesterov's, of sgd")->capture_default_str();
    training->add_option("--weight-decay", s.weight_decay, "of all parameters")->capture_default_str();
    training->add_option("--clip-norm", s.clip_norm, "largest norm of all gradients together (0: any)")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    training
        ->add_option("--ema", s.ema,
                     "decay of averaged weights, which what comes after training then works on (0: none); the first "
                     "averages forget sooner")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    training->add_option("--label-smoothing", s.label_smoothing, "share of the target spread over all classes")
        ->capture_default_str();

    auto* const sparsity = group("Regularizers of train (weights; 0 is off)");
    sparsity->add_option("--ffr-gradient", s.ffr.gradient, "k1, first differences of the feature flow")
        ->capture_default_str();
    sparsity->add_option("--ffr-curvature", s.ffr.curvature, "k2, second differences")->capture_default_str();
    sparsity->add_option("--ffr-norm", s.ffr.norm, "l1, l2 (per sample) or squared-l2")
        ->transform(
            one_of<FlowNorm>({{"l1", FlowNorm::l1}, {"l2", FlowNorm::l2}, {"squared-l2", FlowNorm::squared_l2}}));
    sparsity->add_option("--ffr-boundary", s.ffr.boundary, "across stages: aligned or skip")
        ->transform(one_of<FlowBoundary>({{"aligned", FlowBoundary::aligned}, {"skip", FlowBoundary::skip}}));
    sparsity->add_option("--ffr-difference", s.ffr.difference, "of features or branches")
        ->transform(
            one_of<FlowDifference>({{"features", FlowDifference::features}, {"branches", FlowDifference::branches}}));
    sparsity->add_option("--ffr-warm-up", s.ffr_warm_up, "steps until the full weight")->capture_default_str();
    sparsity->add_option("--l1", s.l1, "of all weights")->capture_default_str();
    sparsity->add_option("--l2", s.l2, "of all weights")->capture_default_str();
    sparsity->add_option("--batch-norm-l1", s.batch_norm_l1, "of batch-norm scales")->capture_default_str();
    sparsity->add_option("--group-lasso", s.group_lasso, "of filters")->capture_default_str();
    sparsity->add_option("--gauges-every", s.gauges_every, "steps between sparsity gauges in the log (0: never)")
        ->capture_default_str();

    auto* const cut = group("Pruning (one target)");
    cut->add_option("--keep-macs", s.keep_macs, "share of the multiply-adds to keep")->check(CLI::Range(0.0, 1.0));
    cut->add_option("--keep-parameters", s.keep_parameters, "share of the parameters to keep")
        ->check(CLI::Range(0.0, 1.0));
    cut->add_option("--keep-channels", s.keep_channels, "share of the channels to keep")->check(CLI::Range(0.0, 1.0));
    cut->add_option("--threshold", s.threshold, "cut every channel whose normalized score is below");
    cut->add_option("--criterion", s.criterion,
                    "l1, l2, batch-norm, folded (batch norm folded into l2), dead (after relu) or random")
        ->check(CLI::IsMember({"l1", "l2", "batch-norm", "folded", "dead", "random"}))
        ->capture_default_str();
    cut->add_option("--ranking", s.ranking, "global or local (the same share of each group)")
        ->transform(
            one_of<pruning::Ranking>({{"global", pruning::Ranking::global}, {"local", pruning::Ranking::local}}));
    cut->add_option("--normalization", s.normalization, "of scores within a group: none, mean or max")
        ->transform(one_of<pruning::Normalization>({{"none", pruning::Normalization::none},
                                                    {"mean", pruning::Normalization::mean},
                                                    {"max", pruning::Normalization::max}}));
    cut->add_option("--joins", s.joins, "of residual blocks: coupled (whole streams) or indexed (branch ends)")
        ->transform(
            one_of<pruning::Joins>({{"coupled", pruning::Joins::coupled}, {"indexed", pruning::Joins::indexed}}));
    cut->add_option("--minimum-width", s.minimum_width, "channels that every group keeps")->capture_default_str();
    cut->add_option("--maximum-ratio", s.maximum_ratio, "largest share of a group that may go")->capture_default_str();
    cut->add_option("--round-to", s.round_to, "round widths up to a multiple")->capture_default_str();
    cut->add_option(
        "--plan", s.plan_file,
        "plan to carry out (prune), as written by the verb plan and edited at will; a target makes a new one");

    auto* const deploy = group("Export");
    deploy->add_option("--format", s.format, "c (C99: a header and a source file) or onnx")
        ->check(CLI::IsMember({"c", "onnx"}))
        ->capture_default_str();
    deploy->add_option("--name", s.export_name, "of the files and of what they define")->capture_default_str();
    deploy->add_flag("--fold-batch-norm", s.fold_batch_norm, "into the weights before it (onnx; c always does)");
}

} // namespace

std::optional<int> parse(const Experiment& experiment, int argc, char** argv, Settings& settings) {
    settings = experiment.recipe;
    if (argc > 1 && std::string(argv[1]) == "demo") settings = experiment.demonstration;
    CLI::App app(experiment.summary + "\nThe data: " + experiment.published, experiment.name);
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast); // scripts append to a common line
    app.get_formatter()->column_width(36);
    app.footer(
        "Verbs work in --out: train writes dense.safetensors, plan plan.json, prune pruned.safetensors, finetune "
        "finetuned.safetensors;\neach reads what the one before it wrote, unless --from or --plan names another file.");
    app.add_option(
           "verb", settings.verb,
           "train, plan, prune, finetune, eval, bench, export, or demo: train, prune to half of the multiply-adds, "
           "fine-tune, report")
        ->required()
        ->check(CLI::IsMember({"train", "plan", "prune", "finetune", "eval", "bench", "export", "demo"}));
    add_flags(app, experiment, settings);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error);
    }
    for (const CLI::App* group : app.get_subcommands([](const CLI::App*) { return true; }))
        for (const CLI::Option* option : group->get_options()) {
            const std::string value =
                option->count() > 0 ? CLI::detail::join(option->reduced_results()) : option->get_default_str();
            if (!value.empty()) settings.flags[option->get_name()] = value;
        }
    return std::nullopt;
}

} // namespace espalier::programs
