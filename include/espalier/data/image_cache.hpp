#pragma once

#include <espalier/data/atomic_file.hpp>
#include <espalier/tensor/tensor.hpp>

#include <zlib.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// The first 64 bytes of a cache, in this machine's byte order; the pixels follow. All of them must match.
struct ImageCacheHeader {
    std::array<char, 8> format{'E', 'S', 'P', 'I', 'M', 'G', '0', '1'}; ///< a new number makes old caches stale
    std::uint64_t source = 0;
    std::array<Index, 4> extents{}; ///< N, H, W, C
    std::uint64_t bytes = 0;
    std::uint64_t checksum = 0; ///< CRC-32 of the pixels

    ImageCacheHeader(std::uint64_t of, const Tensor<std::uint8_t>& images)
        : source(of), extents{images.size(0), images.size(1), images.size(2), images.size(3)},
          bytes(static_cast<std::uint64_t>(images.size())), checksum(crc32_z(0, images.data(), bytes)) {}
};

/// The pixels of a cache, or nothing unless it is whole and holds such images of this source.
inline std::optional<Tensor<std::uint8_t>> read_image_cache(const std::filesystem::path& path, std::uint64_t source,
                                                            const Shape& shape) {
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    std::array<char, sizeof(ImageCacheHeader)> header;
    if (error || size != header.size() + static_cast<std::uintmax_t>(shape.size())) return std::nullopt;
    std::ifstream in(path, std::ios::binary);
    Tensor<std::uint8_t> images(shape);
    in.read(header.data(), header.size());
    in.read(reinterpret_cast<char*>(images.mutable_data()), images.size());
    const ImageCacheHeader expected(source, images);
    if (!in || std::memcmp(header.data(), &expected, header.size()) != 0) return std::nullopt;
    return images;
}

} // namespace detail

/// Images [N,H,W,C] that are slow to make, from the file `path` if it holds them, else made by `make(images)` and
/// written there.
///
/// `source` is a hash of all that the pixels depend on. A file of another source, shape or version of the format, or
/// one that is damaged, is made again; it changes whole or not at all. A folder that is missing is made.
/// @throws IoError if there can be no such file, before `make` is called, or if it can't be written; what `make` throws
template <class Make>
Tensor<std::uint8_t> cached_images(const std::filesystem::path& path, std::uint64_t source, const Shape& shape,
                                   const Make& make) {
    if (auto images = detail::read_image_cache(path, source, shape)) return *images;
    std::error_code ignored; // the file below says why not
    std::filesystem::create_directories(path.parent_path(), ignored);
    std::optional<AtomicFile> file;
    try {
        file.emplace(path.string());
    } catch (const IoError& error) {
        throw IoError(join_text(error.what(), "; choose another folder by the option `cache`"));
    }
    Tensor<std::uint8_t> images(shape);
    make(mutable_view<4>(images));
    const detail::ImageCacheHeader header(source, images);
    file->write(&header, sizeof header);
    file->write(images.data(), header.bytes);
    file->commit();
    return images;
}

} // namespace espalier::inline ESPALIER_BACKEND
