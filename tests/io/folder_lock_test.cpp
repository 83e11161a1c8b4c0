#include "support/check.hpp"
#include "support/file_size_limit.hpp"

#include <espalier/io/folder_lock.hpp>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>

#include <sys/wait.h>

using namespace espalier;

namespace {

/// An empty folder of this process, removed at the end of the scope.
struct Folder {
    std::string path = (std::filesystem::temp_directory_path() / ("espalier_lock_" + to_text(::getpid()))).string();
    Folder() { std::filesystem::create_directory(path); }
    ~Folder() { std::filesystem::remove_all(path); }
};

/// A process that locks a folder and holds it until it is killed.
class Holder {
public:
    explicit Holder(const std::string& folder) {
        int ready[2];
        REQUIRE(::pipe(ready) == 0);
        pid = ::fork();
        if (pid == 0) {
            const FolderLock lock(folder);
            if (::write(ready[1], "x", 1) == 1) ::pause();
            ::_exit(1);
        }
        char byte;
        REQUIRE(::read(ready[0], &byte, 1) == 1);
        for (const int end : ready) ::close(end);
    }
    ~Holder() { kill(); }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

    void kill() {
        if (pid <= 0) return;
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        pid = 0;
    }
    pid_t pid = 0;
};

} // namespace

TEST_CASE("folder_lock: a second process is refused with the number of the first, until that one is killed") {
    const Folder folder;
    Holder holder(folder.path);
    const std::string text = "FolderLock: expected to be the only one that writes to '" + folder.path +
                             "', got process " + to_text(holder.pid) + ", which still does";
    CHECK_THROWS_WITH_AS(FolderLock(folder.path), text.c_str(), IoError);
    CHECK_THROWS_AS(FolderLock(folder.path), IoError); // being refused changes nothing
    holder.kill();
    const FolderLock lock(folder.path);
}

TEST_CASE("folder_lock: one process can't hold a folder twice, and the end of a scope gives it up") {
    const Folder folder;
    {
        const FolderLock lock(folder.path);
        CHECK_THROWS_WITH_AS(FolderLock(folder.path), doctest::Contains(("process " + to_text(::getpid())).c_str()),
                             IoError);
    }
    const FolderLock again(folder.path);
    std::ofstream(folder.path + "/.lock") << "12"; // a number that is not finished
    CHECK_THROWS_WITH_AS(FolderLock(folder.path), doctest::Contains("got another process"), IoError);
}

TEST_CASE("folder_lock: what a killed process left half-written is removed") {
    const Folder folder;
    const pid_t gone = ::fork();
    if (gone == 0) {
        AtomicFile file(folder.path + "/checkpoint");
        file.write("half");
        ::_exit(0); // without destructors, as kill -9
    }
    ::waitpid(gone, nullptr, 0);
    const std::string leftover = folder.path + "/checkpoint.tmp" + to_text(gone);
    REQUIRE(std::filesystem::exists(leftover));
    const FolderLock lock(folder.path);
    CHECK_FALSE(std::filesystem::exists(leftover));
}

TEST_CASE("folder_lock: a folder that is missing or can't be written is an error") {
    CHECK_THROWS_WITH_AS(FolderLock("/nonexistent"), doctest::Contains("to open '/nonexistent/.lock', got No such"),
                         IoError);
    CHECK_THROWS_WITH_AS(FolderLock("/proc"), doctest::Contains("to open '/proc/.lock', got "), IoError);
    const Folder folder;
    {
        const test::FileSizeLimit full(0);
        CHECK_THROWS_WITH_AS(FolderLock(folder.path), doctest::Contains("expected to write '"), IoError);
    }
    const FolderLock lock(folder.path); // the failure did not keep it
}
