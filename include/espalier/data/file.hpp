#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

struct FileBytes;

/// A place in a file, for messages: `at byte 8 of data/train.bin`.
struct FilePosition {
    const FileBytes& file; ///< whose name and unpacking the text mentions
    Index offset;          ///< in bytes from the start
};

/// The bytes of a file, unpacked if it was packed.
struct FileBytes {
    std::string path;                ///< as given to `read_file`
    std::vector<std::uint8_t> bytes; ///< after unpacking
    bool unpacked = false;           ///< offsets count bytes after unpacking

    /// Number of bytes, after unpacking.
    Index size() const { return static_cast<Index>(bytes.size()); }
    /// A position to put into an error text.
    FilePosition at(Index offset) const { return {*this, offset}; }
};

/// `at byte 8 of data/train.bin`
std::string to_text(const FilePosition& position);

/// Reads a whole file; one whose name ends in `.gz` is unpacked.
/// @throws IoError if it is missing or unreadable, or if gzip data are damaged, cut off or followed by something else
FileBytes read_file(const std::string& path);

namespace detail {

/// The folder that holds `file`: the given one or its folder `published`, as the set is unpacked.
/// @throws IoError in the name of `who`, ending in `get`: where to get the set
std::string find_published(const char* who, const std::string& folder, const char* published, const std::string& file,
                           const std::string& get);

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY std::string to_text(const FilePosition& position) {
    return join_text("at byte ", position.offset, position.file.unpacked ? " of the unpacked " : " of ",
                     position.file.path);
}

namespace detail {

/// The content of gzip data: one or more members (RFC 1952), each with its checksum, and nothing after them.
inline std::vector<std::uint8_t> unpack_gzip(const FileBytes& packed) {
    struct Stream {
        z_stream z{};
        Stream() {
            // 15: the largest window; 16: gzip, not zlib.
            expect<IoError>(inflateInit2(&z, 15 + 16) == Z_OK, "read_file: expected memory to unpack, got none");
        }
        ~Stream() { inflateEnd(&z); }
        Stream(const Stream&) = delete;
        Stream& operator=(const Stream&) = delete;
    } stream;
    z_stream& z = stream.z;
    std::vector<std::uint8_t> content, block(1 << 18);
    const Index size = packed.size();
    Index used = 0;
    for (int status = Z_OK;;) {
        const std::uint8_t* const rest = packed.bytes.data() + used;
        if (status == Z_STREAM_END) {
            if (used == size) return content;
            expect<IoError>(size - used >= 2 && rest[0] == 0x1f && rest[1] == 0x8b,
                            "read_file: expected the end of the gzip data, got ", size - used, " more bytes ",
                            packed.at(used));
            inflateReset(&z);
        }
        const Index piece = std::min<Index>(size - used, 1 << 30); // zlib counts in 32 bits
        z.next_in = const_cast<std::uint8_t*>(rest);               // zlib reads it only
        z.avail_in = static_cast<unsigned>(piece);
        z.next_out = block.data();
        z.avail_out = static_cast<unsigned>(block.size());
        status = inflate(&z, Z_NO_FLUSH);
        used += piece - static_cast<Index>(z.avail_in);
        content.insert(content.end(), block.data(), z.next_out);
        expect<IoError>(status != Z_BUF_ERROR, "read_file: expected more gzip data, got the end of the file ",
                        packed.at(used));
        expect<IoError>(status == Z_OK || status == Z_STREAM_END, "read_file: expected gzip data, got \"",
                        z.msg ? z.msg : "an unknown method", "\" ", packed.at(used));
    }
}

} // namespace detail

ESPALIER_BODY FileBytes read_file(const std::string& path) {
    std::error_code error;
    const auto kind = std::filesystem::status(path, error).type();
    expect<IoError>(kind == std::filesystem::file_type::regular, "read_file: expected a file, got ",
                    kind == std::filesystem::file_type::directory ? "the folder " : "nothing readable at ", path);
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    std::ifstream in(path, std::ios::binary);
    expect<IoError>(!error && in.is_open(), "read_file: expected a readable file, got one that does not open: ", path);
    FileBytes file{path, std::vector<std::uint8_t>(size)};
    in.read(reinterpret_cast<char*>(file.bytes.data()), static_cast<std::streamsize>(size));
    expect<IoError>(in.gcount() == static_cast<std::streamsize>(size), "read_file: expected ", file.size(),
                    " bytes, got an error ", file.at(in.gcount()));
    if (path.ends_with(".gz")) {
        file.bytes = detail::unpack_gzip(file);
        file.unpacked = true;
    }
    return file;
}

namespace detail {

ESPALIER_BODY std::string find_published(const char* who, const std::string& folder, const char* published,
                                         const std::string& file, const std::string& get) {
    std::error_code error;
    for (const std::string& place : {folder, folder + "/" + published})
        if (std::filesystem::is_regular_file(place + "/" + file, error)) return place;
    throw IoError(join_text(who, ": expected ", file, " in ", folder, " or its ", published, ", got neither", get));
}

} // namespace detail

} // namespace espalier::inline ESPALIER_BACKEND
#endif
