#pragma once

#include <espalier/core/shape.hpp>

#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

// Files that the tests of readers make for themselves.

namespace espalier::test {

using Bytes = std::vector<std::uint8_t>;

/// A new folder that is removed with all it holds at the end of the scope.
class TemporaryFolder {
public:
    TemporaryFolder() {
        static int count = 0;
        path_ = std::filesystem::temp_directory_path() /
                ("espalier-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
        std::filesystem::create_directories(path_);
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    const std::filesystem::path& path() const { return path_; }
    /// Writes a file and returns where it is.
    std::filesystem::path write(const std::string& name, const Bytes& bytes) const {
        std::filesystem::create_directories((path_ / name).parent_path());
        std::ofstream out(path_ / name, std::ios::binary);
        out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        if (!out.flush()) throw std::runtime_error("TemporaryFolder: expected to write " + name);
        return path_ / name;
    }

private:
    std::filesystem::path path_;
};

/// One gzip member with the given content.
inline Bytes gzip(Bytes content) {
    z_stream z{};
    deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    Bytes packed(deflateBound(&z, content.size()));
    z.next_in = content.data();
    z.avail_in = static_cast<unsigned>(content.size());
    z.next_out = packed.data();
    z.avail_out = static_cast<unsigned>(packed.size());
    if (deflate(&z, Z_FINISH) != Z_STREAM_END) throw std::runtime_error("gzip: expected room for all");
    packed.resize(z.total_out);
    deflateEnd(&z);
    return packed;
}

inline Bytes operator+(Bytes a, const Bytes& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}
/// The first `count` bytes.
inline Bytes head(const Bytes& bytes, std::size_t count) {
    return {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count)};
}

} // namespace espalier::test
