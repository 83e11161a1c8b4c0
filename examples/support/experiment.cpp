#include "experiment.hpp"

#include "exporting.hpp"
#include "images.hpp"
#include "network.hpp"
#include "planning.hpp"
#include "record.hpp"
#include "run_folder.hpp"
#include "saved_network.hpp"
#include "scanning.hpp"
#include "training.hpp"
#include "training_log.hpp"

#include <espalier/core/parallel.hpp>
#include <espalier/core/steady_clock.hpp>
#include <espalier/io/example.hpp>
#include <espalier/io/latency_file.hpp>
#include <espalier/io/lineage_file.hpp>
#include <espalier/io/plan_file.hpp>
#include <espalier/pruning/coupled_channels.hpp>
#include <espalier/pruning/prune_gradually.hpp>
#include <espalier/pruning/verdict.hpp>
#include <espalier/report/progress_bar.hpp>
#include <espalier/train/checkpoint.hpp>
#include <espalier/train/clip.hpp>
#include <espalier/train/ema.hpp>
#include <espalier/train/sgd.hpp>
#include <espalier/train/trainer.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>

namespace espalier::programs {
namespace {

using T = float;
using Network = std::shared_ptr<models::Model<T>>;

std::atomic<bool> interrupted = false;
extern "C" void interrupt(int) { interrupted = true; }

void say(const std::string& text) { std::cout << text << std::endl; }

class Session {
public:
    Session(const Experiment& experiment, const Settings& settings)
        : s_(settings), folder_(s_), images_(experiment, s_), record_{s_, experiment.name, {}, {}, 0, {}},
          start_(steady_seconds()) {
        set_threads(s_.threads);
        std::signal(SIGINT, interrupt);
        std::signal(SIGTERM, interrupt);
    }

    void train() {
        images_.load();
        Network net = fresh_network();
        say(s_.model + ": " + to_text(cost(*net, images_.shape())));
        fit_dense(net);
        finish();
    }
    void plan() {
        const Network net = open(folder_.from_or("dense.safetensors"));
        const pruning::Plan plan = plan_of(*net);
        std::cout << to_text(plan);
        const std::string file = s_.plan_file.empty() ? folder_.path("plan.json") : s_.plan_file;
        save_plan(plan, file);
        say("plan in " + file + ": edit the channels that are `kept`, then prune");
    }
    void sensitivity() {
        const std::string file = folder_.from_or("dense.safetensors");
        std::vector<Network> replicas{open(file)}; // one a thread, or one for all of a GPU
        const int wanted = s_.device == Device::cpu ? threads() : 1;
        while (static_cast<int>(replicas.size()) < wanted)
            replicas.push_back(read_network(file, taps(), s_.device).net);
        images_.load();
        const Index count = std::min(s_.scan_images, images_.train().size());
        const Loader<T> images =
            images_.batches_of(subset(images_.train(), {.count = count, .pick = Pick::stratified, .seed = s_.seed}));
        std::vector<models::Model<T>*> models;
        for (const Network& net : replicas) models.push_back(net.get());
        const auto accuracy = [&](models::Model<T>& net) {
            expect<StateError>(!interrupted, "sensitivity: stopped; the same command goes on where it was");
            return evaluate(net, images).accuracy;
        };
        const Scan scan{.criterion = options_of_plan(*replicas.front()).criterion,
                        .title = join_text(s_.model, " on ", images_.train().name, ", cut by ", s_.criterion),
                        .score = join_text("accuracy on ", count, " training images")};
        scan_to_folder(models, images_.shape(), s_, scan, accuracy);
    }
    void prune() {
        Network net = open(folder_.from_or("dense.safetensors"));
        images_.load();
        const std::string file = s_.plan_file.empty() ? folder_.path("plan.json") : s_.plan_file;
        const bool target = s_.keep_macs || s_.keep_parameters || s_.keep_channels || s_.keep_latency || s_.threshold;
        expect(!target || s_.plan_file.empty(), "prune: expected a plan or a target, got both --plan ", s_.plan_file,
               " and a target");
        expect(s_.gradual.steps == 1 || s_.growing_epochs == 0,
               "prune: expected --growing-epochs without --steps, got ", s_.growing_epochs, " and ", s_.gradual.steps);
        expect(s_.gradual.steps == 1 || target, "prune: expected a target with --steps ", s_.gradual.steps,
               ", got none");
        if (s_.from.empty()) record_.continue_from(folder_.path("record.json"), "pruned");
        if (s_.gradual.steps > 1) {
            cut_gradually(net);
            measured("pruned", *net);
            return finish();
        }
        const bool planned = !target && (!s_.plan_file.empty() || std::filesystem::exists(file));
        const pruning::Plan plan = planned ? load_plan(file) : plan_of(*net);
        if (!planned) save_plan(plan, file);
        if (s_.growing_epochs > 0) shrink(net, plan);
        cut(*net, plan);
        measured("pruned", *net);
        finish();
    }
    void finetune() {
        Network net = open(folder_.from_or("pruned.safetensors"));
        images_.load();
        if (s_.from.empty()) record_.continue_from(folder_.path("record.json"), "finetuned");
        fit(net, {.name = "finetuned", .epochs = s_.finetune_epochs, .lr = s_.finetune_lr});
        measured("finetuned", *net);
        finish();
    }
    void eval() {
        const Network net = open(folder_.from_or_latest());
        images_.load();
        measured("network", *net);
        std::cout << record_.table();
    }
    void bench() {
        const Network before = open(folder_.path("dense.safetensors")), after = open(folder_.from_or_latest());
        for (const Index batch : {1, 128}) {
            const auto [a, b] = compare_latency(*before, *after, images_.shape(), {.batch = batch});
            say(join_text("batch ", batch, ": ",
                          verdict(cost(*before, images_.shape()), cost(*after, images_.shape()), a, b)));
        }
    }
    void deploy() {
        const Network net = open(folder_.from_or_latest());
        say(export_network(*net, images_.description(), s_));
    }
    void demo() {
        images_.load();
        Network net = fresh_network();
        say("training " + s_.model + " (" + to_text(cost(*net, images_.shape())) +
            ") with feature flow regularization");
        fit_dense(net);
        const pruning::Plan plan = plan_of(*net);
        save_plan(plan, folder_.path("plan.json"));
        std::cout << to_text(plan);
        cut(*net, plan);
        measured("pruned", *net);
        say("fine-tuning");
        fit(net, {.name = "finetuned", .epochs = s_.finetune_epochs, .lr = s_.finetune_lr});
        measured("finetuned", *net);
        const auto &dense = record_.stages[0].second, &last = record_.stages[2].second;
        for (const Index batch : {1, 128})
            if (!clearly_faster(dense.latencies.at(batch), last.latencies.at(batch)))
                record_.warnings.push_back(
                    join_text("At batch ", batch, " the pruned network is not clearly faster: the rounds overlap."));
        finish(to_text(plan));
    }

private:
    struct Phase {
        std::string name;
        Index epochs;
        double lr;
        Regularizer regularizer = nullptr; ///< none
        bool resumes = true;
    };

