#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/io/tensor_file.hpp>

#include <cstdint>
#include <string>

// Not part of espalier.hpp: headers alone, it includes the JSON library, which costs seconds to compile.

namespace espalier::inline ESPALIER_BACKEND {

/// Reads a safetensors file: 8 bytes of header length, a JSON header, raw little-endian data without holes.
///
/// Every length is checked before it is used, so a damaged or hostile file is an error and no tensor is larger than the
/// file. Tensors of types other than F32, F64, I64 and U8 can be converted; one that can't is an error when asked for.
/// @throws IoError naming the file and the byte
/// Source: https://github.com/huggingface/safetensors#format
TensorFile read_safetensors(const std::string& path);

/// Writes a safetensors file, atomically: `path` holds the old or the new contents, whatever happens.
///
/// Entries keep their order in the header; their data lies in falling order of element size, so all is aligned.
/// @throws IoError if the file can't be written, StateError for text that is not UTF-8 or a foreign tensor
void write_safetensors(const TensorFile& contents, const std::string& path);

/// Bytes of the file that `write_safetensors` would write.
std::uint64_t safetensors_bytes(const TensorFile& contents);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/data/atomic_file.hpp>
#include <espalier/io/json.hpp>

#include <algorithm>
#include <bit>
#include <fstream>
#include <limits>
#include <set>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian, and so is the reader");

using SafetensorsHeader = nlohmann::ordered_json;

/// A tensor of a header after all checks: `bytes` bytes at `begin`, counted from the end of the header.
struct TensorExtent {
    std::string name, type;
    Shape shape;
    std::uint64_t begin = 0, bytes = 0;
};

/// Where in which file something is wrong; the start of every error text of the reader.
struct FilePlace {
    const std::string& path;
    template <class... Parts> IoError error(std::uint64_t byte, const Parts&... parts) const {
        return IoError(join_text("safetensors: expected ", parts..., " in '", path, "' at byte ", byte));
    }
    template <class... Parts> void require(bool condition, std::uint64_t byte, const Parts&... parts) const {
        if (!condition) throw error(byte, parts...);
    }
};

/// Parses the header's text; the JSON library alone would let the last of two equal names win.
inline SafetensorsHeader parse_header(const FilePlace& place, const std::string& text) {
    std::vector<std::set<std::string>> names; // of the objects that are open, by depth
    const auto unique = [&](int depth, SafetensorsHeader::parse_event_t event, SafetensorsHeader& value) {
        place.require(depth <= deepest_json, 8, "at most ", deepest_json, " levels of JSON, got more");
        const auto level = static_cast<std::size_t>(depth);
        if (event == SafetensorsHeader::parse_event_t::object_start) names.resize(level), names.emplace_back();
        if (event == SafetensorsHeader::parse_event_t::key) {
            const auto& name = value.get_ref<const std::string&>();
            place.require(names[level - 1].insert(name).second, 8, "unique names, got '", name, "' twice");
        }
        return true;
    };
    try {
        // The format asks for '{' first; the parser would accept a byte order mark or blanks before it.
        place.require(!text.empty() && text.front() == '{', 8, "a JSON object, got other text");
        return SafetensorsHeader::parse(text, unique);
    } catch (const SafetensorsHeader::parse_error& error) {
        throw place.error(7 + error.byte, "a JSON header, got ", error.what()); // the parser counts from 1
    } catch (const SafetensorsHeader::exception& error) {
        throw place.error(8, "a JSON header, got ", error.what());
    }
}

/// A list of integers that are not negative, such as a shape.
inline std::vector<std::uint64_t> extents_of(const FilePlace& place, const std::string& name, const char* key,
                                             const SafetensorsHeader& value) {
    const auto list = value.find(key);
    bool fits = list != value.end() && list->is_array();
    std::vector<std::uint64_t> numbers;
    if (fits)
        for (const auto& number : *list) {
            fits = fits && number.is_number_unsigned() &&
                   number.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
            if (fits) numbers.push_back(number.get<std::uint64_t>());
        }
    place.require(fits, 8, "'", key, "' of '", name, "' to be a list of integers of at least 0, got ",
                  list == value.end() ? "none"
                                      : list->dump(-1, ' ', false, SafetensorsHeader::error_handler_t::replace));
    return numbers;
}

/// One entry of the header, checked against itself and the `available` bytes of data.
inline TensorExtent read_extent(const FilePlace& place, const std::string& name, const SafetensorsHeader& value,
                                std::uint64_t data_start, std::uint64_t available) {
    place.require(value.is_object() && value.contains("dtype") && value["dtype"].is_string(), 8, "'", name,
                  "' to be an object with a dtype, got other JSON");
    TensorExtent extent{name, value["dtype"].get<std::string>(), {}};
    const auto shape = extents_of(place, name, "shape", value);
    const auto offsets = extents_of(place, name, "data_offsets", value);
    place.require(shape.size() <= Shape::max_rank, 8, "at most 6 axes for '", name, "', got ", shape.size());
    place.require(offsets.size() == 2, 8, "two offsets for '", name, "', got ", offsets.size());
    const auto [begin, end] = std::pair(offsets[0], offsets[1]);
    place.require(begin <= end && end <= available, data_start, "'", name, "' within ", available,
                  " bytes of data, got [", begin, ",", end, "]");
    extent.begin = begin;
    extent.bytes = end - begin;

    const std::uint64_t element = element_bytes(extent.type);
    Index bytes = static_cast<Index>(element);
    bool overflows = false, empty = false; // extents beside a 0 must not overflow either
    for (const std::uint64_t axis : shape) {
        overflows =
            overflows || __builtin_mul_overflow(bytes, static_cast<Index>(std::max<std::uint64_t>(axis, 1)), &bytes);
        empty = empty || axis == 0;
        extent.shape.append(static_cast<Index>(axis));
    }
    if (empty) bytes = 0;
    if (element == 0) return extent; // a type to come: its size is not known, and nobody will read it
    place.require(!overflows && static_cast<std::uint64_t>(bytes) == extent.bytes, data_start + begin, extent.bytes,
                  " bytes for '", name, "' by its offsets, got ", extent.type, " ", extent.shape,
                  overflows ? " that no file can hold" : join_text(" of ", bytes, " bytes"));
    place.require(begin % element == 0, data_start + begin, "'", name, "' at a multiple of ", element,
                  " bytes, got offset ", begin);
    return extent;
}

/// Reads the `extent.bytes` bytes that start where the file stands.
inline void read_elements(std::ifstream& file, const FilePlace& place, const TensorExtent& extent, void* to) {
    const auto start = static_cast<std::uint64_t>(file.tellg());
    file.read(static_cast<char*>(to), static_cast<std::streamsize>(extent.bytes));
    place.require(static_cast<std::uint64_t>(file.gcount()) == extent.bytes, start, extent.bytes, " bytes for '",
                  extent.name, "', got ", file.gcount());
}
template <class T> AnyTensor read_tensor(std::ifstream& file, const FilePlace& place, const TensorExtent& extent) {
    Tensor<T> tensor(extent.shape);
    read_elements(file, place, extent, tensor.mutable_data());
    return tensor;
}
inline AnyTensor read_foreign(std::ifstream& file, const FilePlace& place, const TensorExtent& extent) {
    ForeignTensor tensor{extent.type, extent.shape};
    if (element_bytes(extent.type) == 0) return tensor;
    tensor.bytes = Tensor<std::uint8_t>({static_cast<Index>(extent.bytes)});
    read_elements(file, place, extent, tensor.bytes.mutable_data());
    return tensor;
}

} // namespace detail

