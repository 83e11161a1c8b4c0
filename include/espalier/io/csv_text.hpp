#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <string>
#include <vector>

// Not part of espalier.hpp: only files of measurements are read with it.

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

/// A file of comments `# name: value`, a line of column names, and rows: our measurements are kept so, to be read by
/// spreadsheets and people alike.
struct CsvText {
    std::vector<std::pair<std::string, std::string>> comments; ///< in order
    std::vector<std::vector<std::string>> rows;                ///< the first names the columns; all have as many cells
    bool whole = true;                                         ///< the last line ended: nothing was lost in writing

    /// Value of a comment. @throws IoError in the name of `who` if there is none
    const std::string& comment(const char* who, const std::string& path, const std::string& name) const;
};

/// Reads such a file; a last line without an end is left out. @throws IoError naming the file and the line
CsvText read_csv(const char* who, const std::string& path, const std::string& columns);

/// A number in full, as few digits as give it back.
std::string exact(double value);
/// A cell as a number. @throws IoError in the name of `who` if it is not one, or not all of it
/// @{
double number(const char* who, const std::string& path, const std::string& cell);
Index count(const char* who, const std::string& path, const std::string& cell);
/// @}

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

ESPALIER_BODY const std::string& CsvText::comment(const char* who, const std::string& path,
                                                  const std::string& name) const {
    for (const auto& [key, value] : comments)
        if (key == name) return value;
    throw IoError(join_text(who, ": expected a line '# ", name, ": ...' in ", path, ", got none"));
}

ESPALIER_BODY CsvText read_csv(const char* who, const std::string& path, const std::string& columns) {
    std::ifstream in(path, std::ios::binary);
    expect<IoError>(in.good(), who, ": expected a readable file ", path, ", got none");
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    CsvText csv;
    csv.whole = text.empty() || text.back() == '\n';
    Index line_number = 0;
    std::size_t cells = 0;
    for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
        const std::string line = text.substr(begin, end - begin);
        ++line_number;
        if (csv.rows.empty() && line.starts_with("# ")) {
            const std::size_t colon = line.find(": ");
            expect<IoError>(colon != std::string::npos, who, ": expected '# name: value' in line ", line_number, " of ",
                            path, ", got '", line, "'");
            csv.comments.emplace_back(line.substr(2, colon - 2), line.substr(colon + 2));
            continue;
        }
        expect<IoError>(!csv.rows.empty() || line == columns, who, ": expected the columns ", columns, " in line ",
                        line_number, " of ", path, ", got '", line, "'");
        std::vector<std::string>& row = csv.rows.emplace_back(1);
        for (const char c : line)
            if (c == ',')
                row.emplace_back();
            else
                row.back() += c;
        cells = cells == 0 ? row.size() : cells;
        expect<IoError>(row.size() == cells, who, ": expected ", cells, " cells in line ", line_number, " of ", path,
                        ", got ", row.size());
    }
    expect<IoError>(!csv.rows.empty(), who, ": expected the columns ", columns, " in ", path, ", got no such line");
    return csv;
}

ESPALIER_BODY std::string exact(double value) {
    char digits[32];
    return std::string(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

ESPALIER_BODY double number(const char* who, const std::string& path, const std::string& cell) {
    double value = 0;
    const auto end = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    expect<IoError>(end.ec == std::errc() && end.ptr == cell.data() + cell.size() && std::isfinite(value), who,
                    ": expected a number in ", path, ", got '", cell, "'");
    return value;
}

ESPALIER_BODY Index count(const char* who, const std::string& path, const std::string& cell) {
    Index value = 0;
    const auto end = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    expect<IoError>(end.ec == std::errc() && end.ptr == cell.data() + cell.size() && value >= 0, who,
                    ": expected a count in ", path, ", got '", cell, "'");
    return value;
}

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
#endif