    models::Taps taps() const {
        return s_.ffr.difference == FlowDifference::branches ? models::Taps::branches : models::Taps::features;
    }
    Network fresh_network() const {
        models::Options options = s_.network;
        options.taps = taps();
        options.classes = images_.train().classes;
        options.channels = images_.train().images.size(3);
        options.seed = s_.seed;
        options.size = images_.shape()[0];
        Network net = make_network(s_.model, options);
        net->to(s_.device);
        return net;
    }

    /// The network of a checkpoint, whose images are prepared as in training, whatever the command line says.
    Network open(const std::string& file) {
        folder_.expect_checkpoint(file);
        const SavedNetwork saved = read_network(file, taps(), s_.device);
        if (!saved.example.empty()) say(saved.example);
        s_.model = saved.net->name();
        images_.prepare_as(saved.data, saved.net->options().classes);
        lineage_ = saved.lineage;
        return saved.net;
    }
    void save(const std::string& name, models::Model<T>& net, const Optimizer<T>& optimizer, const Position& position,
              const Ema<T>* averages = nullptr) const {
        TensorFile extra;
        auto examples =
            images_.batches_of(subset(images_.test(), {.count = std::min<Index>(2, images_.test().size())})).epoch(0);
        save_example(extra, net, examples.begin()->images);
        save_description(extra, images_.description());
        save_lineage(extra, lineage_);
        if (averages) averages->save(extra, "ema.");
        save_checkpoint(folder_.path(name + ".safetensors"), net, optimizer, position, s_.seed, extra);
    }

