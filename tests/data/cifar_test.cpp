#include "data/temporary.hpp"
#include "support/check.hpp"

#include <espalier/data/cifar.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {

constexpr Index record_bytes = 3073;

/// Byte `i` of record `r`: the label first, then three planes of 32 x 32.
std::uint8_t byte_of(Index r, Index i) {
    return static_cast<std::uint8_t>(
        i == 0 ? r % 10 : Random(5, "cifar").below(256, static_cast<std::uint64_t>(r * record_bytes + i)));
}
Bytes records(Index first, Index count) {
    Bytes bytes;
    for (Index r = first; r < first + count; ++r)
        for (Index i = 0; i < record_bytes; ++i) bytes.push_back(byte_of(r, i));
    return bytes;
}
std::string train_file(Index number) { return join_text("data_batch_", number, ".bin"); }

} // namespace

TEST_CASE("Cifar10: planes become channels, and the five files follow each other") {
    const TemporaryFolder folder;
    const Index counts[] = {2, 1, 1, 3, 1};
    Index total = 0;
    for (Index file = 1; file <= 5; ++file) {
        folder.write(train_file(file), records(total, counts[file - 1]));
        total += counts[file - 1];
    }
    const ImageSet set = data::Cifar10(folder.path(), Split::train);
    set.check("test");
    REQUIRE(set.images.shape() == Shape{total, 32, 32, 3});
    Index wrong = 0;
    for (Index n = 0; n < total; ++n)
        for (Index h = 0; h < 32; ++h)
            for (Index w = 0; w < 32; ++w)
                for (Index c = 0; c < 3; ++c)
                    wrong += set.images.at(n, h, w, c) != byte_of(n, 1 + c * 1024 + h * 32 + w);
    CHECK(wrong == 0);
    CHECK(set.labels.to_vector() == std::vector<Index>{0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(set.classes == 10);
    CHECK(set.class_names[8] == "ship");
    CHECK(set.name == "CIFAR-10 train");
}

TEST_CASE("Cifar10: the folder may be the parent of cifar-10-batches-bin") {
    const TemporaryFolder folder;
    folder.write("cifar-10-batches-bin/test_batch.bin", records(4, 1));
    const ImageSet from_parent = data::Cifar10(folder.path(), Split::test);
    const ImageSet directly = data::Cifar10(folder.path() / "cifar-10-batches-bin", Split::test);
    CHECK(same_bits(from_parent.images, directly.images));
    CHECK(from_parent.labels.to_vector() == std::vector<Index>{4});
}

TEST_CASE("Cifar10: a missing set says what to get, where, and where to put it") {
    const TemporaryFolder folder;
    CHECK_THROWS_WITH_AS(data::Cifar10(folder.path(), Split::test),
                         ("Cifar10: expected test_batch.bin in " + folder.path().string() +
                          " or its cifar-10-batches-bin, got neither; get \"CIFAR-10 binary version\" from "
                          "www.cs.toronto.edu/~kriz/cifar.html and unpack it there")
                             .c_str(),
                         IoError);
    for (const Index file : {1, 2, 4, 5}) folder.write(train_file(file), records(0, 1));
    CHECK_THROWS_WITH_AS(data::Cifar10(folder.path(), Split::train), Contains("Cifar10: expected data_batch_3.bin in "),
                         IoError);
}

TEST_CASE("Cifar10: a file that ends inside a record is an error") {
    const TemporaryFolder folder;
    for (const std::size_t size : {0u, 1u, 3072u, 3074u, 6145u}) {
        const auto path = folder.write("test_batch.bin", head(records(0, 2), size));
        CHECK_THROWS_WITH_AS(data::Cifar10(folder.path(), Split::test),
                             join_text("Cifar10: expected records of 3073 bytes, got the end inside one at byte ", size,
                                       " of ", path.string())
                                 .c_str(),
                             IoError);
    }
}

TEST_CASE("Cifar10: a label of ten or more is an error with its offset") {
    const TemporaryFolder folder;
    Bytes bytes = records(0, 3);
    for (const std::uint8_t label : {std::uint8_t(10), std::uint8_t(255)}) {
        bytes[2 * record_bytes] = label;
        const auto path = folder.write("test_batch.bin", bytes);
        CHECK_THROWS_WITH_AS(
            data::Cifar10(folder.path(), Split::test),
            join_text("Cifar10: expected a label below 10, got ", int(label), " at byte 6146 of ", path.string())
                .c_str(),
            IoError);
    }
}
