#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/tensor/tensor.hpp>

#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Whether a tensor of another type is an error or is rounded to the type wanted.
enum class Precision { exact, converted };

/// A tensor of a file whose element type the library does not compute with, such as BF16. It can be converted, not
/// written.
struct ForeignTensor {
    std::string type;                ///< as the safetensors format names it: `BF16`
    Shape shape;                     ///< extents as in the file
    Tensor<std::uint8_t> bytes = {}; ///< of all elements, little-endian; undefined if the type is not known here
};

/// A tensor as files hold them: F32, F64, I64 or U8.
using AnyTensor = std::variant<Tensor<float>, Tensor<double>, Tensor<Index>, Tensor<std::uint8_t>, ForeignTensor>;

namespace detail {
template <class T> inline constexpr const char* element_type_name = "";
template <> inline constexpr const char* element_type_name<float> = "F32";
template <> inline constexpr const char* element_type_name<double> = "F64";
template <> inline constexpr const char* element_type_name<Index> = "I64";
template <> inline constexpr const char* element_type_name<std::uint8_t> = "U8";

template <class T> std::string element_type(const Tensor<T>&) { return element_type_name<T>; }
inline std::string element_type(const ForeignTensor& tensor) { return tensor.type; }
template <class T> Shape shape_of(const Tensor<T>& tensor) { return tensor.shape(); }
inline Shape shape_of(const ForeignTensor& tensor) { return tensor.shape; }

/// Bytes an element of a type takes, or 0 for a type that safetensors did not have when this was written.
inline std::uint64_t element_bytes(const std::string& type) {
    for (const char* const known : {"F64", "I64", "U64"})
        if (type == known) return 8;
    for (const char* const known : {"F32", "I32", "U32"})
        if (type == known) return 4;
    for (const char* const known : {"F16", "BF16", "I16", "U16"})
        if (type == known) return 2;
    for (const char* const known : {"U8", "I8", "BOOL", "F8_E4M3", "F8_E5M2"})
        if (type == known) return 1;
    return 0;
}

/// A number of IEEE 754's binary16: sign, 5 bits of exponent, 10 of fraction. Exact.
inline float from_half(std::uint16_t bits) {
    const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ffu;
    const float subnormal = static_cast<float>(fraction) * 0x1p-24f;
    if (exponent == 0) return sign ? -subnormal : subnormal;
    const std::uint32_t rebiased = exponent == 31 ? 255 : exponent + 127 - 15;
    return std::bit_cast<float>(sign | rebiased << 23 | fraction << 13);
}
/// The upper half of a float. Exact.
inline float from_bfloat(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t(bits) << 16); }

/// y[i] = decode(element i), elements being of type E.
template <class T, class E, class F> Tensor<T> decoded(const ForeignTensor& x, const F& decode) {
    Tensor<T> y(x.shape);
    for (Index i = 0; i < y.size(); ++i) {
        E element;
        std::memcpy(&element, x.bytes.data() + i * Index(sizeof element), sizeof element);
        y.mutable_data()[i] = static_cast<T>(decode(element));
    }
    return y;
}
/// The elements as T if the type is a shorter one of T's kind, else an undefined tensor.
template <class T> Tensor<T> widened(const ForeignTensor& x) {
    const auto as_it_is = [](auto element) { return element; };
    if constexpr (std::is_floating_point_v<T>) {
        if (x.type == "F16") return decoded<T, std::uint16_t>(x, from_half);
        if (x.type == "BF16") return decoded<T, std::uint16_t>(x, from_bfloat);
    } else if constexpr (std::is_same_v<T, Index>) {
        if (x.type == "I32") return decoded<T, std::int32_t>(x, as_it_is);
        if (x.type == "I16") return decoded<T, std::int16_t>(x, as_it_is);
        if (x.type == "I8") return decoded<T, std::int8_t>(x, as_it_is);
        if (x.type == "U32") return decoded<T, std::uint32_t>(x, as_it_is);
        if (x.type == "U16") return decoded<T, std::uint16_t>(x, as_it_is);
        if (x.type == "BOOL") return decoded<T, std::uint8_t>(x, as_it_is);
    }
    return {};
}

/// `a, b, c and 4 more`
std::string first_few(const std::vector<std::string>& names);
} // namespace detail

/// Named tensors in order, and a map of strings: the contents of a safetensors file (see io/safetensors.hpp).
///
/// A tensor that is added shares its memory, so collecting a model's state copies nothing.
class TensorFile {
public:
    /// A tensor and its name.
    struct Entry {
        std::string name; ///< unique in its file
        AnyTensor tensor; ///< shares memory with whoever added it
    };
    std::map<std::string, std::string> metadata; ///< strings by name, as the format's `__metadata__`

    /// `source` is what error texts call this collection: the path of the file it was read from.
    explicit TensorFile(std::string source = "tensors in memory") : source_(std::move(source)) {}

    /// Where it came from, for error texts.
    const std::string& source() const { return source_; }
    /// All tensors, in the order in which they were added.
    const std::vector<Entry>& entries() const { return entries_; }
    /// Whether there is a tensor of that name, of any type.
    bool contains(const std::string& name) const { return index_.contains(name); }

