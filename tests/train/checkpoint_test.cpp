#include "support/check.hpp"
#include "support/temporary_path.hpp"

#include <espalier/data/synthetic.hpp>
#include <espalier/models/create.hpp>
#include <espalier/nn/dropout.hpp>
#include <espalier/train/adam.hpp>
#include <espalier/train/checkpoint.hpp>
#include <espalier/train/clip.hpp>
#include <espalier/train/ema.hpp>
#include <espalier/train/sgd.hpp>
#include <espalier/train/trainer.hpp>

#include <fstream>

using namespace espalier;
using namespace espalier::test;

namespace {

/// Convolution, batch norm, a residual join and dropout: all kinds of state that a step depends on.
template <class T> class Net : public models::Model<T> {
public:
    explicit Net(const models::Options& options)
        : models::Model<T>("test net", options),
          block_(this->child("block", models::ResidualBlock<T>(3, 4, 2, models::Shortcut::padded))),
          dropout_(this->child("dropout", Dropout<T>(0.3))),
          linear_(this->child("linear", Linear<T>({.in = 4, .out = options.classes}))) {
        initialize(*this, Init::he(), options.seed);
    }
    models::Output<T> forward(const Var<T>& x) override {
        return {.logits = linear_.forward(dropout_.forward(global_avg_pool(block_.forward(x).y))), .flow = {}};
    }

private:
    models::ResidualBlock<T> block_;
    Dropout<T> dropout_;
    Linear<T> linear_;
};

Loader<float> loader() {
    return {data::synthetic({.count = 20, .channels = 3, .classes = 4}),
            {.size = 8, .augment = {.crop = 1, .flip = Flip::horizontal}, .seed = 9}};
}
constexpr Index steps = 9; // three epochs of batches of 8, 8 and 4

enum class Kind { sgd, adam, adamw };
std::unique_ptr<Optimizer<float>> optimizer_of(Kind kind, const Module<float>& net) {
    if (kind == Kind::adam) return std::make_unique<Adam<float>>(net, AdamOptions{.weight_decay = 1e-3});
    if (kind == Kind::adamw)
        return std::make_unique<Adam<float>>(net, AdamOptions{.form = DecayForm::decoupled, .weight_decay = 0.1});
    return std::make_unique<Sgd<float>>(net,
                                        SgdOptions{.momentum = 0.9, .form = Momentum::nesterov, .weight_decay = 1e-3});
}

/// Means of the three epochs, norms of the gradients, and everything that is saved after the last.
struct Outcome {
    std::vector<double> means = {}, norms = {};
    TensorFile state = TensorFile();
};

/// Trains to the end, with clipped gradients and averaged weights, and with a new network, optimizer, averages and
/// trainer after a checkpoint at step `stop_at`.
Outcome train(Kind kind, Index stop_at, const std::string& path) {
    Outcome outcome;
    for (const bool resumed : {false, true}) {
        if (resumed && stop_at == 0) break;
        Net<float> net({.classes = 4, .seed = resumed ? 77u : 1u});
        const auto optimizer = optimizer_of(kind, net);
        Ema<float> averages(net, {.decay = 0.9, .start = EmaStart::ramped});
        std::atomic<bool> stop = false;
        Trainer<float> trainer(
            net, *optimizer,
            {.epochs = 3,
             .schedule = schedules::one_cycle({.learning_rate = 0.1, .steps = steps}),
             .before_step = {[&](const Progress&) {
                 outcome.norms.push_back(clip_gradient_norm(net.parameters(), 1));
             }},
             .after_step = {[&](const Progress&) { averages.update(); },
                            [&](const Progress& p) { stop = !resumed && p.at.step == stop_at; }},
             .after_epoch = {[&](const Progress& p) { outcome.means.push_back(p.mean.total + p.accuracy); }},
             .stop = &stop});
        if (resumed) {
            const Checkpoint checkpoint = read_checkpoint(path);
            restore(checkpoint, net, *optimizer);
            averages.load(checkpoint.extra, "ema.");
            trainer.resume(checkpoint.position);
        }
        trainer.run(loader());
        outcome.state = TensorFile();
        save_state(outcome.state, net, "model.");
        optimizer->save(outcome.state, "optimizer.");
        averages.save(outcome.state, "ema.");
        TensorFile extra;
        averages.save(extra, "ema.");
        if (!resumed) save_checkpoint(path, net, *optimizer, trainer.position(), 9, extra);
    }
    return outcome;
}

} // namespace