    void fit(Network& net, const Phase& phase) {
        const Loader<T> loader = images_.training_batches(true);
        expect<StateError>(loader.batches() > 0, phase.name, ": expected a --batch of at most the ",
                           images_.train().size(), " training images, got ", s_.batch);
        const Index steps = phase.epochs * loader.batches();
        const auto optimizer = optimizer_of(s_, *net, phase.lr);
        std::unique_ptr<Ema<T>> ema; // if it is wanted
        if (s_.ema > 0) ema = std::make_unique<Ema<T>>(*net, EmaOptions{.decay = s_.ema, .start = EmaStart::ramped});
        const std::vector<NamedVar<T>> parameters = net->parameters();
        const bool resumed = phase.resumes && !s_.resume.empty();
        if (resumed) folder_.expect_checkpoint(s_.resume);
        const Position start = resumed ? resume(s_.resume, phase.name, *net, *optimizer, ema.get()) : Position();
        if (start.step > 0) say(join_text("resumed at step ", start.step, " of ", steps));
        TrainingLog log(folder_.path(phase.name + ".csv"), s_, start.step, steps);
        double gradient_norm = 0; // of the last step, before clipping
        std::vector<Hook> clipping;
        if (s_.clip_norm > 0)
            clipping.push_back([&](const Progress&) { gradient_norm = clip_gradient_norm(parameters, s_.clip_norm); });
        report::ProgressBar bar(stdout);
        Trainer<T> trainer(
            *net, *optimizer,
            {.epochs = phase.epochs,
             .schedule = schedule_of(s_, phase.lr, steps),
             .loss = {.label_smoothing = s_.label_smoothing},
             .capture = Capture::steps,
             .regularizer =
                 [&](const models::Output<T>& out, Index step) {
                     log.gauge(step + 1, *net, out);
                     return phase.regularizer ? phase.regularizer(out, step) : Var<T>();
                 },
             .before_step = std::move(clipping),
             .after_step = {[&](const Progress&) {
                                if (ema) ema->update();
                            },
                            [&](const Progress& p) { log.row(p, gradient_norm); },
                            [&](const Progress& p) { bar.show(p); }},
             .after_epoch = {[&](const Progress& p) { save(phase.name, *net, *optimizer, p.at, ema.get()); }},
             .stop = &interrupted});
        trainer.resume(start);
        const RunEnd end = trainer.run(loader);
        save(phase.name, *net, *optimizer, trainer.position(), ema.get());
        if (end == RunEnd::stopped)
            throw StateError(join_text(phase.name, ": stopped at step ", trainer.position().step, " of ", steps,
                                       phase.resumes
                                           ? "; continue with --resume " + folder_.path(phase.name + ".safetensors")
                                           : "; prune again"));
        if (ema) ema->swap(); // from here on the network is the averaged one
        for (std::string& plot : log.plots(phase.name)) plots_.push_back(std::move(plot));
    }
    void fit_dense(Network& net) {
        fit(net, {.name = "dense",
                  .epochs = s_.epochs,
                  .lr = s_.lr,
                  .regularizer = regularizer_of(s_, *net, images_.shape())});
        measured("dense", *net);
    }

