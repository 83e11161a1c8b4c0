#include "support/check.hpp"
#include "support/file_size_limit.hpp"
#include "support/temporary_path.hpp"

#include <espalier/data/atomic_file.hpp>

#include <filesystem>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

using namespace espalier;
using namespace espalier::test;

namespace {

/// An empty folder of this process, removed at the end of the scope.
struct Folder {
    std::filesystem::path path = std::filesystem::temp_directory_path() / ("espalier_atomic_" + to_text(::getpid()));
    Folder() { std::filesystem::create_directory(path); }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string file(const char* name) const { return (path / name).string(); }
    long entries() const { return std::distance(std::filesystem::directory_iterator(path), {}); }
};

} // namespace

TEST_CASE("atomic_file: nothing is seen before commit, all of it after") {
    const Folder folder;
    const std::string path = folder.file("x");
    AtomicFile(path).write("abandoned");
    CHECK(folder.entries() == 0);
    {
        AtomicFile file(path);
        file.write("one");
        file.write(" two");
        CHECK_FALSE(std::filesystem::exists(path));
        file.commit();
    }
    CHECK(slurp(path) == "one two");
    AtomicFile(path).write("abandoned");
    CHECK(slurp(path) == "one two");
    CHECK(folder.entries() == 1);
}

TEST_CASE("atomic_file: a full disk leaves the old file and no temporary") {
    const Folder folder;
    const std::string path = folder.file("x");
    std::ofstream(path) << "old";
    {
        const test::FileSizeLimit limit(1000);
        AtomicFile file(path);
        file.write(std::string(900, 'a'));
        const std::string text =
            "AtomicFile: expected to write 1800 bytes for '" + path + "', got 1000 bytes, then File too large";
        CHECK_THROWS_WITH_AS(file.write(std::string(900, 'b')), text.c_str(), IoError);
    }
    CHECK(slurp(path) == "old");
    CHECK(folder.entries() == 1);
}

TEST_CASE("atomic_file: a folder that is missing, forbidden or in the way is an error that names the file") {
    const Folder folder;
    CHECK_THROWS_WITH_AS(AtomicFile(folder.file("none/x")), doctest::Contains("No such file or directory"), IoError);
    CHECK_THROWS_WITH_AS(AtomicFile("/proc/espalier"), doctest::Contains("to create it for '/proc/espalier', got "),
                         IoError);
    std::filesystem::create_directory(folder.file("taken"));
    {
        AtomicFile file(folder.file("taken"));
        CHECK_THROWS_WITH_AS(file.commit(), doctest::Contains("to rename its temporary"), IoError);
    }
    CHECK(folder.entries() == 1);
}

TEST_CASE("atomic_file: a name without a folder lies in the working folder") {
    const Folder folder;
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(folder.path);
    AtomicFile file("x");
    file.commit();
    std::filesystem::current_path(before);
    CHECK(slurp(folder.file("x")).empty());
    CHECK(folder.entries() == 1);
}

TEST_CASE("atomic_file: temporaries of processes that are gone are removed, and nothing else") {
    const Folder folder;
    const pid_t gone = ::fork();
    if (gone == 0) ::_exit(0);
    ::waitpid(gone, nullptr, 0);
    const std::string here = to_text(::getpid()), there = to_text(gone);
    const std::vector<std::string> stay{"x", "x.tmp" + here, "x.tmp", "x.tmp" + there + "x", ".tmp" + there, "x.tmp-1"};
    for (const std::string& name : stay) std::ofstream(folder.path / name) << name;
    std::ofstream(folder.path / ("x.tmp" + there)) << "torn";
    AtomicFile::remove_leftovers(folder.path.string());
    CHECK(folder.entries() == static_cast<long>(stay.size()));
    for (const std::string& name : stay) CHECK(std::filesystem::exists(folder.path / name));
    AtomicFile::remove_leftovers(folder.file("none")); // no folder, no leftovers
}