ESPALIER_BODY TensorFile read_safetensors(const std::string& path) {
    const detail::FilePlace place{path};
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    place.require(file.is_open(), 0, "a file that can be opened, got ", std::strerror(errno));
    const std::streamoff end = file.tellg();
    place.require(end >= 8 && end < std::numeric_limits<std::streamoff>::max(), 0, "a file of at least 8 bytes, got ",
                  end);
    const auto size = static_cast<std::uint64_t>(end);
    file.seekg(0);
    std::uint64_t length = 0;
    file.read(reinterpret_cast<char*>(&length), sizeof length);
    constexpr std::uint64_t longest = 100'000'000; // the limit that the reference implementation sets
    place.require(file.good() && length <= size - 8 && length <= longest, 0, "a header of at most ",
                  std::min(size - 8, longest), " bytes, got ", length);
    std::string text(length, '\0');
    file.read(text.data(), static_cast<std::streamsize>(length));
    place.require(file.good(), 8, "a header of ", length, " bytes, got ", file.gcount());

    const detail::SafetensorsHeader header = detail::parse_header(place, text);
    const std::uint64_t data_start = 8 + length;
    TensorFile result(path);
    std::vector<detail::TensorExtent> extents;
    for (const auto& [name, value] : header.items()) {
        if (name != "__metadata__") {
            extents.push_back(detail::read_extent(place, name, value, data_start, size - data_start));
            continue;
        }
        place.require(value.is_object(), 8, "'__metadata__' to be an object, got other JSON");
        for (const auto& [key, entry] : value.items()) {
            place.require(entry.is_string(), 8, "metadata '", key, "' to be a string, got other JSON");
            result.metadata[key] = entry.get<std::string>();
        }
    }
    std::vector<const detail::TensorExtent*> by_offset;
    for (const auto& extent : extents) by_offset.push_back(&extent);
    std::sort(by_offset.begin(), by_offset.end(), [](const auto* a, const auto* b) {
        return std::pair(a->begin, a->bytes) < std::pair(b->begin, b->bytes);
    });
    std::uint64_t covered = 0;
    for (const auto* extent : by_offset) {
        place.require(extent->begin == covered, data_start + covered, "'", extent->name, "' at offset ", covered,
                      ", where the one before it ends, got ", extent->begin);
        covered += extent->bytes;
    }
    place.require(covered == size - data_start, data_start + covered, "the file to end with its last tensor, got ",
                  size - data_start - covered, " bytes more");

    for (const auto& extent : extents) {
        file.seekg(static_cast<std::streamoff>(data_start + extent.begin));
        if (extent.type == "F32")
            result.add(extent.name, detail::read_tensor<float>(file, place, extent));
        else if (extent.type == "F64")
            result.add(extent.name, detail::read_tensor<double>(file, place, extent));
        else if (extent.type == "I64")
            result.add(extent.name, detail::read_tensor<Index>(file, place, extent));
        else if (extent.type == "U8")
            result.add(extent.name, detail::read_tensor<std::uint8_t>(file, place, extent));
        else
            result.add(extent.name, detail::read_foreign(file, place, extent));
    }
    return result;
}

