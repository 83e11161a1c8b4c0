#include "experiment.hpp"

#include "exporting.hpp"
#include "network.hpp"
#include "planning.hpp"
#include "record.hpp"
#include "saved_network.hpp"
#include "training.hpp"
#include "training_log.hpp"

#include <espalier/core/parallel.hpp>
#include <espalier/core/steady_clock.hpp>
#include <espalier/data/loader.hpp>
#include <espalier/data/normalize.hpp>
#include <espalier/io/example.hpp>
#include <espalier/io/folder_lock.hpp>
#include <espalier/io/plan_file.hpp>
#include <espalier/pruning/surgery.hpp>
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
        : experiment_(experiment), s_(settings), record_{s_, experiment.name, {}, {}, 0, {}}, start_(steady_seconds()) {
        set_threads(s_.threads);
        data_.downscale = s_.downscale;
        const bool writes_elsewhere = s_.verb == "plan" && !s_.plan_file.empty();
        if (s_.verb != "eval" && s_.verb != "bench" && !writes_elsewhere) {
            std::error_code error;
            std::filesystem::create_directories(s_.out, error);
            expect<IoError>(!error, s_.verb, ": expected to write to the folder ", s_.out, ", got ", error.message());
            lock_ = std::make_unique<FolderLock>(s_.out);
        }
        std::signal(SIGINT, interrupt);
        std::signal(SIGTERM, interrupt);
    }

    void train() {
        load_data();
        Network net = fresh_network();
        say(s_.model + ": " + to_text(cost(*net, data_.image)));
        fit(net, {.name = "dense", .epochs = s_.epochs, .lr = s_.lr, .regularized = true});
        measured("dense", *net);
        finish();
    }
    void plan() {
        const Network net = open(from_or(path("dense.safetensors")));
        const pruning::Plan plan = plan_of(*net);
        std::cout << to_text(plan);
        const std::string file = s_.plan_file.empty() ? path("plan.json") : s_.plan_file;
        save_plan(plan, file);
        say("plan in " + file + ": edit the channels that are `kept`, then prune");
    }
    void prune() {
        const Network net = open(from_or(path("dense.safetensors")));
        load_data();
        const std::string file = s_.plan_file.empty() ? path("plan.json") : s_.plan_file;
        const bool target = s_.keep_macs || s_.keep_parameters || s_.keep_channels || s_.threshold;
        expect(!target || s_.plan_file.empty(), "prune: expected a plan or a target, got both --plan ", s_.plan_file,
               " and a target");
        const bool planned = !target && (!s_.plan_file.empty() || std::filesystem::exists(file));
        const pruning::Plan plan = planned ? load_plan(file) : plan_of(*net);
        if (!planned) save_plan(plan, file);
        if (s_.from.empty()) record_.continue_from(path("record.json"), "pruned");
        cut(*net, plan);
        measured("pruned", *net);
        finish();
    }
    void finetune() {
        Network net = open(from_or(path("pruned.safetensors")));
        load_data();
        if (s_.from.empty()) record_.continue_from(path("record.json"), "finetuned");
        fit(net, {.name = "finetuned", .epochs = s_.finetune_epochs, .lr = s_.finetune_lr, .regularized = false});
        measured("finetuned", *net);
        finish();
    }
    void eval() {
        const Network net = open(from_or(latest()));
        load_data();
        measured("network", *net);
        std::cout << record_.table();
    }
    void bench() {
        const Network before = open(path("dense.safetensors")), after = open(from_or(latest()));
        const double macs = share(cost(*after, data_.image).macs, cost(*before, data_.image).macs);
        for (const Index batch : {1, 128}) {
            const Latency a = measure_latency(*before, data_.image, {.batch = batch});
            const Latency b = measure_latency(*after, data_.image, {.batch = batch});
            std::printf("batch %3d: %.3f ms (%.3f to %.3f) before, %.3f ms (%.3f to %.3f) after: %.2f of the time with "
                        "%.2f of the MACs%s\n",
                        static_cast<int>(batch), a.median, a.lowest, a.highest, b.median, b.lowest, b.highest,
                        b.median / a.median, macs,
                        clearly_faster(a, b) ? "" : "; not clearly faster, the rounds overlap");
        }
    }
    void deploy() {
        const Network net = open(from_or(latest()));
        say(export_network(*net, data_, s_));
    }
    void demo() {
        load_data();
        Network net = fresh_network();
        say("training " + s_.model + " (" + to_text(cost(*net, data_.image)) + ") with feature flow regularization");
        fit(net, {.name = "dense", .epochs = s_.epochs, .lr = s_.lr, .regularized = true});
        measured("dense", *net);
        const pruning::Plan plan = plan_of(*net);
        save_plan(plan, path("plan.json"));
        std::cout << to_text(plan);
        cut(*net, plan);
        measured("pruned", *net);
        say("fine-tuning");
        fit(net, {.name = "finetuned", .epochs = s_.finetune_epochs, .lr = s_.finetune_lr, .regularized = false});
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
        bool regularized;
    };

    static double share(Index part, Index whole) { return static_cast<double>(part) / static_cast<double>(whole); }
    std::string path(const std::string& file) const { return s_.out + "/" + file; }
    /// The checkpoint to work on: that of --from, or else of this stage.
    std::string from_or(const std::string& stage) const { return s_.from.empty() ? stage : s_.from; }
    /// The furthest stage that the folder holds.
    std::string latest() const {
        for (const char* file : {"finetuned.safetensors", "pruned.safetensors"})
            if (std::filesystem::exists(path(file))) return path(file);
        return path("dense.safetensors");
    }

    models::Taps taps() const {
        return s_.ffr.difference == FlowDifference::branches ? models::Taps::branches : models::Taps::features;
    }
    Network fresh_network() const {
        models::Options options = s_.network;
        options.taps = taps();
        options.classes = train_.classes;
        options.channels = train_.images.size(3);
        options.seed = s_.seed;
        options.size = data_.image[0];
        return make_network(s_.model, options);
    }

    void load_data() {
        train_ = experiment_.load(s_, Split::train);
        test_ = experiment_.load(s_, Split::test);
        expect<StateError>(classes_ == 0 || classes_ == train_.classes, s_.verb, ": expected data of ", classes_,
                           " classes, as the network was trained on, got ", train_.name, " with ", train_.classes);
        const Index block = data_.downscale;
        const Shape image{train_.images.size(1) / block, train_.images.size(2) / block, train_.images.size(3)};
        expect<StateError>(classes_ == 0 || data_.image == image, s_.verb, ": expected images ", data_.image,
                           ", as the network was trained on, got ", image, " from ", train_.name);
        if (s_.subset > 0) train_ = subset(train_, {.count = s_.subset, .pick = Pick::stratified, .seed = s_.seed});
        data_.image = image;
        data_.class_names = train_.class_names;
        if (data_.normalize.empty()) data_.normalize = measure(train_);
        say(join_text(train_.name, ": ", train_.size(), " training and ", test_.size(), " test images ", image));
    }
    Loader<T> train_loader(bool augmented) const {
        const Augment augment{s_.crop, s_.flip ? Flip::horizontal : Flip::none, s_.cutout};
        return Loader<T>(train_, {.size = s_.batch,
                                  .last = LastBatch::drop,
                                  .augment = augmented ? augment : Augment(),
                                  .normalize = data_.normalize,
                                  .downscale = data_.downscale,
                                  .seed = s_.seed});
    }
    /// Batches in the order of the set, as networks are tested on them.
    Loader<T> loader_of(const ImageSet& set) const {
        return Loader<T>(
            set, {.size = 500, .shuffle = Shuffle::none, .normalize = data_.normalize, .downscale = data_.downscale});
    }

    /// The network of a checkpoint, whose images are prepared as in training, whatever the command line says.
    Network open(const std::string& file) {
        expect_checkpoint(file);
        const SavedNetwork saved = read_network(file, taps());
        if (!saved.example.empty()) say(saved.example);
        s_.model = saved.net->name();
        classes_ = saved.net->options().classes;
        data_ = saved.data;
        return saved.net;
    }
    /// What a user reads who has not run the verb before this one.
    void expect_checkpoint(const std::string& file) const {
        expect<IoError>(std::filesystem::exists(file), s_.verb, ": expected the checkpoint ", file,
                        ", got no such file; --out or --from names where it is");
    }
    void save(const std::string& name, models::Model<T>& net, const Optimizer<T>& optimizer, const Position& position,
              const Ema<T>* averages = nullptr) const {
        TensorFile extra;
        auto examples = loader_of(subset(test_, {.count = std::min<Index>(2, test_.size())})).epoch(0);
        save_example(extra, net, examples.begin()->images);
        save_description(extra, data_);
        if (averages) averages->save(extra, "ema.");
        save_checkpoint(path(name + ".safetensors"), net, optimizer, position, s_.seed, extra);
    }

    void fit(Network& net, const Phase& phase) {
        const Loader<T> loader = train_loader(true);
        expect<StateError>(loader.batches() > 0, phase.name, ": expected a --batch of at most the ", train_.size(),
                           " training images, got ", s_.batch);
        const Index steps = phase.epochs * loader.batches();
        const auto optimizer = optimizer_of(s_, *net, phase.lr);
        std::unique_ptr<Ema<T>> ema; // if it is wanted
        if (s_.ema > 0) ema = std::make_unique<Ema<T>>(*net, EmaOptions{.decay = s_.ema, .start = EmaStart::ramped});
        const std::vector<NamedVar<T>> parameters = net->parameters();
        const auto regularizer = regularizer_of(s_, *net);
        const Position start = s_.resume.empty() ? Position() : resume(*net, *optimizer, ema.get(), phase.name);
        if (start.step > 0) say(join_text("resumed at step ", start.step, " of ", steps));
        TrainingLog log(path(phase.name + ".csv"), s_, start.step, steps);
        double gradient_norm = 0; // of the last step, before clipping
        report::ProgressBar bar(stdout);
        Trainer<T> trainer(
            *net, *optimizer,
            {.epochs = phase.epochs,
             .schedule = schedule_of(s_, phase.lr, steps),
             .loss = {.label_smoothing = s_.label_smoothing},
             .regularizer =
                 [&](const models::Output<T>& out, Index step) {
                     log.gauge(step + 1, *net, out);
                     return phase.regularized ? regularizer(out, step) : Var<T>();
                 },
             .before_step = {[&](const Progress&) {
                 if (s_.clip_norm > 0) gradient_norm = clip_gradient_norm(parameters, s_.clip_norm);
             }},
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
                                       "; continue with --resume ", path(phase.name + ".safetensors")));
        if (ema) ema->swap(); // from here on the network is the averaged one
        for (std::string& plot : log.plots(phase.name)) plots_.push_back(std::move(plot));
    }
    /// Gives a phase the state of the checkpoint --resume. @return where it goes on
    Position resume(models::Model<T>& net, Optimizer<T>& optimizer, Ema<T>* ema, const std::string& phase) const {
        expect_checkpoint(s_.resume);
        const Checkpoint checkpoint = read_checkpoint(s_.resume);
        restore(checkpoint, net, optimizer);
        if (const std::string example = check_saved_example(checkpoint, net); !example.empty()) say(example);
        expect<StateError>(ema || !has_averages(checkpoint), phase, ": expected the --ema that ", s_.resume,
                           " was trained with, got none");
        if (ema) ema->load(checkpoint.extra, "ema.");
        return checkpoint.position;
    }

    pruning::Plan plan_of(models::Model<T>& net) {
        return make_plan(net, data_.image, s_, [&] {
            if (train_.size() == 0) load_data();
            auto epoch = train_loader(false).epoch(0);
            return epoch.begin()->images;
        });
    }
    void cut(models::Model<T>& net, const pruning::Plan& plan) {
        record_.certificate = pruning::apply(plan, net).certificate;
        say(to_text(*record_.certificate));
        expect<StateError>(record_.certificate->holds() || !record_.certificate->note.empty(),
                           "prune: expected a certificate that holds, got ", to_text(*record_.certificate));
        Sgd<T> none(net, {});
        save("pruned", net, none, {});
    }
    void measured(const std::string& name, models::Model<T>& net) {
        Stage stage;
        stage.accuracy = evaluate(net, loader_of(test_)).accuracy;
        stage.cost = cost(net, data_.image);
        TensorFile weights;
        save_state(weights, net);
        if (lock_) write_safetensors(weights, path(name + ".weights.safetensors"));
        stage.bytes = safetensors_bytes(weights);
        for (const Index batch : {1, 128}) stage.latencies[batch] = measure_latency(net, data_.image, {.batch = batch});
        say(join_text(name, ": test accuracy ", 100 * stage.accuracy, " %, ", to_text(stage.cost)));
        record_.stages.emplace_back(name, stage);
    }
    void finish(const std::string& plan = "") {
        record_.seconds = steady_seconds() - start_;
        std::cout << "\n" << record_.table();
        for (const std::string& warning : record_.warnings) say(warning);
        record_.save(path("record.json"));
        record_.save_page(path("report.html"), plan, plots_);
        say(join_text("record in ", path("record.json"), ", report in ", path("report.html")));
    }

    const Experiment& experiment_;
    Settings s_;
    Record record_;
    std::unique_ptr<FolderLock> lock_; // of a verb that writes to the folder
    double start_;                     ///< of this process, in seconds
    ImageSet train_, test_;
    DataDescription data_; ///< of the data that was loaded, or of the network that was opened
    Index classes_ = 0;    ///< of the network that was opened
    std::vector<std::string> plots_;
};

} // namespace

int run(const Experiment& experiment, int argc, char** argv) {
    Settings settings;
    if (const auto done = parse(experiment, argc, argv, settings)) return *done;
    try {
        const PathScope path(settings.path);
        Session session(experiment, settings);
        if (settings.verb == "train") session.train();
        if (settings.verb == "plan") session.plan();
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
