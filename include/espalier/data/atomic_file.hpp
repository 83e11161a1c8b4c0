#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace espalier::inline ESPALIER_BACKEND {

/// A file that appears under its name whole or not at all.
///
/// Bytes go to a temporary name in the same folder. `commit` flushes them to the disk, renames the file over `path` and
/// flushes the folder. Until then, and after any failure (disk full, no permission), what `path` held before is intact;
/// the destructor removes a temporary that was not committed. That of a process that was killed stays, as `path` with
/// `.tmp` and the number of the process, until `remove_leftovers`.
class AtomicFile {
public:
    /// @throws IoError if the temporary can't be made
    explicit AtomicFile(std::string path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    /// Appends bytes. @throws IoError with the number that fitted
    void write(const void* data, std::size_t bytes);
    /// Text likewise, as its bytes.
    void write(std::string_view text) { write(text.data(), text.size()); }

    /// Makes the file appear. @throws IoError, with the old file in place, if the disk does not take it
    void commit();

    /// Removes from a folder the temporaries of processes that are gone.
    static void remove_leftovers(const std::string& folder);

private:
    [[noreturn]] void fail(const std::string& expected, const std::string& got = {}) const;

    std::string path_, temporary_;
    int file_ = -1;
    bool committed_ = false;
    bool created_ = file_ >= 0;
    std::size_t written_ = 0;
};

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <memory>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(path_ + ".tmp" + to_text(static_cast<long>(::getpid()))),
      file_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
    if (file_ < 0) fail("to create it");
}

ESPALIER_BODY AtomicFile::~AtomicFile() {
    if (file_ >= 0) ::close(file_);
    if (!committed_ && created_) ::unlink(temporary_.c_str());
}

ESPALIER_BODY void AtomicFile::write(const void* data, std::size_t bytes) {
    const char* from = static_cast<const char*>(data);
    const std::size_t end = written_ + bytes;
    while (written_ < end) {
        const ssize_t count = ::write(file_, from, end - written_);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) fail(join_text("to write ", end, " bytes"), join_text(written_, " bytes, then "));
        from += count;
        written_ += static_cast<std::size_t>(count);
    }
}

ESPALIER_BODY void AtomicFile::commit() {
    if (::fsync(file_) != 0) fail("to flush it");
    const int closed = ::close(std::exchange(file_, -1));
    if (closed != 0) fail("to close it");
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("to rename its temporary");
    committed_ = true;
    // The rename itself must survive a power cut. Some file systems can't flush a folder and say EINVAL.
    const std::size_t slash = path_.find_last_of('/');
    const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int handle = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool flushed = handle >= 0 && (::fsync(handle) == 0 || errno == EINVAL);
    const int error = errno;
    if (handle >= 0) ::close(handle);
    errno = error;
    if (!flushed) fail("to flush its folder");
}

ESPALIER_BODY void AtomicFile::remove_leftovers(const std::string& folder) {
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
    while (const dirent* const entry = entries ? ::readdir(entries.get()) : nullptr) {
        const std::string_view name = entry->d_name;
        const std::size_t dot = name.rfind(".tmp");
        if (dot == name.npos || dot == 0) continue;
        const std::string_view digits = name.substr(dot + 4);
        pid_t pid = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), pid);
        const bool ours = error == std::errc() && end == digits.data() + digits.size() && pid > 0;
        if (ours && ::kill(pid, 0) != 0 && errno == ESRCH) ::unlink((folder + "/" + entry->d_name).c_str());
    }
}

ESPALIER_BODY void AtomicFile::fail(const std::string& expected, const std::string& got) const {
    throw IoError(join_text("AtomicFile: expected ", expected, " for '", path_, "', got ", got, std::strerror(errno)));
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