TEST_CASE("checkpoint: a resumed run has the bits of one that was never interrupted") {
    const TemporaryPath file;
    for (const Kind kind : {Kind::sgd, Kind::adam, Kind::adamw}) {
        const Outcome whole = train(kind, 0, file.path);
        REQUIRE(whole.means.size() == 3);
        CHECK(*std::max_element(whole.norms.begin(), whole.norms.end()) > 1); // some were clipped
        for (const Index stop_at : {1, 3, 4, 8, 9}) {                         // within epochs, between two, at the end
            const Outcome parts = train(kind, stop_at, file.path);
            CHECK(parts.means == whole.means);
            CHECK(parts.norms == whole.norms);
            CHECK(detail::content_hash(parts.state) == detail::content_hash(whole.state));
        }
    }
}

TEST_CASE("checkpoint: position, seed, model, options and the program's own tensors come back") {
    const TemporaryPath file;
    Net<float> net({.classes = 7,
                    .channels = 3,
                    .seed = 5,
                    .shortcut = models::Shortcut::projection,
                    .stem = models::Stem::imagenet,
                    .taps = models::Taps::branches,
                    .widths = {8, 12},
                    .hidden = {512},
                    .pooled = 7,
                    .dropout = 0.25});
    Sgd<float> sgd(net, {});
    TensorFile extra;
    extra.metadata["note"] = "stress";
    extra.add("mask", Tensor<std::uint8_t>::from({2}, {1, 0}));
    save_checkpoint(file.path, net, sgd, {1, 2, 3, {0.1, 0.2, 0.3, 4, 5}}, 0xFFFFFFFFFFFFFFFFu, extra);
    const Checkpoint read = read_checkpoint(file.path);
    CHECK(read.model == "test net");
    CHECK(read.options.classes == 7);
    CHECK(read.options.seed == 5);
    CHECK(read.options.shortcut == models::Shortcut::projection);
    CHECK(read.options.nonlinearity == models::Nonlinearity::tanh);
    CHECK(read.options.stem == models::Stem::imagenet);
    CHECK(read.options.taps == models::Taps::branches);
    CHECK(read.options.widths == std::vector<Index>{8, 12});
    CHECK(read.options.hidden == std::vector<Index>{512});
    CHECK(read.options.pooled == 7);
    CHECK(read.options.dropout == 0.25);
    CHECK(read.seed == 0xFFFFFFFFFFFFFFFFu);
    CHECK(read.position.epoch == 1);
    CHECK(read.position.batch == 2);
    CHECK(read.position.step == 3);
    CHECK(read.position.totals.regularizer == 0.3);
    CHECK(read.position.totals.correct == 4);
    CHECK(read.position.totals.images == 5);
    CHECK(read.extra.text("note") == "stress");
    CHECK(read.extra.get<std::uint8_t>("mask").at(0) == 1);
    CHECK_THROWS_WITH_AS(read.extra.get<float>("scale"), doctest::Contains(file.path.c_str()), StateError);
}

TEST_CASE("checkpoint: options that an older file lacks are the defaults; unknown ones are an error") {
    const std::string old =
        R"({"classes":7,"channels":3,"seed":5,"size":28,"nonlinearity":"tanh","shortcut":"projection")";
    const models::Options read = detail::parse_options(old + "}", "old");
    CHECK(detail::options_text(read) ==
          detail::options_text({.classes = 7, .seed = 5, .shortcut = models::Shortcut::projection}));
    CHECK_THROWS_WITH_AS(detail::parse_options(old + R"(,"stem":"large"})", "old"),
                         doctest::Contains("read_checkpoint: expected known options, got {"), StateError);
    CHECK_THROWS_WITH_AS(detail::parse_options(old + R"(,"hidden":"many"})", "old"),
                         doctest::Contains("read_checkpoint: expected the options of a model, got "), StateError);
}

TEST_CASE("checkpoint: the model is made again from its file, pruned widths and all") {
    const TemporaryPath file;
    auto net = models::create<float>("resnet20", {.classes = 5});
    Var<float> weight = net->find("stage1.0.conv1.weight");
    weight.set_value(random_tensor<float>({9, 3, 3, 16}));
    save_checkpoint(file.path, *net, Sgd<float>(*net, {}), {});
    const Checkpoint read = read_checkpoint(file.path);
    const auto again = models::create<float>(read.model, read.options);
    restore(read, *again);
    CHECK(same_bits(again->find("stage1.0.conv1.weight").value(), weight.value()));
}

