#include "data/temporary.hpp"
#include "support/check.hpp"

#include <espalier/data/idx.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {

Bytes header(const std::vector<std::uint32_t>& extents) {
    Bytes bytes{0, 0, 8, static_cast<std::uint8_t>(extents.size())};
    for (const std::uint32_t extent : extents)
        for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(extent >> shift));
    return bytes;
}
const Bytes two_images = header({2, 2, 3}) + Bytes{0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255};
const Bytes two_labels = header({2}) + Bytes{9, 0};
const char* const images_file = "train-images-idx3-ubyte";
const char* const labels_file = "train-labels-idx1-ubyte";

} // namespace

TEST_CASE("read_idx: extents are big-endian and elements come in order") {
    const TemporaryFolder folder;
    const auto images = read_idx(folder.write("images", two_images), 3);
    CHECK(images.shape() == Shape{2, 2, 3});
    CHECK(images.to_vector() == Bytes{0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255});
    CHECK(read_idx(folder.write("wide", header({0x102}) + Bytes(0x102, 5)), 1).shape() == Shape{0x102});
    CHECK(read_idx(folder.write("packed.gz", gzip(two_images)), 3).to_vector() == images.to_vector());
    CHECK(read_idx(folder.write("empty", header({0, 28, 28})), 3).shape() == Shape{0, 28, 28});
}

TEST_CASE("read_idx: a file cut off after any byte is an error that names file and offset") {
    const TemporaryFolder folder;
    for (std::size_t size = 0; size < two_images.size(); ++size) {
        const auto path = folder.write("cut", head(two_images, size));
        const std::string text =
            size < 16 ? join_text("read_idx: expected a header of 16 bytes, got the end at byte ", size, " of ")
                      : join_text("read_idx: expected the elements of [2,2,3] after the header, got ", size - 16,
                                  " bytes at byte 16 of ");
        CHECK_THROWS_WITH_AS(read_idx(path, 3), (text + path.string()).c_str(), IoError);
    }
}

TEST_CASE("read_idx: bytes after the elements are an error") {
    const TemporaryFolder folder;
    CHECK_THROWS_WITH_AS(read_idx(folder.write("long", two_images + Bytes{0}), 3),
                         Contains("expected the elements of [2,2,3] after the header, got 13 bytes at byte 16"),
                         IoError);
    CHECK_THROWS_WITH_AS(read_idx(folder.write("none", header({0, 28, 28}) + Bytes{1}), 3),
                         Contains("expected the elements of [0,28,28] after the header, got 1 bytes"), IoError);
}

TEST_CASE("read_idx: foreign magic is an error at its first wrong byte") {
    const TemporaryFolder folder;
    for (std::size_t i = 0; i < 4; ++i) {
        Bytes foreign = two_images;
        foreign[i] = 0x0d;
        const auto path = folder.write("foreign", foreign);
        CHECK_THROWS_WITH_AS(read_idx(path, 3),
                             Contains(join_text("got 13 at byte ", i, " of ", path.string()).c_str()), IoError);
    }
    CHECK_THROWS_WITH_AS(read_idx(folder.write("labels", two_labels), 3),
                         Contains("expected 3 (bytes with 3 axes start 0 0 8 3), got 1 at byte 3 of "), IoError);
    CHECK_THROWS_WITH_AS(read_idx(folder.write("packed", gzip(two_images)), 3), Contains("got 31 at byte 0 of "),
                         IoError);
}

TEST_CASE("read_idx: a header that promises billions allocates nothing") {
    const TemporaryFolder folder;
    const std::uint32_t huge = 0xFFFFFFFF;
    for (const std::vector<std::uint32_t>& extents :
         std::vector<std::vector<std::uint32_t>>{{huge, huge, huge},
                                                 {huge, 1, 1},
                                                 {1, huge, 28},
                                                 {1u << 31, 1u << 31, 4},       // the product is 0 modulo 2^64
                                                 {769546, 494770, 48448661}}) { // and this one 4
        for (const std::size_t count : {0u, 4u, 12u}) {
            const auto path = folder.write("huge", header(extents) + Bytes(count, 1));
            MemoryPool::instance().reset_peak();
            const std::size_t before = MemoryPool::instance().peak_bytes();
            CHECK_THROWS_WITH_AS(read_idx(path, 3),
                                 Contains(join_text("after the header, got ", count, " bytes at byte 16 of ").c_str()),
                                 IoError);
            CHECK(MemoryPool::instance().peak_bytes() == before);
        }
    }
}

