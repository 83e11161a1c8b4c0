#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <unistd.h>

namespace espalier::test {

/// A path of its own in the folder for temporary files; what is written there is removed at the end of the scope.
struct TemporaryPath {
    TemporaryPath() = default;
    ~TemporaryPath() { std::filesystem::remove(path); }
    TemporaryPath(const TemporaryPath&) = delete;
    TemporaryPath& operator=(const TemporaryPath&) = delete;

    inline static int count = 0;
    const std::string path = (std::filesystem::temp_directory_path() /
                              ("espalier-test-" + std::to_string(::getpid()) + "-path-" + std::to_string(count++)))
                                 .string();
};

/// All bytes of a file, and a file of these bytes.
/// @{
inline std::string slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}
inline void spill(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}
/// @}

} // namespace espalier::test
