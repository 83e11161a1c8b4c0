#include "data/temporary.hpp"
#include "support/check.hpp"

#include <espalier/data/tiny_imagenet.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {

Bytes golden(const char* name) { return read_file(std::filesystem::path(ESPALIER_TEST_DATA) / name).bytes; }
Bytes text(const std::string& content) { return {content.begin(), content.end()}; }

/// A small set in the published layout: three training images of two classes, two for validation.
struct Published : TemporaryFolder {
    const Bytes colour = golden("colour.jpg"), grey = golden("grey.jpg");

    Published() {
        write("wnids.txt", text("n02\nn01\n"));
        write("words.txt", text("n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\ttoad\n"));
        write("train/n01/images/n01_0.JPEG", colour);
        write("train/n02/images/n02_1.JPEG", colour);
        write("train/n02/images/n02_0.JPEG", grey);
        write("train/n02/n02_boxes.txt", text("n02_0.JPEG\t0\t0\t1\t1\n"));
        write("val/images/val_0.JPEG", grey);
        write("val/images/val_1.JPEG", colour);
        write("val/val_annotations.txt", text("val_1.JPEG\tn01\t0\t0\t9\t9\nval_0.JPEG\tn02\t0\t0\t9\t9\n"));
    }
    std::string at(const std::string& name) const { return (path() / name).string(); }
    ImageSet train() const { return data::TinyImageNet(path(), Split::train); }
    ImageSet validation() const { return data::TinyImageNet(path(), Split::test); }
};

std::string get() { return detail::get_tiny_imagenet; }
Bytes pixels_of(const ImageSet& set, Index i) { return set.images.rows(i, i + 1).to_vector(); }

} // namespace

TEST_CASE("TinyImageNet: folders and lists give labels, names and pixels; grey becomes RGB") {
    const Published set;
    const Bytes colour = golden("colour.rgb.gz"), grey = golden("grey.rgb.gz");
    const ImageSet train = set.train(), validation = set.validation();
    train.check("test");
    validation.check("test");
    REQUIRE(train.images.shape() == Shape{3, 64, 64, 3});
    CHECK(train.classes == 2);
    CHECK(train.class_names == std::vector<std::string>{"toad", "goldfish, Carassius auratus"});
    CHECK(train.labels.to_vector() == std::vector<Index>{0, 0, 1});
    CHECK(pixels_of(train, 0) == grey); // n02_0
    CHECK(pixels_of(train, 1) == colour);
    CHECK(pixels_of(train, 2) == colour);
    CHECK(train.name == "Tiny ImageNet train");
    REQUIRE(validation.images.shape() == Shape{2, 64, 64, 3});
    CHECK(validation.labels.to_vector() == std::vector<Index>{0, 1});
    CHECK(pixels_of(validation, 0) == grey);
    CHECK(pixels_of(validation, 1) == colour);
    CHECK(validation.name == "Tiny ImageNet validation");
}

TEST_CASE("TinyImageNet: the folder may be the parent of tiny-imagenet-200, lines may end as on Windows") {
    const Published set;
    const TemporaryFolder parent;
    std::filesystem::copy(set.path(), parent.path() / "tiny-imagenet-200", std::filesystem::copy_options::recursive);
    parent.write("tiny-imagenet-200/wnids.txt", text("n02\r\n\r\nn01"));
    const ImageSet train = data::TinyImageNet(parent.path(), Split::train);
    CHECK(same_bits(train.images, set.train().images));
    CHECK(train.labels.to_vector() == std::vector<Index>{0, 0, 1});
}

TEST_CASE("TinyImageNet: decoded once, and again when the images change") {
    const Published set;
    const ImageSet before = set.train();
    const std::filesystem::path file = set.at("train/n01/images/n01_0.JPEG"),
                                cache = set.at("tiny-imagenet-200.train.cache");
    const auto time = std::filesystem::last_write_time(file);
    // Of the same size and time, even what is no image is not looked at.
    set.write("train/n01/images/n01_0.JPEG", Bytes(set.colour.size(), 0));
    std::filesystem::last_write_time(file, time);
    CHECK(same_bits(set.train().images, before.images));
    std::filesystem::last_write_time(file, time + std::chrono::seconds(1));
    CHECK_THROWS_WITH_AS(set.train(),
                         Contains(("Not a JPEG file: starts with 0x00 0x00\" from " + file.string()).c_str()), IoError);
    set.write("train/n01/images/n01_0.JPEG", set.grey); // another size
    std::filesystem::last_write_time(file, time);
    CHECK(pixels_of(set.train(), 2) == golden("grey.rgb.gz"));
    set.write("train/n01/images/n01_1.JPEG", set.colour); // one more
    CHECK(set.train().size() == 4);
    std::filesystem::remove(file);
    CHECK(set.train().size() == 3);
    Bytes damaged = read_file(cache).bytes;
    damaged[5000] ^= 1;
    set.write("tiny-imagenet-200.train.cache", damaged);
    CHECK(pixels_of(set.train(), 2) == golden("colour.rgb.gz"));
}

