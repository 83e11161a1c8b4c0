#pragma once

#include <espalier/core/shape.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Base of everything the library throws. The text is one line: who, what was expected, what was got.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};
/// An operand has the wrong shape, or an option the wrong range.
struct ShapeError : Error {
    using Error::Error;
};
/// An operand is on the wrong device, or the device is not there.
struct DeviceError : Error {
    using Error::Error;
};
/// A file is missing, truncated, foreign or could not be written.
struct IoError : Error {
    using Error::Error;
};
/// The call does not fit the state of the object (no graph, a plan for another network, a loss that is not finite).
struct StateError : Error {
    using Error::Error;
};

/// Text as it is.
/// @{
inline std::string to_text(std::string_view text) { return std::string(text); }
inline std::string to_text(const char* text) { return text; }
inline std::string to_text(const std::string& text) { return text; }
/// @}
/// Integers in full, other numbers to six digits.
template <class N>
    requires std::is_arithmetic_v<N> std::string to_text(N number) {
        if constexpr (std::is_floating_point_v<N>) {
            char buffer[32];
            std::snprintf(buffer, sizeof buffer, "%g", static_cast<double>(number));
            return buffer;
        } else {
            return std::to_string(number);
        }
    }
/// Values in order: `[1,2,3]`.
template <class V> std::string to_text(const std::vector<V>& values) {
    std::string text = "[";
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (i > 0) text += ',';
        text += to_text(values[i]);
    }
    text += ']';
    return text;
}

namespace detail {

// Literals become pointers, so that messages of the same kinds of parts share one instantiation whatever their lengths.
template <class P> const P& text_part(const P& part) { return part; }
inline const char* text_part(const char* part) { return part; }

// Out of line and cold: building messages is most of the library's calls and none of its time.
template <class... Parts> [[gnu::noinline, gnu::cold]] std::string join_parts(const Parts&... parts) {
    std::string text;
    ((text += to_text(parts)), ...);
    return text;
}
template <class E, class... Parts> [[noreturn, gnu::noinline, gnu::cold]] void fail(const Parts&... parts) {
    throw E(join_parts(parts...));
}

} // namespace detail

/// The parts one after the other, each through `to_text`.
template <class... Parts> std::string join_text(const Parts&... parts) {
    return detail::join_parts(detail::text_part(parts)...);
}

/// Throws `E` with the joined parts unless the condition holds; the text is built only on failure.
template <class E = ShapeError, class... Parts> void expect(bool condition, const Parts&... parts) {
    if (!condition) [[unlikely]]
        detail::fail<E>(detail::text_part(parts)...);
}

} // namespace espalier::inline ESPALIER_BACKEND
