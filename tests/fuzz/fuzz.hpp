#pragma once

#include <espalier/core/error.hpp>

#include <cerrno> // program_invocation_short_name
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include <unistd.h>

// What the fuzzers share. A reader of a file returns a valid result or throws one of the library's errors, whatever the
// bytes are: another exception, a finding of a sanitizer, a result that contradicts itself or an allocation much larger
// than the file ends the process.

namespace espalier::fuzz {

/// The folder of this program for the files that readers are given, in memory where there is such a place. It stays:
/// libFuzzer ends without destructors.
inline const std::filesystem::path& folder() {
    static const std::filesystem::path path = [] {
        const std::filesystem::path memory = "/dev/shm", disk = std::filesystem::temp_directory_path();
        const auto made = (::access(memory.c_str(), W_OK) == 0 ? memory : disk) /
                          ("espalier-" + std::string(::program_invocation_short_name));
        std::filesystem::create_directories(made);
        return made;
    }();
    return path;
}

/// Writes the bytes [from, to) to a file of that name in the folder.
inline std::string write(const std::string& name, const std::uint8_t* from, const std::uint8_t* to) {
    const std::string path = (folder() / name).string();
    std::ofstream(path, std::ios::binary | std::ios::trunc).write(reinterpret_cast<const char*>(from), to - from);
    return path;
}

/// What `reader` returns, or nothing if it says in one of the library's errors what is wrong.
template <class F> auto read(F&& reader) -> std::optional<decltype(reader())> {
    try {
        return reader();
    } catch (const Error&) {
        return std::nullopt;
    }
}

/// Ends the process unless the condition holds.
inline void require(bool condition) {
    if (!condition) std::abort();
}

} // namespace espalier::fuzz