    /// Adds a tensor after the others. @throws StateError if the name is taken
    void add(const std::string& name, AnyTensor tensor);
    /// As above; what a GPU holds is copied to the CPU.
    template <class T> void add(const std::string& name, const Tensor<T>& tensor) {
        add(name, AnyTensor(tensor.to(Device::cpu)));
    }

    /// The tensor of that name and exactly that type; it shares memory with this file.
    /// @throws StateError if there is none, or if it has another type
    template <class T> Tensor<T> get(const std::string& name) const {
        const AnyTensor& tensor = find(name);
        if (const auto* exact = std::get_if<Tensor<T>>(&tensor)) return *exact;
        throw StateError(join_text("TensorFile: expected '", name, "' of type ", detail::element_type_name<T>, ", got ",
                                   type(name), " in ", source_));
    }
    /// As `get`, where F16, BF16, F32 and F64 stand for each other, rounded to T, and shorter integers for I64.
    template <class T> Tensor<T> get_converted(const std::string& name) const {
        const AnyTensor& tensor = find(name);
        if constexpr (std::is_floating_point_v<T>) {
            if (const auto* single = std::get_if<Tensor<float>>(&tensor)) return single->template cast<T>();
            if (const auto* full = std::get_if<Tensor<double>>(&tensor)) return full->template cast<T>();
        } else if (const auto* bytes = std::get_if<Tensor<std::uint8_t>>(&tensor)) {
            return bytes->template cast<T>();
        }
        if (const auto* foreign = std::get_if<ForeignTensor>(&tensor))
            if (const Tensor<T> all = detail::widened<T>(*foreign); all.defined()) return all;
        return get<T>(name);
    }
    /// Element type as the format names it: F32, F64, I64, U8, or what a foreign tensor has.
    std::string type(const std::string& name) const;
    /// Extents of that tensor. @throws StateError if there is none
    Shape shape(const std::string& name) const;

    /// The text under a key of `metadata`. @throws StateError if there is none
    const std::string& text(const std::string& key) const;

    /// Requires that the names starting with `prefix` are `prefix + n` for n in `names`, in any order.
    /// @throws StateError naming the first few that are missing or unexpected; the text starts with `who`
    void expect_names(const char* who, const std::string& prefix, const std::vector<std::string>& names) const;

private:
    const AnyTensor& find(const std::string& name) const;

    std::string source_;
    std::vector<Entry> entries_;
    std::unordered_map<std::string, std::size_t> index_;
};

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
ESPALIER_BODY std::string first_few(const std::vector<std::string>& names) {
    constexpr std::size_t shown = 5; // a line stays readable
    std::string text;
    for (std::size_t i = 0; i < names.size() && i < shown; ++i) text += (i ? ", " : "") + names[i];
    return names.size() > shown ? text + " and " + to_text(names.size() - shown) + " more" : text;
}
} // namespace detail

ESPALIER_BODY void TensorFile::add(const std::string& name, AnyTensor tensor) {
    expect<StateError>(!contains(name), "TensorFile: expected a new name, got '", name, "' twice in ", source_);
    index_.emplace(name, entries_.size());
    entries_.push_back({name, std::move(tensor)});
}

ESPALIER_BODY std::string TensorFile::type(const std::string& name) const {
    return std::visit([](const auto& t) { return detail::element_type(t); }, find(name));
}

ESPALIER_BODY Shape TensorFile::shape(const std::string& name) const {
    return std::visit([](const auto& t) { return detail::shape_of(t); }, find(name));
}

ESPALIER_BODY const std::string& TensorFile::text(const std::string& key) const {
    const auto it = metadata.find(key);
    expect<StateError>(it != metadata.end(), "TensorFile: expected metadata '", key, "', got none in ", source_);
    return it->second;
}

ESPALIER_BODY void TensorFile::expect_names(const char* who, const std::string& prefix,
                                            const std::vector<std::string>& names) const {
    std::vector<std::string> missing, unexpected;
    std::unordered_map<std::string, bool> wanted;
    for (const std::string& name : names) {
        wanted.emplace(prefix + name, true);
        if (!contains(prefix + name)) missing.push_back(prefix + name);
    }
    for (const Entry& entry : entries_)
        if (entry.name.starts_with(prefix) && !wanted.contains(entry.name)) unexpected.push_back(entry.name);
    expect<StateError>(missing.empty() && unexpected.empty(), who, ": expected the names of this object, got ",
                       missing.empty() ? "" : join_text("no ", detail::first_few(missing)),
                       missing.empty() || unexpected.empty() ? "" : ", and ",
                       unexpected.empty() ? "" : join_text("unexpected ", detail::first_few(unexpected)), " in ",
                       source_);
}

ESPALIER_BODY const AnyTensor& TensorFile::find(const std::string& name) const {
    const auto it = index_.find(name);
    expect<StateError>(it != index_.end(), "TensorFile: expected a tensor '", name, "', got none in ", source_);
    return entries_[it->second].tensor;
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