namespace detail {

/// A file to be: the length of the header and the header, then the data of the tensors.
struct SafetensorsLayout {
    std::string start;
    std::vector<std::pair<const void*, std::size_t>> blocks;
};

inline SafetensorsLayout lay_out(const TensorFile& contents) {
    struct Block {
        const TensorFile::Entry* entry;
        const void* data;
        std::size_t bytes, element;
        std::uint64_t begin = 0;
    };
    std::vector<Block> blocks;
    for (const auto& entry : contents.entries())
        std::visit(
            [&]<class A>(const A& tensor) {
                if constexpr (std::is_same_v<A, ForeignTensor>)
                    throw StateError(join_text("safetensors: expected '", entry.name,
                                               "' of type F32, F64, I64 or U8, got ", tensor.type));
                else {
                    const std::size_t element = sizeof(*tensor.data());
                    blocks.push_back(
                        {&entry, tensor.data(), static_cast<std::size_t>(tensor.size()) * element, element});
                }
            },
            entry.tensor);
    std::vector<Block*> order;
    for (Block& block : blocks) order.push_back(&block);
    std::stable_sort(order.begin(), order.end(),
                     [](const Block* a, const Block* b) { return a->element > b->element; });
    std::uint64_t end = 0;
    for (Block* const block : order) block->begin = std::exchange(end, end + block->bytes);

    SafetensorsHeader header = SafetensorsHeader::object();
    for (const auto& [key, value] : contents.metadata) header["__metadata__"][key] = value;
    for (const Block& block : blocks) {
        const std::string& name = block.entry->name;
        expect<StateError>(name != "__metadata__", "safetensors: expected a tensor name, got the reserved '", name,
                           "'");
        const Shape shape = contents.shape(name);
        header[name] = {{"dtype", contents.type(name)},
                        {"shape", std::vector<Index>(shape.begin(), shape.end())},
                        {"data_offsets", {block.begin, block.begin + block.bytes}}};
    }
    std::string text;
    try {
        text = header.dump();
    } catch (const SafetensorsHeader::type_error& error) {
        throw StateError(join_text("safetensors: expected UTF-8 names and metadata, got ", error.what()));
    }
    text.resize((text.size() + 7) / 8 * 8, ' '); // data starts at a multiple of 8
    const std::uint64_t length = text.size();

    SafetensorsLayout layout{std::string(reinterpret_cast<const char*>(&length), sizeof length) + text, {}};
    for (const Block* const block : order) layout.blocks.emplace_back(block->data, block->bytes);
    return layout;
}

} // namespace detail

ESPALIER_BODY void write_safetensors(const TensorFile& contents, const std::string& path) {
    const detail::SafetensorsLayout layout = detail::lay_out(contents);
    AtomicFile file(path);
    file.write(layout.start);
    for (const auto& [data, bytes] : layout.blocks) file.write(data, bytes);
    file.commit();
}

ESPALIER_BODY std::uint64_t safetensors_bytes(const TensorFile& contents) {
    const detail::SafetensorsLayout layout = detail::lay_out(contents);
    std::uint64_t bytes = layout.start.size();
    for (const auto& block : layout.blocks) bytes += block.second;
    return bytes;
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