TEST_CASE("FashionMnist and Mnist: images get a channel, labels their type, packed or not") {
    const TemporaryFolder folder;
    folder.write(images_file, two_images);
    folder.write(labels_file + std::string(".gz"), gzip(two_labels));
    const ImageSet set = data::FashionMnist(folder.path(), Split::train);
    set.check("test");
    CHECK(set.images.shape() == Shape{2, 2, 3, 1});
    CHECK(set.images.at(1, 0, 2, 0) == 252);
    CHECK(set.labels.to_vector() == std::vector<Index>{9, 0});
    CHECK(set.classes == 10);
    CHECK(set.name == "Fashion-MNIST train");
    CHECK(set.class_names[9] == "Ankle boot");

    folder.write("t10k-images-idx3-ubyte", header({1, 1, 1}) + Bytes{8});
    folder.write("t10k-labels-idx1-ubyte", header({1}) + Bytes{4});
    const ImageSet test = data::Mnist(folder.path(), Split::test);
    CHECK(test.images.to_vector() == Bytes{8});
    CHECK(test.name == "MNIST test");
    CHECK(test.class_names[4] == "4");
}

TEST_CASE("FashionMnist and Mnist: a missing set says what to get, where, and where to put it") {
    const TemporaryFolder folder;
    const std::string in = folder.path().string();
    CHECK_THROWS_WITH_AS(
        data::FashionMnist(folder.path(), Split::train),
        ("FashionMnist: expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz in " + in +
         ", got neither; get Fashion-MNIST from github.com/zalandoresearch/fashion-mnist (or install the Debian "
         "package dataset-fashion-mnist and pass /usr/share/datasets/fashion-mnist) and put its four files there")
            .c_str(),
        IoError);
    CHECK_THROWS_WITH_AS(data::Mnist(folder.path() / "absent", Split::test),
                         Contains("Mnist: expected t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz in "), IoError);
    folder.write(images_file, two_images);
    CHECK_THROWS_WITH_AS(data::Mnist(folder.path(), Split::train), Contains("Mnist: expected train-labels-idx1-ubyte"),
                         IoError);
}

TEST_CASE("FashionMnist: wrong labels and counts name the files") {
    const TemporaryFolder folder;
    const auto images = folder.write(images_file, two_images), labels = folder.write(labels_file, two_labels);
    folder.write(labels_file, header({2}) + Bytes{9, 10});
    CHECK_THROWS_WITH_AS(data::FashionMnist(folder.path(), Split::train),
                         ("FashionMnist: expected labels below 10, got 10 at byte 9 of " + labels.string()).c_str(),
                         IoError);
    folder.write(labels_file, header({3}) + Bytes{1, 2, 3});
    CHECK_THROWS_WITH_AS(data::FashionMnist(folder.path(), Split::train),
                         ("FashionMnist: expected one label an image, got 3 labels from " + labels.string() +
                          " for 2 images from " + images.string())
                             .c_str(),
                         IoError);
    folder.write(images_file, header({0, 28, 28}));
    CHECK_THROWS_WITH_AS(data::FashionMnist(folder.path(), Split::train),
                         ("FashionMnist: expected at least one image, got [0,28,28] from " + images.string()).c_str(),
                         IoError);
    folder.write(images_file, two_labels); // the files of a set swapped
    CHECK_THROWS_WITH_AS(data::FashionMnist(folder.path(), Split::train), Contains(images.string().c_str()), IoError);
}

TEST_CASE("FashionMnist: the published set, where it is installed") {
    const std::filesystem::path folder = "/usr/share/datasets/fashion-mnist"; // of the Debian package
    if (!std::filesystem::exists(folder)) return;
    const ImageSet set = data::FashionMnist(folder, Split::test);
    CHECK(set.images.shape() == Shape{10000, 28, 28, 1});
    std::vector<Index> count(10);
    for (const Index label : set.labels) ++count[static_cast<std::size_t>(label)];
    CHECK(count == std::vector<Index>(10, 1000));
}
