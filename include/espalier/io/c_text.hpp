#pragma once

#include <espalier/tensor/tensor.hpp>

#include <cstdio>
#include <string>
#include <vector>

// Not part of espalier.hpp: few programs export.

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

/// A number, exactly: C99 reads hexadecimal floats.
inline std::string c_number(double value) {
    if (value == 0) return "0";
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%a", value);
    return buffer;
}
/// As above, rounded to a float.
inline std::string c_float(double value) {
    const std::string text = c_number(static_cast<double>(static_cast<float>(value)));
    return text == "0" ? text : text + "f";
}

/// A definition: `static const float w[3] = {...};`
inline std::string c_array(const std::string& type, const std::string& name, const Tensor<double>& values) {
    std::string text = join_text(type, " ", name, "[", values.size(), "] = {");
    for (Index i = 0; i < values.size(); ++i) {
        text += i % 8 == 0 ? "\n    " : " ";
        text += c_float(values.data()[i]);
        text += ',';
    }
    return text + "\n};\n";
}
/// A string literal of any bytes.
inline std::string c_quoted(const std::string& name) {
    std::string text = "\"";
    for (const char c : name) {
        char octal[8];
        std::snprintf(octal, sizeof octal, "\\%03o", static_cast<unsigned>(static_cast<unsigned char>(c)));
        const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\' && c != '?';
        text += plain ? std::string(1, c) : std::string(octal);
    }
    return text + "\"";
}
/// Text for a comment, without what would end it.
inline std::string c_comment(const std::string& name) {
    std::string text = name;
    for (char& c : text)
        if (c < ' ' || c > '~' || c == '*' || c == '/') c = '_';
    return text;
}

/// Elements between neighbours along each axis; 0 repeats an axis.
using CStrides = std::vector<Index>;
/// Those of a dense array.
inline CStrides c_strides(const Shape& shape) {
    CStrides strides(static_cast<std::size_t>(shape.rank()), 1);
    for (std::size_t axis = strides.size(); axis-- > 1;)
        strides[axis - 1] = strides[axis] * shape[static_cast<int>(axis)];
    return strides;
}
/// The element of an array at i0, i1, ...: `v3[i0 * 32 + i1]`
inline std::string c_at(const std::string& array, const Shape& extents, const CStrides& strides, Index offset = 0) {
    std::string text = offset != 0 ? to_text(offset) : "";
    for (int axis = 0; axis < extents.rank(); ++axis) {
        const Index stride = strides[static_cast<std::size_t>(axis)];
        if (extents[axis] == 1 || stride == 0) continue;
        text += join_text(text.empty() ? "" : " + ", "i", axis, stride == 1 ? "" : join_text(" * ", stride));
    }
    return array + "[" + (text.empty() ? "0" : text) + "]";
}
/// The statement in loops over i0, i1, ... within the extents; an axis of one that it does not name needs no loop.
inline std::string c_loops(const Shape& extents, const std::string& statement) {
    std::string text, indent = "    ";
    for (int axis = 0; axis < extents.rank(); ++axis) {
        const std::string i = join_text("i", axis);
        if (extents[axis] == 1 && statement.find(i) == std::string::npos) continue;
        text += join_text(indent, "for (int ", i, " = 0; ", i, " < ", extents[axis], "; ++", i, ")\n");
        indent += "    ";
    }
    return text + indent + statement + ";\n";
}

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