TEST_CASE("checkpoint: one of another model, type or optimizer is one error, and nothing is changed") {
    const TemporaryPath file;
    Net<float> net({.classes = 4, .seed = 1});
    Sgd<float> sgd(net, {.momentum = 0.9});
    save_checkpoint(file.path, net, sgd, {});
    const Checkpoint read = read_checkpoint(file.path);

    const auto other = models::create<float>("lenet5");
    CHECK_THROWS_WITH_AS(restore(read, *other), doctest::Contains("a checkpoint of lenet5 {"), StateError);
    CHECK_THROWS_WITH_AS(restore(read, Net<float>({.classes = 9})), doctest::Contains("\"classes\":9"), StateError);
    CHECK_THROWS_WITH_AS(restore(read, Net<double>({.classes = 4})), doctest::Contains("of type F64, got F32"),
                         StateError);

    Net<float> mine({.classes = 4, .seed = 2});
    Adam<float> adam(mine, {});
    TensorFile before, after;
    save_state(before, mine);
    CHECK_THROWS_WITH_AS(restore(read, mine, adam), doctest::Contains("no optimizer.mean.block.conv1.weight"),
                         StateError);
    save_state(after, mine);
    CHECK(detail::content_hash(before) == detail::content_hash(after));
}

TEST_CASE("checkpoint: a damaged, truncated or foreign file is an error, and a failed write leaves the old one") {
    const TemporaryPath file;
    Net<float> net({.classes = 4});
    Sgd<float> sgd(net, {});
    save_checkpoint(file.path, net, sgd, {});
    const std::string whole = slurp(file.path);

    CHECK_THROWS_AS(save_checkpoint("/proc/checkpoint", net, sgd, {}), IoError);
    TensorFile extra;
    extra.metadata["bad"] = "\xff";
    CHECK_THROWS_AS(save_checkpoint(file.path, net, sgd, {}, 0, extra), StateError);
    CHECK(slurp(file.path) == whole);

    const auto spill = [&](const std::string& bytes) { std::ofstream(file.path, std::ios::binary) << bytes; };
    std::string damaged = whole;
    damaged[whole.size() - 5] = static_cast<char>(damaged[whole.size() - 5] ^ 1);
    spill(damaged);
    CHECK_THROWS_WITH_AS(read_checkpoint(file.path), doctest::Contains("the file is damaged"), IoError);
    spill(whole.substr(0, whole.size() / 2));
    CHECK_THROWS_WITH_AS(read_checkpoint(file.path), doctest::Contains(file.path.c_str()), IoError);
    TensorFile weights;
    save_state(weights, net);
    write_safetensors(weights, file.path);
    CHECK_THROWS_WITH_AS(read_checkpoint(file.path), doctest::Contains("'espalier checkpoint 1', got no format"),
                         StateError);
}

TEST_CASE("checkpoint: contents that do not belong in one are an error, even with the right hash") {
    const TemporaryPath file;
    Net<float> net({.classes = 4});
    save_checkpoint(file.path, net, Sgd<float>(net, {}), {});
    const TensorFile whole = read_safetensors(file.path);
    /// The checkpoint with other metadata, and with another tensor if it has a name.
    const auto fails = [&](const std::string& key, const std::string& value, const char* text,
                           const std::string& tensor = "", const AnyTensor& other = {}) {
        TensorFile forged(file.path);
        forged.metadata = whole.metadata;
        forged.metadata[key] = value;
        for (const auto& [name, content] : whole.entries()) forged.add(name, name == tensor ? other : content);
        forged.metadata["hash"] = detail::content_hash(forged);
        write_safetensors(forged, file.path);
        CHECK_THROWS_WITH_AS(read_checkpoint(file.path), doctest::Contains(text), Error);
    };
    const std::string options = whole.text("options");
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string text = options;
        return text.replace(text.find(from), from.size(), to);
    };
    fails("options", "{", "expected the options of a model, got ");
    fails("options", "{}", "expected the options of a model, got ");
    fails("options", std::string(1000, '['), "at most 16 levels");
    fails("options", with("\"tanh\"", "\"gelu\""), "expected known options");
    fails("options", with("\"padded\"", "\"none\""), "expected known options");
    fails("options", with("\"classes\":4", "\"classes\":4.5"), "expected a whole number below 2^63");
    fails("options", with("\"channels\":", "\"channels\":1e300,\"were\":"), "expected a whole number below 2^63");
    fails("options", with("\"seed\":", "\"seed\":-1,\"was\":"), "expected a seed, got -1");
    fails("seed", "9x", "expected a seed, got '9x'");
    fails("seed", "", "expected a seed, got ''");
    fails("format", "espalier checkpoint 9", "got 'espalier checkpoint 9'");
    fails("note", "", "expected a position [5] and totals [3], got [4] and [3]", "run.position",
          Tensor<Index>::zeros({4}));
    fails("note", "", "expected a position [5] and totals [3], got [5] and []", "run.totals",
          Tensor<double>::scalar(0));
    fails("note", "", "'run.position' of type I64, got F32", "run.position", Tensor<float>::zeros({5}));
}
