#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/data/dataset.hpp>

// The binary versions of CIFAR-10 and CIFAR-100. Source: Krizhevsky 2009; the page of the two sets describes the
// format: records of label bytes and then 1024 bytes each of red, green and blue, row by row.

namespace espalier::inline ESPALIER_BACKEND {

/// Which of the two labels of a CIFAR-100 image: its class of 100, or the superclass of 20 that has five of them.
enum class CifarLabels { fine, coarse };

namespace data {

/// CIFAR-10, binary version: 50,000 training and 10,000 test images [32,32,3] of ten classes.
///
/// `folder` holds the .bin files or the folder `cifar-10-batches-bin` with them.
/// @throws IoError naming the file and the offset, and saying where to get the set
ImageSet Cifar10(const std::string& folder, Split split);

/// CIFAR-100, binary version: 50,000 training and 10,000 test images [32,32,3] of 100 classes in 20 superclasses.
///
/// `folder` holds `train.bin` and `test.bin` or the folder `cifar-100-binary` with them. A record starts with the
/// coarse label and the fine one; both are checked.
/// @throws IoError naming the file and the offset, and saying where to get the set
ImageSet Cifar100(const std::string& folder, Split split, CifarLabels labels = CifarLabels::fine);

} // namespace data
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/data/file.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// One of a record's label bytes.
struct CifarLabel {
    const char* what;
    std::vector<std::string> class_names;
};

struct CifarSource {
    const char* who;
    const char* name;
    const char* folder; ///< as it is unpacked
    std::vector<std::string> train, test;
    std::vector<CifarLabel> labels; ///< in the order of their bytes
    std::size_t label;              ///< which of them is asked for
};

inline ImageSet read_cifar(const std::string& folder, Split split, const CifarSource& source) {
    constexpr Index plane = 32 * 32;
    const auto label_bytes = static_cast<Index>(source.labels.size()), record = label_bytes + 3 * plane;
    const std::string get = join_text("; get \"", source.name,
                                      " binary version\" from www.cs.toronto.edu/~kriz/cifar.html and unpack it there");
    std::vector<FileBytes> files;
    Index count = 0;
    for (const std::string& name : split == Split::train ? source.train : source.test) {
        files.push_back(read_file(find_published(source.who, folder, source.folder, name, get) + "/" + name));
        const FileBytes& file = files.back();
        expect<IoError>(file.size() > 0 && file.size() % record == 0, source.who, ": expected records of ", record,
                        " bytes, got the end inside one ", file.at(file.size()), get);
        count += file.size() / record;
    }
    Tensor<std::uint8_t> images({count, 32, 32, 3});
    Tensor<Index> labels({count});
    std::uint8_t* to = images.mutable_data();
    Index* label = labels.mutable_data();
    for (const FileBytes& file : files) {
        for (Index start = 0; start < file.size(); start += record) {
            const std::uint8_t* const from = file.bytes.data() + start;
            for (Index i = 0; i < label_bytes; ++i) {
                const CifarLabel& kind = source.labels[static_cast<std::size_t>(i)];
                expect<IoError>(from[i] < kind.class_names.size(), source.who, ": expected a ", kind.what, " below ",
                                kind.class_names.size(), ", got ", int(from[i]), " ", file.at(start + i), get);
            }
            *label++ = from[source.label];
            for (Index p = 0; p < plane; ++p)
                for (Index c = 0; c < 3; ++c) *to++ = from[label_bytes + c * plane + p];
        }
    }
    const std::vector<std::string>& names = source.labels[source.label].class_names;
    return {images, labels, static_cast<Index>(names.size()),
            join_text(source.name, split == Split::train ? " train" : " test"), names};
}

} // namespace detail

namespace data {

ESPALIER_BODY ImageSet Cifar10(const std::string& folder, Split split) {
    return detail::read_cifar(
        folder, split,
        {.who = "Cifar10",
         .name = "CIFAR-10",
         .folder = "cifar-10-batches-bin",
         .train = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
         .test = {"test_batch.bin"},
         .labels = {{"label",
                     {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}}},
         .label = 0});
}

ESPALIER_BODY ImageSet Cifar100(const std::string& folder, Split split, CifarLabels labels) {
    return detail::read_cifar(
        folder, split,
        {.who = "Cifar100",
         .name = "CIFAR-100",
         .folder = "cifar-100-binary",
         .train = {"train.bin"},
         .test = {"test.bin"},
         .labels = {{"coarse label",
                     {"aquatic_mammals",
                      "fish",
                      "flowers",
                      "food_containers",
                      "fruit_and_vegetables",
                      "household_electrical_devices",
                      "household_furniture",
                      "insects",
                      "large_carnivores",
                      "large_man-made_outdoor_things",
                      "large_natural_outdoor_scenes",
                      "large_omnivores_and_herbivores",
                      "medium_mammals",
                      "non-insect_invertebrates",
                      "people",
                      "reptiles",
                      "small_mammals",
                      "trees",
                      "vehicles_1",
                      "vehicles_2"}},
                    {"fine label",
                     {"apple",       "aquarium_fish", "baby",      "bear",       "beaver",       "bed",
                      "bee",         "beetle",        "bicycle",   "bottle",     "bowl",         "boy",
                      "bridge",      "bus",           "butterfly", "camel",      "can",          "castle",
                      "caterpillar", "cattle",        "chair",     "chimpanzee", "clock",        "cloud",
                      "cockroach",   "couch",         "crab",      "crocodile",  "cup",          "dinosaur",
                      "dolphin",     "elephant",      "flatfish",  "forest",     "fox",          "girl",
                      "hamster",     "house",         "kangaroo",  "keyboard",   "lamp",         "lawn_mower",
                      "leopard",     "lion",          "lizard",    "lobster",    "man",          "maple_tree",
                      "motorcycle",  "mountain",      "mouse",     "mushroom",   "oak_tree",     "orange",
                      "orchid",      "otter",         "palm_tree", "pear",       "pickup_truck", "pine_tree",
                      "plain",       "plate",         "poppy",     "porcupine",  "possum",       "rabbit",
                      "raccoon",     "ray",           "road",      "rocket",     "rose",         "sea",
                      "seal",        "shark",         "shrew",     "skunk",      "skyscraper",   "snail",
                      "snake",       "spider",        "squirrel",  "streetcar",  "sunflower",    "sweet_pepper",
                      "table",       "tank",          "telephone", "television", "tiger",        "tractor",
                      "train",       "trout",         "tulip",     "turtle",     "wardrobe",     "whale",
                      "willow_tree", "wolf",          "woman",     "worm"}}},
         .label = labels == CifarLabels::coarse ? std::size_t(0) : std::size_t(1)});
}

} // namespace data

} // namespace espalier::inline ESPALIER_BACKEND
#endif
