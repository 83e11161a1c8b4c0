#pragma once

#include <espalier/tensor/tensor.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// A tensor of a file whose element type the library has no use for, such as BF16: it is named, never converted.
struct ForeignTensor {
    std::string type; ///< as the file names it: `BF16`
    Shape shape;      ///< extents as in the file
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

/// `a, b, c and 4 more`
inline std::string first_few(const std::vector<std::string>& names) {
    constexpr std::size_t shown = 5; // a line stays readable
    std::string text;
    for (std::size_t i = 0; i < names.size() && i < shown; ++i) text += (i ? ", " : "") + names[i];
    return names.size() > shown ? text + " and " + to_text(names.size() - shown) + " more" : text;
}
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
    void add(const std::string& name, AnyTensor tensor) {
        expect<StateError>(!contains(name), "TensorFile: expected a new name, got '", name, "' twice in ", source_);
        index_.emplace(name, entries_.size());
        entries_.push_back({name, std::move(tensor)});
    }

    /// The tensor of that name and exactly that type; it shares memory with this file.
    /// @throws StateError if there is none, or if it has another type
    template <class T> Tensor<T> get(const std::string& name) const {
        const AnyTensor& tensor = find(name);
        if (const auto* exact = std::get_if<Tensor<T>>(&tensor)) return *exact;
        throw StateError(join_text("TensorFile: expected '", name, "' of type ", detail::element_type_name<T>, ", got ",
                                   type(name), " in ", source_));
    }
    /// As `get`, where F32 and F64 stand for each other, rounded to T.
    template <class T> Tensor<T> get_converted(const std::string& name) const {
        const AnyTensor& tensor = find(name);
        if (const auto* single = std::get_if<Tensor<float>>(&tensor)) return single->template cast<T>();
        if (const auto* full = std::get_if<Tensor<double>>(&tensor)) return full->template cast<T>();
        return get<T>(name);
    }
    /// Element type as the format names it: F32, F64, I64, U8, or what a foreign tensor has.
    std::string type(const std::string& name) const {
        return std::visit([](const auto& t) { return detail::element_type(t); }, find(name));
    }
    /// Extents of that tensor. @throws StateError if there is none
    Shape shape(const std::string& name) const {
        return std::visit([](const auto& t) { return detail::shape_of(t); }, find(name));
    }

    /// The text under a key of `metadata`. @throws StateError if there is none
    const std::string& text(const std::string& key) const {
        const auto it = metadata.find(key);
        expect<StateError>(it != metadata.end(), "TensorFile: expected metadata '", key, "', got none in ", source_);
        return it->second;
    }

    /// Requires that the names starting with `prefix` are `prefix + n` for n in `names`, in any order.
    /// @throws StateError naming the first few that are missing or unexpected; the text starts with `who`
    void expect_names(const char* who, const std::string& prefix, const std::vector<std::string>& names) const {
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

private:
    const AnyTensor& find(const std::string& name) const {
        const auto it = index_.find(name);
        expect<StateError>(it != index_.end(), "TensorFile: expected a tensor '", name, "', got none in ", source_);
        return entries_[it->second].tensor;
    }

    std::string source_;
    std::vector<Entry> entries_;
    std::unordered_map<std::string, std::size_t> index_;
};

} // namespace espalier::inline ESPALIER_BACKEND
