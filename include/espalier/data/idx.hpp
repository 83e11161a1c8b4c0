#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/data/dataset.hpp>

// The IDX format and the four-file sets published in it. Source: LeCun, Cortes & Burges, the MNIST database; its page
// describes the format: 0, 0, type (8: bytes), rank, then the extents as big-endian 32-bit numbers, then the elements.

namespace espalier::inline ESPALIER_BACKEND {

/// Reads an IDX file of bytes with `rank` axes. Nothing is allocated for extents that the file does not fill.
/// @throws IoError naming the file and the offset if it is not such a file or not exactly as long as it says
Tensor<std::uint8_t> read_idx(const std::string& path, int rank);

/// Data sets by their names.
namespace data {

/// MNIST: 60,000 training and 10,000 test images [28,28,1] of handwritten digits, from its four IDX files (.gz or not).
/// @throws IoError naming the file and the offset, or saying where to get the set
ImageSet Mnist(const std::string& folder, Split split);

/// Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): 60,000 training and 10,000 test images [28,28,1], files as `Mnist`.
/// @throws IoError naming the file and the offset, or saying where to get the set
ImageSet FashionMnist(const std::string& folder, Split split);

} // namespace data
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/data/file.hpp>

#include <algorithm>
#include <filesystem>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY Tensor<std::uint8_t> read_idx(const std::string& path, int rank) {
    const FileBytes file = read_file(path);
    const std::uint8_t* const bytes = file.bytes.data();
    const std::uint8_t magic[4] = {0, 0, 8, static_cast<std::uint8_t>(rank)};
    const Index header = 4 + 4 * Index(rank);
    for (Index i = 0; i < std::min<Index>(4, file.size()); ++i)
        expect<IoError>(bytes[i] == magic[i], "read_idx: expected ", int(magic[i]), " (bytes with ", rank,
                        " axes start 0 0 8 ", rank, "), got ", int(bytes[i]), " ", file.at(i));
    expect<IoError>(file.size() >= header, "read_idx: expected a header of ", header, " bytes, got the end ",
                    file.at(file.size()));
    Shape shape;
    Index count = 1;
    const Index room = file.size() - header;
    bool fits = true;
    for (Index i = 4; i < header; i += 4) {
        const Index extent =
            Index(bytes[i]) << 24 | Index(bytes[i + 1]) << 16 | Index(bytes[i + 2]) << 8 | bytes[i + 3];
        shape.append(extent);
        fits = fits && (extent == 0 || count <= room / extent); // a product of extents could overflow
        if (fits) count *= extent;
    }
    expect<IoError>(fits && count == room, "read_idx: expected the elements of ", shape, " after the header, got ",
                    room, " bytes ", file.at(header));
    Tensor<std::uint8_t> elements(shape);
    std::copy_n(bytes + header, count, elements.mutable_data());
    return elements;
}

namespace detail {

/// One of the two files of a split, packed or not; the text says where to get the set if it is missing.
inline std::string find_idx(const char* who, const std::string& folder, const std::string& stem, const char* source) {
    for (const char* const ending : {"", ".gz"}) {
        std::error_code error;
        const std::string path = folder + "/" + stem + ending;
        if (std::filesystem::is_regular_file(path, error)) return path;
    }
    throw IoError(join_text(who, ": expected ", stem, " or ", stem, ".gz in ", folder, ", got neither; get ", source,
                            " and put its four files there"));
}

struct IdxSource {
    const char* who;
    const char* name;
    const char* published; ///< what to get, and where
    std::vector<std::string> class_names;
};

inline ImageSet read_idx_set(const std::string& folder, Split split, const IdxSource& source) {
    const std::string part = split == Split::train ? "train" : "t10k";
    const std::string image_file = find_idx(source.who, folder, part + "-images-idx3-ubyte", source.published);
    const std::string label_file = find_idx(source.who, folder, part + "-labels-idx1-ubyte", source.published);
    const Tensor<std::uint8_t> labels = read_idx(label_file, 1), images = read_idx(image_file, 3);
    const Index classes = static_cast<Index>(source.class_names.size()), label_header = 8;
    expect<IoError>(images.size() > 0, source.who, ": expected at least one image, got ", images.shape(), " from ",
                    image_file);
    expect<IoError>(images.size(0) == labels.size(), source.who, ": expected one label an image, got ", labels.size(),
                    " labels from ", label_file, " for ", images.size(0), " images from ", image_file);
    for (Index i = 0; i < labels.size(); ++i)
        expect<IoError>(labels.data()[i] < classes, source.who, ": expected labels below ", classes, ", got ",
                        int(labels.data()[i]), " at byte ", label_header + i, " of ", label_file);
    const Shape& s = images.shape();
    return {images.reshape({s[0], s[1], s[2], 1}), labels.cast<Index>(), classes,
            join_text(source.name, split == Split::train ? " train" : " test"), source.class_names};
}

} // namespace detail

namespace data {

ESPALIER_BODY ImageSet Mnist(const std::string& folder, Split split) {
    return detail::read_idx_set(folder, split,
                                {"Mnist",
                                 "MNIST",
                                 "MNIST from github.com/cvdfoundation/mnist",
                                 {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}});
}

ESPALIER_BODY ImageSet FashionMnist(const std::string& folder, Split split) {
    return detail::read_idx_set(
        folder, split,
        {"FashionMnist",
         "Fashion-MNIST",
         "Fashion-MNIST from github.com/zalandoresearch/fashion-mnist (or install the Debian "
         "package dataset-fashion-mnist and pass /usr/share/datasets/fashion-mnist)",
         {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"}});
}

} // namespace data

} // namespace espalier::inline ESPALIER_BACKEND
#endif
