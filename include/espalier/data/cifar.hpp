#pragma once

#include <espalier/data/dataset.hpp>
#include <espalier/data/file.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// The folder that holds `file`: the given one or its `cifar-10-batches-bin`.
inline std::filesystem::path find_cifar(const std::filesystem::path& folder, const std::string& file) {
    const char* const published = "cifar-10-batches-bin";
    std::error_code error;
    for (const auto& place : {folder, folder / published})
        if (std::filesystem::is_regular_file(place / file, error)) return place;
    throw IoError(join_text("Cifar10: expected ", file, " in ", folder.string(), " or its ", published,
                            ", got neither; get \"CIFAR-10 binary version\" from www.cs.toronto.edu/~kriz/cifar.html "
                            "and unpack it there"));
}

} // namespace detail

namespace data {

/// CIFAR-10 (Krizhevsky 2009), binary version: 50,000 training and 10,000 test images [32,32,3] of ten classes.
///
/// `folder` holds the .bin files or the folder `cifar-10-batches-bin` with them. A record is a label byte and 1024
/// bytes each of red, green and blue; the images come out with channels last.
/// @throws IoError naming the file and the offset, or saying where to get the set
inline ImageSet Cifar10(const std::filesystem::path& folder, Split split) {
    constexpr Index plane = 32 * 32, record = 1 + 3 * plane, classes = 10;
    std::vector<std::string> names{"test_batch.bin"};
    if (split == Split::train)
        names = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"};
    std::vector<FileBytes> files;
    Index count = 0;
    for (const std::string& name : names) {
        files.push_back(read_file(detail::find_cifar(folder, name) / name));
        const FileBytes& file = files.back();
        expect<IoError>(file.size() > 0 && file.size() % record == 0, "Cifar10: expected records of ", record,
                        " bytes, got the end inside one ", file.at(file.size()));
        count += file.size() / record;
    }
    Tensor<std::uint8_t> images({count, 32, 32, 3});
    Tensor<Index> labels({count});
    std::uint8_t* to = images.mutable_data();
    Index* label = labels.mutable_data();
    for (const FileBytes& file : files) {
        for (Index start = 0; start < file.size(); start += record) {
            const std::uint8_t* const from = file.bytes.data() + start;
            expect<IoError>(from[0] < classes, "Cifar10: expected a label below ", classes, ", got ", int(from[0]), " ",
                            file.at(start));
            *label++ = from[0];
            for (Index p = 0; p < plane; ++p)
                for (Index c = 0; c < 3; ++c) *to++ = from[1 + c * plane + p];
        }
    }
    return {images,
            labels,
            classes,
            split == Split::train ? "CIFAR-10 train" : "CIFAR-10 test",
            {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}};
}

} // namespace data
} // namespace espalier::inline ESPALIER_BACKEND