TEST_CASE("TinyImageNet: the cache goes where the option says") {
    const Published set;
    const TemporaryFolder other;
    const auto where = other.path() / "made" / "on the way";
    data::TinyImageNet(set.path(), Split::train, {.cache = where});
    data::TinyImageNet(set.path(), Split::test, {.cache = where});
    CHECK(std::filesystem::exists(where / "tiny-imagenet-200.train.cache"));
    CHECK(std::filesystem::exists(where / "tiny-imagenet-200.val.cache"));
    CHECK_FALSE(std::filesystem::exists(set.at("tiny-imagenet-200.train.cache")));
    CHECK_THROWS_WITH_AS(data::TinyImageNet(set.path(), Split::train, {.cache = "/proc/none"}),
                         Contains("choose another folder by the option `cache`"), IoError);
}

TEST_CASE("TinyImageNet: the same bits on one thread and on two") {
    const Published set;
    std::vector<ImageSet> sets;
    for (const int count : {1, 2}) {
        set_threads(count);
        const TemporaryFolder cache;
        sets.push_back(data::TinyImageNet(set.path(), Split::train, {.cache = cache.path()}));
    }
    set_threads(0);
    CHECK(same_bits(sets[0].images, sets[1].images));
}

TEST_CASE("TinyImageNet: a missing set or folder says what to get, where, and where to put it") {
    const Published set;
    const TemporaryFolder empty;
    CHECK_THROWS_WITH_AS(data::TinyImageNet(empty.path(), Split::train),
                         ("TinyImageNet: expected wnids.txt in " + empty.path().string() +
                          " or its tiny-imagenet-200, got neither" + get())
                             .c_str(),
                         IoError);
    std::filesystem::remove_all(set.at("train/n01/images"));
    CHECK_THROWS_WITH_AS(set.train(),
                         ("TinyImageNet: expected images *.JPEG in " + set.at("train/n01/images") +
                          ", got No such file or directory" + get())
                             .c_str(),
                         IoError);
    std::filesystem::create_directory(set.at("train/n01/images"));
    CHECK_THROWS_WITH_AS(set.train(), Contains((set.at("train/n01/images") + ", got none; get ").c_str()), IoError);
    std::filesystem::remove(set.at("val/val_annotations.txt"));
    CHECK_THROWS_WITH_AS(set.validation(), Contains(set.at("val/val_annotations.txt").c_str()), IoError);
    std::filesystem::remove(set.at("words.txt"));
    CHECK_THROWS_WITH_AS(set.train(), Contains(set.at("words.txt").c_str()), IoError);
}

TEST_CASE("TinyImageNet: lists that do not fit the images name the file") {
    const Published set;
    const std::string annotations = set.at("val/val_annotations.txt");
    const auto annotated = [&](const std::string& lines) { set.write("val/val_annotations.txt", text(lines)); };
    annotated("val_1.JPEG\tn03\t0\n");
    CHECK_THROWS_WITH_AS(
        set.validation(),
        ("TinyImageNet: expected a class of wnids.txt for val_1.JPEG, got n03 in " + annotations).c_str(), IoError);
    annotated("val_0.JPEG\tn02\nval_1.JPEG"); // cut off
    CHECK_THROWS_WITH_AS(
        set.validation(),
        ("TinyImageNet: expected a class of wnids.txt for val_1.JPEG, got none in " + annotations).c_str(), IoError);
    annotated("val_0.JPEG\tn02\n");
    CHECK_THROWS_WITH_AS(set.validation(),
                         ("TinyImageNet: expected a line for val_1.JPEG, got none in " + annotations).c_str(), IoError);
    annotated("val_0.JPEG\tn02\nval_1.JPEG\tn01\nval_2.JPEG\tn01\n");
    CHECK_THROWS_WITH_AS(set.validation(),
                         ("TinyImageNet: expected val_2.JPEG, which has a line in " + annotations +
                          ", got no such file in " + set.at("val/images"))
                             .c_str(),
                         IoError);
    set.write("words.txt", text("n01\tgoldfish\n"));
    CHECK_THROWS_WITH_AS(
        set.train(), ("TinyImageNet: expected a line for n02, got none in " + set.at("words.txt")).c_str(), IoError);
    set.write("wnids.txt", text("n01\nn01\n"));
    CHECK_THROWS_WITH_AS(set.train(),
                         ("TinyImageNet: expected every class once, got n01 twice in " + set.at("wnids.txt")).c_str(),
                         IoError);
    set.write("wnids.txt", {});
    CHECK_THROWS_WITH_AS(set.train(),
                         ("TinyImageNet: expected at least one class, got none in " + set.at("wnids.txt")).c_str(),
                         IoError);
}

TEST_CASE(
    "TinyImageNet: images that are damaged or no colour JPEG of 64 x 64 pixels name the file, and leave no cache") {
    const Published set;
    const std::string file = set.at("train/n02/images/n02_1.JPEG");
    const Bytes bad[] = {head(set.colour, 700), {}, text("not an image"), golden("cmyk.jpg"), golden("odd.jpg")};
    for (const Bytes& bytes : bad) {
        set.write("train/n02/images/n02_1.JPEG", bytes);
        CHECK_THROWS_WITH_AS(set.train(), Contains(("from " + file).c_str()), IoError);
        CHECK_FALSE(std::filesystem::exists(set.at("tiny-imagenet-200.train.cache")));
    }
}
