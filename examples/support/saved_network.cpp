#include "saved_network.hpp"

#include "network.hpp"

#include <espalier/io/example.hpp>
#include <espalier/io/lineage_file.hpp>

#include <iostream>

namespace espalier::programs {
namespace {

/// One name a line, as metadata holds text; no published name has a line end.
constexpr const char* class_names_key = "class_names";

DataDescription description_of(const TensorFile& extra) {
    const auto numbers = [&](const char* name) {
        const Tensor<double> tensor = extra.get<double>(name);
        return std::vector<double>(tensor.begin(), tensor.end());
    };
    const Tensor<Index> extents = extra.get<Index>("image");
    expect<StateError>(extents.shape() == Shape{3}, "read_network: expected the extents of an image [3], got ",
                       extents.shape(), " in ", extra.source());
    DataDescription data{.image = {extents.at(0), extents.at(1), extents.at(2)},
                         .downscale = extra.get<Index>("downscale").item(),
                         .normalize = {.mean = numbers("normalize.mean"), .deviation = numbers("normalize.deviation")},
                         .class_names = {}};
    if (const auto names = extra.metadata.find(class_names_key); names != extra.metadata.end()) {
        data.class_names.emplace_back();
        for (const char c : names->second)
            if (c == '\n')
                data.class_names.emplace_back();
            else
                data.class_names.back() += c;
    }
    return data;
}

// Compares what a network that was restored says of the images in its checkpoint with what it said when it was saved:
// the outcome in words, nothing for a checkpoint without images, StateError if it says something else.
std::string check_saved_example(const Checkpoint& checkpoint, models::Model<float>& net) {
    if (!checkpoint.extra.contains("example.images")) return ""; // saved by another program
    const ExampleCheck example = check_example(checkpoint.extra, net);
    return join_text(checkpoint.tensors.source(), ": logits of its example ",
                     example.bit_equal ? "bit for bit" : join_text("within ", example.difference));
}

// Whether a checkpoint has averages of the weights, under `ema.` of `extra`.
bool has_averages(const Checkpoint& checkpoint) { return checkpoint.extra.contains("ema.updates"); }

} // namespace

void save_description(TensorFile& extra, const DataDescription& data) {
    extra.add("image", Tensor<Index>::from({3}, {data.image[0], data.image[1], data.image[2]}));
    extra.add("downscale", Tensor<Index>::scalar(data.downscale));
    const Shape channels{data.image[2]};
    extra.add("normalize.mean", Tensor<double>::from(channels, data.normalize.mean));
    extra.add("normalize.deviation", Tensor<double>::from(channels, data.normalize.deviation));
    if (data.class_names.empty()) return;
    std::string& names = extra.metadata[class_names_key];
    for (const std::string& name : data.class_names) names += (&name == data.class_names.data() ? "" : "\n") + name;
}

SavedNetwork read_network(const std::string& path, models::Taps taps, Device device) {
    Checkpoint checkpoint = read_checkpoint(path);
    checkpoint.options.taps = taps;
    SavedNetwork saved{.net = make_network(checkpoint.model, checkpoint.options),
                       .data = description_of(checkpoint.extra),
                       .lineage = load_lineage(checkpoint.extra),
                       .example = ""};
    saved.net->to(device);
    restore(checkpoint, *saved.net);
    saved.example = check_saved_example(checkpoint, *saved.net);
    if (has_averages(checkpoint)) {
        Ema<float> averages(*saved.net, {});
        averages.load(checkpoint.extra, "ema.");
        averages.swap();
    }
    return saved;
}

Position resume(const std::string& path, const std::string& phase, models::Model<float>& net,
                Optimizer<float>& optimizer, Ema<float>* averages) {
    const Checkpoint checkpoint = read_checkpoint(path);
    restore(checkpoint, net, optimizer);
    if (const std::string example = check_saved_example(checkpoint, net); !example.empty())
        std::cout << example << std::endl;
    expect<StateError>(averages || !has_averages(checkpoint), phase, ": expected the --ema that ", path,
                       " was trained with, got none");
    if (averages) averages->load(checkpoint.extra, "ema.");
    return checkpoint.position;
}

} // namespace espalier::programs
