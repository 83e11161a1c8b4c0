#pragma once

#include <espalier/data/normalize.hpp>
#include <espalier/io/tensor_file.hpp>
#include <espalier/models/model.hpp>
#include <espalier/pruning/lineage.hpp>
#include <espalier/train/checkpoint.hpp>

#include <memory>
#include <string>
#include <vector>

namespace espalier::programs {

/// What a network takes and what its answers mean: a checkpoint keeps it beside the state of the run.
struct DataDescription {
    Shape image;                          ///< [H,W,C] as the network takes them
    Index downscale = 1;                  ///< side of the blocks of pixels that are averaged into one
    ChannelStatistics normalize;          ///< of the training images
    std::vector<std::string> class_names; ///< one a class, or none: not every set, and no older checkpoint, has them
};

/// Adds the description to what a checkpoint keeps in `extra`.
void save_description(TensorFile& extra, const DataDescription& data);

/// A network as a checkpoint has it: the averages of its weights, if there are any.
struct SavedNetwork {
    std::shared_ptr<models::Model<float>> net;
    DataDescription data;
    pruning::Lineage lineage; ///< what its cuts left of the first network
    std::string example;      ///< what `check_saved_example` says
};

/// Reads a network and its description; its flow will have these maps, whatever it had when it was saved.
/// @throws what `read_checkpoint` throws, StateError without a description
SavedNetwork read_network(const std::string& path, models::Taps taps);

/// Compares what a network that was restored says of the images in its checkpoint with what it said when it was saved.
/// @return the outcome in words; nothing for a checkpoint without images. @throws StateError if it says something else
std::string check_saved_example(const Checkpoint& checkpoint, models::Model<float>& net);

/// Whether a checkpoint has averages of the weights, under `ema.` of `extra`.
bool has_averages(const Checkpoint& checkpoint);

} // namespace espalier::programs
