#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/data/dataset.hpp>
#include <espalier/data/image_cache.hpp>
#include <espalier/data/jpeg.hpp>

#include <map>

// Not part of espalier.hpp: it needs libjpeg-turbo (data/jpeg.hpp).

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

inline constexpr const char* get_tiny_imagenet =
    "; get tiny-imagenet-200.zip from cs231n.stanford.edu/tiny-imagenet-200.zip and unpack it there";

/// The lines of a text file that are not empty, each as its fields between tabs.
inline std::vector<std::vector<std::string>> read_fields(const std::filesystem::path& path) {
    const FileBytes file = read_file(path);
    std::vector<std::vector<std::string>> lines{{""}};
    for (const std::uint8_t byte : file.bytes) {
        std::vector<std::string>& line = lines.back();
        if (byte == '\t')
            line.emplace_back();
        else if (byte != '\n' && byte != '\r')
            line.back() += static_cast<char>(byte);
        else if (line.size() > 1 || !line[0].empty())
            lines.push_back({""});
    }
    if (lines.back().size() == 1 && lines.back()[0].empty()) lines.pop_back();
    return lines;
}

/// The names of the images in a folder, in order. @throws IoError if there are none
inline std::vector<std::string> tiny_image_names(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
        if (entry->path().extension() == ".JPEG") names.push_back(entry->path().filename().string());
    expect<IoError>(!error && !names.empty(), "TinyImageNet: expected images *.JPEG in ", folder.string(), ", got ",
                    error ? error.message() : "none", get_tiny_imagenet);
    std::sort(names.begin(), names.end());
    return names;
}

/// The images of a split and their classes, as the folders and lists say.
struct TinyImageList {
    std::vector<std::filesystem::path> files;
    std::vector<Index> labels;

    void add(const std::filesystem::path& folder, const std::string& name, Index label) {
        files.push_back(folder / name);
        labels.push_back(label);
    }
    /// A hash of names, sizes and times of change: another list, other pixels.
    std::uint64_t hash(const std::filesystem::path& root) const {
        std::string text;
        for (const auto& file : files) {
            std::error_code error;
            const auto size = std::filesystem::file_size(file, error);
            const auto changed = std::filesystem::last_write_time(file, error).time_since_epoch().count();
            text += join_text(file.lexically_relative(root).string(), " ", size, " ", changed, "\n");
        }
        return Random::hash(text);
    }
};

inline TinyImageList list_tiny_training(const std::filesystem::path& root, const std::vector<std::string>& classes) {
    TinyImageList list;
    for (std::size_t k = 0; k < classes.size(); ++k) {
        const auto folder = root / "train" / classes[k] / "images";
        for (const std::string& name : tiny_image_names(folder)) list.add(folder, name, static_cast<Index>(k));
    }
    return list;
}

inline TinyImageList list_tiny_validation(const std::filesystem::path& root, const std::vector<std::string>& classes) {
    const auto folder = root / "val" / "images", annotations = root / "val" / "val_annotations.txt";
    std::map<std::string, Index> labels;
    for (const std::vector<std::string>& line : read_fields(annotations)) {
        const std::string wnid = line.size() > 1 ? line[1] : "none";
        const auto found = std::find(classes.begin(), classes.end(), wnid);
        expect<IoError>(found != classes.end(), "TinyImageNet: expected a class of wnids.txt for ", line[0], ", got ",
                        wnid, " in ", annotations.string());
        labels[line[0]] = found - classes.begin();
    }
    TinyImageList list;
    for (const std::string& name : tiny_image_names(folder)) {
        const auto found = labels.find(name);
        expect<IoError>(found != labels.end(), "TinyImageNet: expected a line for ", name, ", got none in ",
                        annotations.string());
        list.add(folder, name, found->second);
        labels.erase(found);
    }
    expect<IoError>(labels.empty(), "TinyImageNet: expected ", labels.empty() ? "" : labels.begin()->first,
                    ", which has a line in ", annotations.string(), ", got no such file in ", folder.string());
    return list;
}

/// The classes of `wnids.txt`, in its order.
inline std::vector<std::string> tiny_classes(const std::filesystem::path& file) {
    std::vector<std::string> classes;
    for (const std::vector<std::string>& line : read_fields(file)) {
        expect<IoError>(std::find(classes.begin(), classes.end(), line[0]) == classes.end(),
                        "TinyImageNet: expected every class once, got ", line[0], " twice in ", file.string());
        classes.push_back(line[0]);
    }
    expect<IoError>(!classes.empty(), "TinyImageNet: expected at least one class, got none in ", file.string());
    return classes;
}

/// What `words.txt` calls the classes.
inline std::vector<std::string> tiny_class_names(const std::filesystem::path& file,
                                                 const std::vector<std::string>& classes) {
    std::map<std::string, std::string> words;
    for (const std::vector<std::string>& line : read_fields(file))
        if (line.size() > 1) words[line[0]] = line[1];
    std::vector<std::string> names;
    for (const std::string& wnid : classes) {
        expect<IoError>(words.count(wnid) == 1, "TinyImageNet: expected a line for ", wnid, ", got none in ",
                        file.string());
        names.push_back(words[wnid]);
    }
    return names;
}

} // namespace detail

namespace data {

/// How `TinyImageNet` is read.
struct TinyImageNetOptions {
    std::filesystem::path cache; ///< folder for the decoded pixels; empty: the one that holds `wnids.txt`
};

/// Tiny ImageNet: 100,000 training images [64,64,3] of 200 classes, and 10,000 for validation, here the test set.
///
/// `folder` is `tiny-imagenet-200` as published, or holds it. Classes are numbered as in `wnids.txt` and named as in
/// `words.txt`; a set of fewer classes or images is read likewise. Grayscale images become RGB. The JPEG files are
/// decoded once, in parallel, and their pixels kept in a file that is made again when the list of images, a size or a
/// time of change is not as it was, or when it is damaged.
/// @throws IoError naming the file, or saying where to get the set
inline ImageSet TinyImageNet(const std::filesystem::path& folder, Split split,
                             const TinyImageNetOptions& options = {}) {
    constexpr Index side = 64;
    const std::filesystem::path root =
        detail::find_published("TinyImageNet", folder, "tiny-imagenet-200", "wnids.txt", detail::get_tiny_imagenet);
    const std::vector<std::string> classes = detail::tiny_classes(root / "wnids.txt");
    const std::vector<std::string> names = detail::tiny_class_names(root / "words.txt", classes);
    const bool training = split == Split::train;
    const detail::TinyImageList list =
        training ? detail::list_tiny_training(root, classes) : detail::list_tiny_validation(root, classes);
    const auto count = static_cast<Index>(list.files.size());
    const auto cache = (options.cache.empty() ? root : options.cache) /
                       (training ? "tiny-imagenet-200.train.cache" : "tiny-imagenet-200.val.cache");
    const auto decode = [&](View<std::uint8_t, 4> images) {
        parallel_for(count, [&](Index i) {
            read_jpeg(list.files[static_cast<std::size_t>(i)], View<std::uint8_t, 3>(images.at(i), {side, side, 3}));
        });
    };
    return {cached_images(cache, list.hash(root), {count, side, side, 3}, decode),
            Tensor<Index>::from({count}, list.labels), static_cast<Index>(classes.size()),
            training ? "Tiny ImageNet train" : "Tiny ImageNet validation", names};
}

} // namespace data
} // namespace espalier::inline ESPALIER_BACKEND
