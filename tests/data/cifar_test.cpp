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
const std::string get_cifar10 =
    "; get \"CIFAR-10 binary version\" from www.cs.toronto.edu/~kriz/cifar.html and unpack it there";

/// Records of CIFAR-100: the coarse label, the fine one, three planes.
Bytes records100(const std::vector<std::pair<int, int>>& labels) {
    Bytes bytes;
    for (const auto& [coarse, fine] : labels) {
        bytes.push_back(static_cast<std::uint8_t>(coarse));
        bytes.push_back(static_cast<std::uint8_t>(fine));
        for (Index i = 1; i < record_bytes; ++i) bytes.push_back(byte_of(fine, i));
    }
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
                          " or its cifar-10-batches-bin, got neither" + get_cifar10)
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
                                       " of ", path.string(), get_cifar10)
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
        CHECK_THROWS_WITH_AS(data::Cifar10(folder.path(), Split::test),
                             join_text("Cifar10: expected a label below 10, got ", int(label), " at byte 6146 of ",
                                       path.string(), get_cifar10)
                                 .c_str(),
                             IoError);
    }
}

TEST_CASE("Cifar100: either label, its classes and their names; planes become channels") {
    const TemporaryFolder folder;
    folder.write("cifar-100-binary/train.bin", records100({{19, 99}, {0, 4}, {11, 19}}));
    folder.write("cifar-100-binary/test.bin", records100({{1, 67}}));
    const ImageSet fine = data::Cifar100(folder.path(), Split::train);
    const ImageSet coarse = data::Cifar100(folder.path() / "cifar-100-binary", Split::train, CifarLabels::coarse);
    fine.check("test");
    coarse.check("test");
    REQUIRE(fine.images.shape() == Shape{3, 32, 32, 3});
    Index wrong = 0;
    const Index labels[] = {99, 4, 19};
    for (Index n = 0; n < 3; ++n)
        for (Index h = 0; h < 32; ++h)
            for (Index w = 0; w < 32; ++w)
                for (Index c = 0; c < 3; ++c)
                    wrong += fine.images.at(n, h, w, c) != byte_of(labels[n], 1 + c * 1024 + h * 32 + w);
    CHECK(wrong == 0);
    CHECK(same_bits(fine.images, coarse.images));
    CHECK(fine.labels.to_vector() == std::vector<Index>{99, 4, 19});
    CHECK(coarse.labels.to_vector() == std::vector<Index>{19, 0, 11});
    CHECK(fine.classes == 100);
    CHECK(coarse.classes == 20);
    CHECK((fine.class_names[0] == "apple" && fine.class_names[67] == "ray" && fine.class_names[99] == "worm"));
    CHECK((coarse.class_names[1] == "fish" && coarse.class_names[19] == "vehicles_2"));
    CHECK(std::is_sorted(fine.class_names.begin(), fine.class_names.end())); // as published
    CHECK(std::is_sorted(coarse.class_names.begin(), coarse.class_names.end()));
    CHECK(fine.name == "CIFAR-100 train");
    const ImageSet test = data::Cifar100(folder.path(), Split::test);
    CHECK(test.name == "CIFAR-100 test");
    CHECK(test.labels.to_vector() == std::vector<Index>{67});
}

TEST_CASE("Cifar100: a missing set, a cut file and either wrong label say where, and where to get the set") {
    const TemporaryFolder folder;
    const std::string get =
        "; get \"CIFAR-100 binary version\" from www.cs.toronto.edu/~kriz/cifar.html and unpack it there";
    CHECK_THROWS_WITH_AS(
        data::Cifar100(folder.path(), Split::train),
        ("Cifar100: expected train.bin in " + folder.path().string() + " or its cifar-100-binary, got neither" + get)
            .c_str(),
        IoError);
    for (const std::size_t size : {0u, 1u, 3073u, 3075u}) {
        const auto path = folder.write("test.bin", head(records100({{0, 0}, {0, 0}}), size));
        CHECK_THROWS_WITH_AS(data::Cifar100(folder.path(), Split::test),
                             join_text("Cifar100: expected records of 3074 bytes, got the end inside one at byte ",
                                       size, " of ", path.string(), get)
                                 .c_str(),
                             IoError);
    }
    for (const CifarLabels labels : {CifarLabels::fine, CifarLabels::coarse}) { // both are checked for both
        const auto path = folder.write("test.bin", records100({{0, 0}, {20, 0}}));
        CHECK_THROWS_WITH_AS(
            data::Cifar100(folder.path(), Split::test, labels),
            ("Cifar100: expected a coarse label below 20, got 20 at byte 3074 of " + path.string() + get).c_str(),
            IoError);
        folder.write("test.bin", records100({{0, 0}, {19, 100}}));
        CHECK_THROWS_WITH_AS(
            data::Cifar100(folder.path(), Split::test, labels),
            ("Cifar100: expected a fine label below 100, got 100 at byte 3075 of " + path.string() + get).c_str(),
            IoError);
    }
}
