#include "images.hpp"

#include <espalier/data/normalize.hpp>

#include <iostream>
#include <utility>

namespace espalier::programs {

Images::Images(const Experiment& experiment, const Settings& settings) : experiment_(experiment), settings_(settings) {
    description_.downscale = settings.downscale;
}

void Images::prepare_as(DataDescription description, Index classes) {
    description_ = std::move(description);
    classes_ = classes;
}

void Images::load() {
    const Settings& s = settings_;
    train_ = experiment_.load(s, Split::train);
    test_ = experiment_.load(s, Split::test);
    expect<StateError>(classes_ == 0 || classes_ == train_.classes, s.verb, ": expected data of ", classes_,
                       " classes, as the network was trained on, got ", train_.name, " with ", train_.classes);
    const Index block = description_.downscale;
    const Shape image{train_.images.size(1) / block, train_.images.size(2) / block, train_.images.size(3)};
    expect<StateError>(classes_ == 0 || description_.image == image, s.verb, ": expected images ", description_.image,
                       ", as the network was trained on, got ", image, " from ", train_.name);
    if (s.subset > 0) train_ = subset(train_, {.count = s.subset, .pick = Pick::stratified, .seed = s.seed});
    description_.image = image;
    description_.class_names = train_.class_names;
    if (description_.normalize.empty()) description_.normalize = measure(train_);
    std::cout << join_text(train_.name, ": ", train_.size(), " training and ", test_.size(), " test images ", image)
              << std::endl;
}

Loader<float> Images::training_batches(bool augmented) const {
    const Settings& s = settings_;
    const Augment augment{s.crop, s.flip ? Flip::horizontal : Flip::none, s.cutout};
    return Loader<float>(train_, {.size = s.batch,
                                  .last = LastBatch::drop,
                                  .augment = augmented ? augment : Augment(),
                                  .normalize = description_.normalize,
                                  .downscale = description_.downscale,
                                  .seed = s.seed,
                                  .device = s.device});
}

Loader<float> Images::batches_of(const ImageSet& set) const {
    return Loader<float>(set, {.size = 500,
                               .shuffle = Shuffle::none,
                               .normalize = description_.normalize,
                               .downscale = description_.downscale,
                               .device = settings_.device});
}

} // namespace espalier::programs
