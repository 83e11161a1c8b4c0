#pragma once

#include <espalier/data/normalize.hpp>
#include <espalier/io/tensor_file.hpp>
#include <espalier/models/model.hpp>
#include <espalier/pruning/lineage.hpp>
#include <espalier/train/checkpoint.hpp>
#include <espalier/train/ema.hpp>

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
    std::string example;      ///< how its answers compare with those that were saved, in words; empty for none
};

/// Reads a network and its description to a device; its flow will have these maps, whatever it had when it was saved.
/// @throws what `read_checkpoint` throws, StateError without a description or if its answers are not those saved
SavedNetwork read_network(const std::string& path, models::Taps taps, Device device);

/// Gives a phase of training the state of a checkpoint, its averages included, and says what the network says of the
/// images there. @return where it goes on
/// @throws what `read_checkpoint` and `restore` throw; StateError if the network says something else than when it was
/// saved, or there are averages and nobody takes them
Position resume(const std::string& path, const std::string& phase, models::Model<float>& net,
                Optimizer<float>& optimizer, Ema<float>* averages);

} // namespace espalier::programs
