#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/random.hpp>
#include <espalier/io/module_state.hpp>
#include <espalier/io/safetensors.hpp>
#include <espalier/models/model.hpp>
#include <espalier/train/optimizer.hpp>
#include <espalier/train/progress.hpp>

// Not part of espalier.hpp: headers alone, it includes the JSON library, which costs seconds to compile.

namespace espalier::inline ESPALIER_BACKEND {

/// A run on disk: one safetensors file with everything that the next step depends on.
///
/// Tensors: the module's under `model.`, the optimizer's under `optimizer.`, the position under `run.`, and what hooks
/// keep for themselves under `extra.`. Metadata: model name and options, seed, versions, a hash of all contents.
struct Checkpoint {
    std::string model;               ///< `resnet20`
    models::Options options = {};    ///< of the model: `models::create(model, options)` makes it, `restore` its widths
    std::uint64_t seed = 0;          ///< of the run: order of the images, augmentation
    Position position = {};          ///< where the run goes on
    TensorFile extra = TensorFile(); ///< tensors and metadata of the program
    TensorFile tensors = TensorFile(); ///< what `restore` reads; filled by `read_checkpoint`
};

namespace detail {

inline constexpr const char* checkpoint_format = "espalier checkpoint 1";

std::string options_text(const models::Options& options);
/// Options that the text does not name keep their defaults: files of older versions lack some.
models::Options parse_options(const std::string& text, const std::string& source);
/// Model and options on one line; the seed only drew the first weights, which a checkpoint replaces.
std::string architecture(const std::string& model, models::Options options);

/// Of all names, types, shapes, bytes and metadata except itself.
std::string content_hash(const TensorFile& file);

} // namespace detail

/// Writes a checkpoint of `model` and `optimizer` at `position`, atomically: an older one at `path` stays until the new
/// one is whole. @throws IoError if it can't be written
template <class T>
void save_checkpoint(const std::string& path, const models::Model<T>& model, const Optimizer<T>& optimizer,
                     const Position& position, std::uint64_t seed = 0, const TensorFile& extra = TensorFile()) {
    TensorFile file(path);
    file.metadata = {{"format", detail::checkpoint_format},
                     {"library", ESPALIER_VERSION},
                     {"model", model.name()},
                     {"options", detail::options_text(model.options())},
                     {"seed", to_text(seed)}};
    save_state(file, model, "model.");
    optimizer.save(file, "optimizer.");
    const EpochTotals& totals = position.totals;
    file.add("run.position",
             Tensor<Index>::from({5}, {position.epoch, position.batch, position.step, totals.correct, totals.images}));
    file.add("run.totals", Tensor<double>::from({3}, {totals.loss, totals.cross_entropy, totals.regularizer}));
    for (const auto& [key, value] : extra.metadata) file.metadata["extra." + key] = value;
    for (const auto& [name, tensor] : extra.entries()) file.add("extra." + name, tensor);
    file.metadata["hash"] = detail::content_hash(file);
    write_safetensors(file, path);
}

/// Reads and checks a checkpoint; `restore` then puts it into a model.
/// @throws IoError if the file is missing or damaged, StateError if it is no checkpoint of this format
Checkpoint read_checkpoint(const std::string& path);

/// Gives a model the parameters, buffers, joins and widths of a checkpoint.
/// @throws StateError, with nothing changed, if the checkpoint is one of another model or scalar type
template <class T> void restore(const Checkpoint& checkpoint, const models::Model<T>& model) {
    const std::string wanted = detail::architecture(model.name(), model.options());
    const std::string got = detail::architecture(checkpoint.model, checkpoint.options);
    expect<StateError>(wanted == got, "restore: expected a checkpoint of ", wanted, ", got ", got, " in ",
                       checkpoint.tensors.source());
    load_state(checkpoint.tensors, model, "model.");
}
/// As above, and gives the optimizer its state: what a run continues from.
template <class T> void restore(const Checkpoint& checkpoint, const models::Model<T>& model, Optimizer<T>& optimizer) {
    TensorFile before("the model before"); // values are replaced, not overwritten, so these handles keep the old ones
    save_state(before, model);
    restore(checkpoint, model);
    try {
        optimizer.load(checkpoint.tensors, "optimizer.");
    } catch (...) {
        load_state(before, model);
        throw;
    }
}

ESPALIER_COMPILED_FUNCTION(save_checkpoint);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/io/json.hpp>

#include <charconv>

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

ESPALIER_BODY std::string options_text(const models::Options& options) {
    return nlohmann::ordered_json{
        {"classes", options.classes},
        {"channels", options.channels},
        {"seed", options.seed},
        {"size", options.size},
        {"nonlinearity", options.nonlinearity == models::Nonlinearity::relu ? "relu" : "tanh"},
        {"shortcut", options.shortcut == models::Shortcut::projection ? "projection" : "padded"},
        {"stem", options.stem == models::Stem::imagenet ? "imagenet" : "small"},
        {"taps", options.taps == models::Taps::branches ? "branches" : "features"},
        {"widths", options.widths},
        {"hidden", options.hidden},
        {"pooled", options.pooled},
        {"dropout", options.dropout}}
        .dump();
}

ESPALIER_BODY models::Options parse_options(const std::string& text, const std::string& source) {
    try {
        const auto json = parse_json("read_checkpoint", text, source);
        const auto whole = [&](const char* key) { return whole_number("read_checkpoint", json.at(key), source); };
        expect<StateError>(json.at("seed").is_number_unsigned(), "read_checkpoint: expected a seed, got ",
                           json.at("seed").dump(), " in ", source);
        models::Options options{.classes = whole("classes"),
                                .channels = whole("channels"),
                                .seed = json.at("seed").get<std::uint64_t>(),
                                .size = whole("size")};
        const auto nonlinearity = json.at("nonlinearity").get<std::string>();
        const auto shortcut = json.at("shortcut").get<std::string>();
        const auto stem = json.value("stem", std::string("small"));
        const auto taps = json.value("taps", std::string("features"));
        options.widths = json.value("widths", options.widths);
        options.hidden = json.value("hidden", options.hidden);
        options.pooled = json.value("pooled", options.pooled);
        options.dropout = json.value("dropout", options.dropout);
        expect<StateError>((nonlinearity == "relu" || nonlinearity == "tanh") &&
                               (shortcut == "projection" || shortcut == "padded") &&
                               (stem == "imagenet" || stem == "small") && (taps == "branches" || taps == "features"),
                           "read_checkpoint: expected known options, got ", text, " in ", source);
        if (nonlinearity == "relu") options.nonlinearity = models::Nonlinearity::relu;
        if (shortcut == "projection") options.shortcut = models::Shortcut::projection;
        if (stem == "imagenet") options.stem = models::Stem::imagenet;
        if (taps == "branches") options.taps = models::Taps::branches;
        return options;
    } catch (const nlohmann::json::exception& error) {
        throw StateError(
            join_text("read_checkpoint: expected the options of a model, got ", error.what(), " in ", source));
    }
}

ESPALIER_BODY std::string architecture(const std::string& model, models::Options options) {
    options.seed = 0;
    options.taps = models::Taps::features; // of one run, not of the network
    return model + " " + options_text(options);
}

ESPALIER_BODY std::string content_hash(const TensorFile& file) {
    std::string digest;
    for (const auto& [key, value] : file.metadata)
        if (key != "hash") digest += join_text(key.size(), key, value.size(), value);
    for (const auto& [name, tensor] : file.entries())
        std::visit(
            [&, &entry = name]<class A>(const A& t) {
                if constexpr (!std::is_same_v<A, ForeignTensor>)
                    digest += join_text(entry, element_type(t), t.shape(),
                                        Random::hash({reinterpret_cast<const char*>(t.data()),
                                                      static_cast<std::size_t>(t.size()) * sizeof(*t.data())}));
            },
            tensor);
    return to_text(Random::hash(digest));
}

} // namespace detail

