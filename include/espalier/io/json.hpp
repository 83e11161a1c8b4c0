#pragma once

#include <espalier/core/error.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <limits>
#include <string>

// Includes the JSON library, which costs seconds to compile: include this where files are read or written.

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

/// Levels of lists and objects that a JSON file of ours may nest. Deeper ones would take the JSON library's recursive
/// functions through the stack.
inline constexpr int deepest_json = 16;

/// Parses JSON that nests no deeper than that. @throws nlohmann::json::exception, or IoError in the name of `who`
inline nlohmann::json parse_json(const char* who, const std::string& text, const std::string& path) {
    return nlohmann::json::parse(text, [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        expect<IoError>(depth <= deepest_json, who, ": expected JSON of at most ", deepest_json, " levels in ", path,
                        ", got more");
        return true;
    });
}

/// A whole number; the JSON library alone would round fractions, wrap what is too large and take `true` for 1.
/// @throws IoError in the name of `who`
inline Index whole_number(const char* who, const nlohmann::json& value, const std::string& path) {
    const bool fits = value.is_number_unsigned()
                          ? value.get<std::uint64_t>() <= std::uint64_t(std::numeric_limits<Index>::max())
                          : value.is_number_integer();
    expect<IoError>(fits, who, ": expected a whole number below 2^63 in ", path, ", got ", value.dump());
    return value.get<Index>();
}

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
