#include "data/temporary.hpp"
#include "support/check.hpp"

#include <espalier/data/file.hpp>

using namespace espalier;
using namespace espalier::test;
using doctest::Contains;

namespace {
Bytes noise(std::size_t count) {
    Bytes bytes;
    const Random random(3, "noise");
    for (std::size_t i = 0; i < count; ++i) bytes.push_back(static_cast<std::uint8_t>(random.below(256, i)));
    return bytes;
}
} // namespace

TEST_CASE("read_file: plain files come as they are") {
    const TemporaryFolder folder;
    for (const std::size_t size : {0u, 1u, 1000u})
        CHECK(read_file(folder.write("plain", noise(size))).bytes == noise(size));
    const FileBytes file = read_file(folder.write("plain.bin", {1, 2, 3}));
    CHECK_FALSE(file.unpacked);
    CHECK(to_text(file.at(2)) == "at byte 2 of " + (folder.path() / "plain.bin").string());
}

TEST_CASE("read_file: gzip files are unpacked, several members and content larger than a block included") {
    const TemporaryFolder folder;
    // Noise does not shrink, so it crosses the blocks of output; zeros shrink a thousandfold, so output outlasts input.
    for (const Bytes& content : {Bytes{}, Bytes{7}, noise(600000), Bytes(3000000, 0)}) {
        CHECK(read_file(folder.write("one.gz", gzip(content))).bytes == content);
        CHECK(read_file(folder.write("two.gz", gzip(content) + gzip({1, 2}))).bytes == content + Bytes{1, 2});
    }
    const FileBytes file = read_file(folder.path() / "one.gz");
    CHECK(to_text(file.at(5)) == "at byte 5 of the unpacked " + (folder.path() / "one.gz").string());
}

TEST_CASE("read_file: a missing file and a folder are named") {
    const TemporaryFolder folder;
    const std::string missing = (folder.path() / "absent").string();
    CHECK_THROWS_WITH_AS(read_file(missing), ("read_file: expected a file, got nothing readable at " + missing).c_str(),
                         IoError);
    CHECK_THROWS_WITH_AS(read_file(folder.path()),
                         ("read_file: expected a file, got the folder " + folder.path().string()).c_str(), IoError);
}

TEST_CASE("read_file: gzip data cut off after any byte are an error at the end of the file") {
    const TemporaryFolder folder;
    const Bytes packed = gzip(noise(40));
    for (std::size_t size = 0; size < packed.size(); ++size) {
        const auto path = folder.write("cut.gz", head(packed, size));
        CHECK_THROWS_WITH_AS(read_file(path),
                             join_text("read_file: expected more gzip data, got the end of the file at byte ", size,
                                       " of ", path.string())
                                 .c_str(),
                             IoError);
    }
}

TEST_CASE("read_file: damaged, foreign and followed gzip data are errors with their offset") {
    const TemporaryFolder folder;
    const Bytes packed = gzip(noise(40));
    Bytes changed = packed;
    changed[packed.size() - 30] ^= 1; // a stored byte: only the checksum can tell
    CHECK_THROWS_WITH_AS(read_file(folder.write("a.gz", changed)), Contains("got \"incorrect data check\" at byte"),
                         IoError);
    CHECK_THROWS_WITH_AS(read_file(folder.write("a.gz", {'h', 'e', 'l', 'l', 'o'})),
                         Contains("expected gzip data, got \"incorrect header check\" at byte 2 of "), IoError);
    for (const Bytes& tail : {Bytes{0}, Bytes{0x1f}, Bytes{'x', 'y', 'z'}})
        CHECK_THROWS_WITH_AS(read_file(folder.write("a.gz", packed + tail)),
                             Contains(join_text("expected the end of the gzip data, got ", tail.size(),
                                                " more bytes at byte ", packed.size(), " of ")
                                          .c_str()),
                             IoError);
}
