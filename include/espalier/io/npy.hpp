#pragma once

#include <espalier/data/atomic_file.hpp>
#include <espalier/data/file.hpp>
#include <espalier/io/tensor_file.hpp>

// NumPy's file of one array: 0x93 "NUMPY", two bytes of version, the length of the header (2 bytes in version 1, 4
// later), the header as the text of a Python dictionary, the elements. Source: NumPy Enhancement Proposal 1,
// numpy.lib.format.

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// What NumPy calls an element type and safetensors does.
struct NpyType {
    const char *descr, *type;
};
inline constexpr NpyType npy_types[] = {{"<f4", "F32"}, {"<f8", "F64"}, {"<i8", "I64"}, {"|u1", "U8"},
                                        {"<f2", "F16"}, {"<i4", "I32"}, {"<i2", "I16"}, {"|i1", "I8"},
                                        {"<u8", "U64"}, {"<u4", "U32"}, {"<u2", "U16"}, {"|b1", "BOOL"}};

/// The header of a file in memory, read from its first byte on. `at()` is then where the elements start.
class NpyHeader {
public:
    explicit NpyHeader(const FileBytes& file) : file_(file) {
        const std::string_view magic("\x93NUMPY");
        for (const char c : magic) require(next() == c, "a file that starts with \\x93NUMPY, got another byte");
        const int major = static_cast<unsigned char>(next());
        const int minor = static_cast<unsigned char>(next());
        require(major >= 1 && major <= 3 && minor == 0, "version 1.0, 2.0 or 3.0, got ", major, ".", minor);
        Index length = 0;
        for (int byte = 0; byte < (major == 1 ? 2 : 4); ++byte)
            length |= Index(static_cast<unsigned char>(next())) << (8 * byte);
        require(length <= file.size() - at_, "a header of at most ", file.size() - at_, " bytes, got ", length);
        end_ = at_ + length;
        dictionary();
        require(at_ == end_, "the end of the header, got more text");
    }

    Index at() const { return at_; }
    std::string type; ///< as safetensors calls it
    Shape shape;
    bool first_axis_fastest = false; ///< `fortran_order`

private:
    template <class... Parts> void require(bool condition, const Parts&... parts) const {
        expect<IoError>(condition, "read_npy: expected ", parts..., " ", file_.at(at_));
    }
    char next() {
        require(at_ < end_, "a whole header, got its end");
        return static_cast<char>(file_.bytes[static_cast<std::size_t>(at_++)]);
    }
    void skip_blanks() {
        const std::string_view blanks(" \t\r\n");
        while (at_ < end_ && blanks.find(static_cast<char>(file_.bytes[static_cast<std::size_t>(at_)])) < blanks.size())
            ++at_;
    }
    /// Goes past `c` and blanks if `c` comes next.
    bool take(char c) {
        skip_blanks();
        if (at_ == end_ || file_.bytes[static_cast<std::size_t>(at_)] != static_cast<unsigned char>(c)) return false;
        ++at_;
        skip_blanks();
        return true;
    }
    bool take(std::string_view word) {
        const std::string_view rest(reinterpret_cast<const char*>(file_.bytes.data()) + at_,
                                    static_cast<std::size_t>(end_ - at_));
        if (!rest.starts_with(word)) return false;
        at_ += static_cast<Index>(word.size());
        return true;
    }
    std::string quoted(const char* what) {
        const char quote = take('\'') ? '\'' : take('"') ? '"' : '\0';
        require(quote != '\0', what, " in quotes, got something else");
        std::string text;
        for (char c = next(); c != quote; c = next()) text += c;
        return text;
    }
    void dictionary() {
        bool seen[3] = {};
        require(take('{'), "a dictionary, got other text");
        while (!take('}')) {
            const std::string key = quoted("a key");
            const int which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : 3;
            require(which < 3 && !seen[which], "descr, fortran_order and shape once each, got '", key, "'");
            seen[which] = true;
            require(take(':'), "a colon behind '", key, "', got something else");
            if (which == 0) read_type();
            if (which == 1) read_order();
            if (which == 2) read_shape();
            if (take(',')) continue;
            require(take('}'), "a comma or the end of the dictionary, got something else");
            break;
        }
        require(seen[0] && seen[1] && seen[2], "descr, fortran_order and shape in the header, got fewer");
    }
    void read_type() {
        const std::string descr = quoted("a plain element type");
        std::string known;
        for (const NpyType& candidate : npy_types) {
            if (descr == candidate.descr) type = candidate.type;
            known += (known.empty() ? "" : " ") + std::string(candidate.descr);
        }
        require(!type.empty(), "one of the types ", known, ", got '", descr, "'");
    }
    void read_order() {
        first_axis_fastest = take(std::string_view("True"));
        require(first_axis_fastest || take(std::string_view("False")), "True or False, got something else");
    }
    void read_shape() {
        require(take('('), "a shape in parentheses, got something else");
        while (!take(')')) {
            require(shape.rank() < Shape::max_rank, "at most 6 axes, got more");
            shape.append(number());
            if (take(',')) continue;
            require(take(')'), "a comma or the end of the shape, got something else");
            break;
        }
    }
    Index number() {
        Index value = 0;
        bool fits = true;
        const Index start = at_;
        for (; at_ < end_; ++at_) {
            const int digit = file_.bytes[static_cast<std::size_t>(at_)] - '0';
            if (digit < 0 || digit > 9) break;
            fits = fits && !__builtin_mul_overflow(value, Index(10), &value) &&
                   !__builtin_add_overflow(value, Index(digit), &value);
        }
        require(fits && at_ > start, "an extent of at least 0 and below 2^63, got something else");
        return value;
    }

