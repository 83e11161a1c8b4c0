#pragma once

#include <espalier/core/error.hpp>
#include <espalier/data/atomic_file.hpp>

#include <cerrno>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace espalier::inline ESPALIER_BACKEND {

/// One writer a folder, from construction to destruction; the system gives the lock up when the process ends, however
/// it ends. Readers need none: what they read changes whole or not at all.
///
/// The lock is one on the file `.lock` in the folder. The file stays, with the number of the last process that held it.
/// Temporaries that killed processes left in the folder are removed.
class FolderLock {
public:
    /// @throws IoError naming the process that holds the lock, or if the folder is missing or can't be written
    explicit FolderLock(const std::string& folder)
        : path_(folder + "/.lock"), file_(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
        expect<IoError>(file_ >= 0, "FolderLock: expected to open '", path_, "', got ", std::strerror(errno));
        try {
            const bool held = ::flock(file_, LOCK_EX | LOCK_NB) != 0;
            expect<IoError>(!held || errno == EWOULDBLOCK, "FolderLock: expected to lock '", path_, "', got ",
                            std::strerror(errno));
            expect<IoError>(!held, "FolderLock: expected to be the only one that writes to '", folder, "', got ",
                            holder(), ", which still does");
            const std::string pid = to_text(static_cast<long>(::getpid())) + "\n";
            const bool written = ::ftruncate(file_, 0) == 0 &&
                                 ::pwrite(file_, pid.data(), pid.size(), 0) == static_cast<ssize_t>(pid.size());
            expect<IoError>(written, "FolderLock: expected to write '", path_, "', got ", std::strerror(errno));
        } catch (...) {
            ::close(file_);
            throw;
        }
        AtomicFile::remove_leftovers(folder);
    }
    ~FolderLock() { ::close(file_); }
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

private:
    std::string holder() const {
        char digits[20]; // of any process number
        const ssize_t count = ::pread(file_, digits, sizeof digits, 0);
        const std::string pid(digits, count > 0 ? static_cast<std::size_t>(count) : 0);
        return pid.ends_with('\n') ? "process " + pid.substr(0, pid.size() - 1) : "another process";
    }

    std::string path_;
    int file_;
};

} // namespace espalier::inline ESPALIER_BACKEND