    pruning::PlanOptions<T> options_of_plan(models::Model<T>& net) {
        return plan_options(net, s_, [&] {
            if (images_.train().size() == 0) images_.load();
            auto epoch = images_.training_batches(false).epoch(0);
            const auto batch = epoch.begin(); // criteria look at it on the CPU
            return Batch<T>{batch->images.to(Device::cpu), batch->labels.to(Device::cpu)};
        });
    }
    /// As above, with the latency table that a target of latency is predicted by.
    pruning::PlanOptions<T> options_of_target(models::Model<T>& net) {
        pruning::PlanOptions<T> options = options_of_plan(net);
        if (s_.keep_latency) {
            table_ = pruning::latency_table(net, images_.shape(), {.batch = s_.latency_batch},
                                            folder_.path("latencies.csv"));
            options.latencies = &table_;
        }
        return options;
    }
    pruning::Plan plan_of(models::Model<T>& net) { return pruning::plan(net, images_.shape(), options_of_target(net)); }
    /// Trains under a penalty that grows on the channels that a plan will cut, so that the others take over.
    void shrink(Network& net, const pruning::Plan& plan) {
        const GrowingL2<T> grow(pruning::coupled_channels(plan, *net), s_.growing);
        say(join_text("growing regularization of ", grow.chosen().count(), " channels"));
        fit(net, {.name = "growing",
                  .epochs = s_.growing_epochs,
                  .lr = s_.finetune_lr,
                  .regularizer = [&](const models::Output<T>&,
                                     Index step) { return grow.chosen().count() > 0 ? grow(step) : Var<T>(); },
                  .resumes = false});
    }
    void cut(models::Model<T>& net, const pruning::Plan& plan) {
        std::map<Index, Latency> before{{1, {}}, {128, {}}, {s_.latency_batch, {}}};
        const Cost whole = cost(net, images_.shape());
        for (auto& [batch, time] : before) time = measure_latency(net, images_.shape(), {.batch = batch});
        const Certificate certificate = pruning::apply(plan, net, &lineage_).certificate;
        for (const auto& [batch, time] : before) {
            const Latency after = measure_latency(net, images_.shape(), {.batch = batch});
            say(join_text("batch ", batch, ": ", verdict(whole, cost(net, images_.shape()), time, after)));
            if (plan.milliseconds_before > 0 && batch == s_.latency_batch)
                say(join_text("predicted at batch ", batch, ": ", plan.milliseconds_after / plan.milliseconds_before,
                              " of the time (", plan.milliseconds_before, " ms to ", plan.milliseconds_after, " ms)"));
        }
        certified(certificate);
        save_pruned(net);
    }
    /// Cuts to the target in steps, with fine-tuning between them; the verb `finetune` follows the last.
    void cut_gradually(Network& net) {
        const auto after = [&](const pruning::PruningStep<T>& at) {
            say(join_text("step ", at.step, " of ", at.steps, ": to ", 100 * at.keep, " %; MACs ", at.original.macs,
                          " to ", at.current.macs, at.plan.groups.empty() ? ", as before" : ""));
            if (!at.plan.groups.empty()) certified(at.surgery.certificate);
            if (at.step == at.steps || s_.step_epochs == 0) return;
            fit(net,
                {.name = join_text("step", at.step), .epochs = s_.step_epochs, .lr = s_.finetune_lr, .resumes = false});
        };
        pruning::prune_gradually(*net, images_.shape(), options_of_target(*net), s_.gradual, after, &lineage_);
        save_pruned(*net);
    }
    void certified(const Certificate& certificate) {
        record_.certificate = certificate;
        say(to_text(certificate));
        expect<StateError>(certificate.holds() || !certificate.note.empty(),
                           "prune: expected a certificate that holds, got ", to_text(certificate));
    }
    void save_pruned(models::Model<T>& net) {
        Sgd<T> none(net, {});
        save("pruned", net, none, {});
    }
    void measured(const std::string& name, models::Model<T>& net) {
        Stage stage;
        stage.accuracy = evaluate(net, images_.batches_of(images_.test())).accuracy;
        stage.cost = cost(net, images_.shape());
        TensorFile weights;
        save_state(weights, net);
        if (folder_.is_written()) write_safetensors(weights, folder_.path(name + ".weights.safetensors"));
        stage.bytes = safetensors_bytes(weights);
        for (const Index batch : {1, 128})
            stage.latencies[batch] = measure_latency(net, images_.shape(), {.batch = batch});
        say(join_text(name, ": test accuracy ", 100 * stage.accuracy, " %, ", to_text(stage.cost)));
        record_.stages.emplace_back(name, stage);
    }
    void finish(const std::string& plan = "") {
        record_.seconds = steady_seconds() - start_;
        std::cout << "\n" << record_.table();
        for (const std::string& warning : record_.warnings) say(warning);
        record_.save(folder_.path("record.json"));
        record_.save_page(folder_.path("report.html"), plan, plots_);
        say(join_text("record in ", folder_.path("record.json"), ", report in ", folder_.path("report.html")));
    }

    Settings s_;
    RunFolder folder_;
    Images images_;
    Record record_;
    double start_;             ///< of this process, in seconds
    pruning::Lineage lineage_; ///< of the network's cuts, those before this process included
    std::vector<std::string> plots_;
    pruning::LatencyTable table_; ///< what a target of latency is predicted by
};

} // namespace

int run(const Experiment& experiment, int argc, char** argv) {
    Settings settings;
    if (const auto done = parse(experiment, argc, argv, settings)) return *done;
    try {
        synchronise(settings.device); // one that is not there is an error before anything is done
        const PathScope path(settings.path);
        const MatmulPrecisionScope precision(settings.precision);
        Session session(experiment, settings);
        if (settings.verb == "train") session.train();
        if (settings.verb == "plan") session.plan();
        if (settings.verb == "sensitivity") session.sensitivity();
        if (settings.verb == "prune") session.prune();
        if (settings.verb == "finetune") session.finetune();
        if (settings.verb == "eval") session.eval();
        if (settings.verb == "bench") session.bench();
        if (settings.verb == "export") session.deploy();
        if (settings.verb == "demo") session.demo();
    } catch (const std::exception& error) {
        std::cout.flush();
        std::cerr << experiment.name << ": " << error.what() << std::endl;
        return 1;
    }
    return 0;
}

} // namespace espalier::programs