    const FileBytes& file_;
    Index at_ = 0, end_ = file_.size();
};

/// Elements with the first axis fastest, as [axis 0, axis 1, ..] row-major.
template <class T> Tensor<T> last_axis_fastest(const Tensor<T>& x) {
    Tensor<T> y(x.shape());
    Shape at = x.shape(), step = x.shape(); // of the element that is written next; where x has its neighbours
    for (int axis = 0; axis < x.rank(); ++axis) {
        at[axis] = 0;
        step[axis] = x.shape().product(0, axis);
    }
    for (Index i = 0, from = 0; i < y.size(); ++i) {
        y.mutable_data()[i] = x.data()[from];
        for (int axis = x.rank() - 1; axis >= 0; --axis) {
            from += step[axis];
            if (++at[axis] < x.shape()[axis]) break;
            from -= step[axis] * std::exchange(at[axis], 0);
        }
    }
    return y;
}

} // namespace detail

/// Reads an array of NumPy: versions 1.0 to 3.0, little-endian, rows or columns first; `.npy.gz` is unpacked.
///
/// T is the file's type: float (f4), double (f8), Index (i8) or std::uint8_t (u1). With `Precision::converted` any
/// floating-point type is rounded to float or double, and shorter integers and bool become Index. Nothing is allocated
/// for extents that the file does not fill.
/// @throws IoError naming the file and the byte if it is missing, damaged or no such file, StateError for another type
template <class T> Tensor<T> read_npy(const std::string& path, Precision precision = Precision::exact) {
    const FileBytes file = read_file(path);
    const detail::NpyHeader header(file);
    const Index room = file.size() - header.at();
    Index bytes = static_cast<Index>(detail::element_bytes(header.type));
    bool fits = true;
    for (const Index extent : header.shape) // a product of extents could overflow, also beside a 0
        fits = fits && !__builtin_mul_overflow(bytes, std::max<Index>(extent, 1), &bytes);
    if (std::find(header.shape.begin(), header.shape.end(), 0) != header.shape.end()) bytes = 0;
    expect<IoError>(fits && bytes == room, "read_npy: expected the elements of ", header.type, " ", header.shape,
                    " after the header, got ", room, " bytes ", file.at(header.at()));

    const void* const elements = file.bytes.data() + header.at();
    TensorFile contents(path);
    const auto add = [&]<class E>(Tensor<E> x) {
        if (room > 0) std::memcpy(x.mutable_data(), elements, static_cast<std::size_t>(room));
        contents.add("array", std::move(x));
    };
    if (header.type == "F32") {
        add(Tensor<float>(header.shape));
    } else if (header.type == "F64") {
        add(Tensor<double>(header.shape));
    } else if (header.type == "I64") {
        add(Tensor<Index>(header.shape));
    } else if (header.type == "U8") {
        add(Tensor<std::uint8_t>(header.shape));
    } else {
        ForeignTensor x{header.type, header.shape, Tensor<std::uint8_t>({room})};
        if (room > 0) std::memcpy(x.bytes.mutable_data(), elements, static_cast<std::size_t>(room));
        contents.add("array", std::move(x));
    }
    const Tensor<T> x = precision == Precision::exact ? contents.get<T>("array") : contents.get_converted<T>("array");
    return header.first_axis_fastest ? detail::last_axis_fastest(x) : x;
}

/// Writes float, double, Index or std::uint8_t elements as an array of NumPy (version 1.0), atomically.
/// @throws IoError if the file can't be written
template <class T> void write_npy(const std::string& path, const Tensor<T>& x) {
    std::string descr;
    for (const detail::NpyType& known : detail::npy_types)
        if (detail::element_type(x) == known.type) descr = known.descr;
    std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (";
    for (const Index extent : x.shape()) header += to_text(extent) + ", ";
    if (x.rank() > 1) header.resize(header.size() - 2); // (2, 3), but (2,) for one axis and () for none
    if (x.rank() == 1) header.resize(header.size() - 1);
    header += "), }";
    const std::size_t before = 10; // magic, version and length; elements start at a multiple of 64
    header.resize((before + header.size() + 1 + 63) / 64 * 64 - before - 1, ' ');
    header += '\n';

    AtomicFile file(path);
    file.write(std::string_view("\x93NUMPY\x01\x00", 8));
    const char length[] = {static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
    file.write(length, sizeof length);
    file.write(header);
    file.write(x.data(), static_cast<std::size_t>(x.size()) * sizeof(T));
    file.commit();
}

} // namespace espalier::inline ESPALIER_BACKEND
