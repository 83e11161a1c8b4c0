#pragma once

#include "saved_network.hpp"
#include "settings.hpp"

#include <espalier/data/loader.hpp>

namespace espalier::programs {

/// The images of a run, prepared as a network takes them: the one that was opened, else as the settings say.
class Images {
public:
    /// Of a network that will be trained; nothing is read yet. Experiment and settings must outlive it.
    Images(const Experiment& experiment, const Settings& settings);

    /// From now on prepared as for this network. @param classes that it tells apart
    void prepare_as(DataDescription description, Index classes);
    /// Reads both sets and says so, and measures what normalizes the images unless a network has said that.
    /// @throws StateError  if they are not what the opened network was trained on
    /// @throws what the experiment's `load` throws
    void load();

    /// Batches of the training images in random order, without the last incomplete one.
    Loader<float> training_batches(bool augmented) const;
    /// Batches in the order of a set, as networks are tested on them.
    Loader<float> batches_of(const ImageSet& set) const;

    /// [H,W,C] as the network takes them; empty before there is a network or `load`.
    const Shape& shape() const { return description_.image; }
    /// How they are prepared.
    const DataDescription& description() const { return description_; }
    /// Before `load` without images.
    /// @{
    const ImageSet& train() const { return train_; }
    const ImageSet& test() const { return test_; }
    /// @}

private:
    const Experiment& experiment_;
    const Settings& settings_;
    ImageSet train_, test_;
    DataDescription description_;
    Index classes_ = 0; ///< of the network that was opened
};

} // namespace espalier::programs