ESPALIER_BODY Checkpoint read_checkpoint(const std::string& path) {
    Checkpoint result;
    result.tensors = read_safetensors(path);
    TensorFile& file = result.tensors;
    const auto format = file.metadata.find("format");
    expect<StateError>(format != file.metadata.end() && format->second == detail::checkpoint_format,
                       "read_checkpoint: expected '", detail::checkpoint_format, "', got ",
                       format == file.metadata.end() ? "no format" : "'" + format->second + "'", " in ", path);
    expect<IoError>(file.text("hash") == detail::content_hash(file), "read_checkpoint: expected contents of hash ",
                    file.text("hash"), ", got ", detail::content_hash(file), " in ", path, ": the file is damaged");
    result.model = file.text("model");
    result.options = detail::parse_options(file.text("options"), path);
    const std::string& seed = file.text("seed");
    const auto [end, error] = std::from_chars(seed.data(), seed.data() + seed.size(), result.seed);
    expect<StateError>(error == std::errc() && end == seed.data() + seed.size(),
                       "read_checkpoint: expected a seed, got '", seed, "' in ", path);
    const Tensor<Index> at = file.get<Index>("run.position");
    const Tensor<double> totals = file.get<double>("run.totals");
    expect<StateError>(at.shape() == Shape{5} && totals.shape() == Shape{3},
                       "read_checkpoint: expected a position [5] and totals [3], got ", at.shape(), " and ",
                       totals.shape(), " in ", path);
    result.position = {.epoch = at.at(0),
                       .batch = at.at(1),
                       .step = at.at(2),
                       .totals = {totals.at(0), totals.at(1), totals.at(2), at.at(3), at.at(4)}};
    result.extra = TensorFile(path);
    const std::string prefix = "extra.";
    for (const auto& [key, value] : file.metadata)
        if (key.starts_with(prefix)) result.extra.metadata[key.substr(prefix.size())] = value;
    for (const auto& [name, tensor] : file.entries())
        if (name.starts_with(prefix)) result.extra.add(name.substr(prefix.size()), tensor);
    return result;
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
