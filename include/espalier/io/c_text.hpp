#pragma once

#include <espalier/tensor/tensor.hpp>

#include <cstdio>
#include <string>

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

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
