#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Rows of cells under a header, as aligned text or as Markdown. Columns of numbers are aligned to the right.
class Table {
public:
    /// A table with these columns and no row yet.
    explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}

    /// Adds a row. @throws ShapeError unless it has one cell a column
    Table& row(std::vector<std::string> cells);

    /// Two spaces between columns and a line of dashes below the header; each line ends with a line feed.
    std::string text() const;
    /// A table of GitHub's Markdown that is readable as text, too.
    std::string markdown() const;

private:
    struct Column {
        std::size_t width;
        bool numbers; // every cell below the header is one, or says that there is none
        std::string padded(const std::string& cell) const;
    };
    std::vector<Column> columns() const;

    std::vector<std::vector<std::string>> rows_; // the header first
};

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <algorithm>
#include <cctype>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// Characters, not bytes: UTF-8 continues with bytes 10xxxxxx.
inline std::size_t characters(const std::string& cell) {
    return static_cast<std::size_t>(
        std::count_if(cell.begin(), cell.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// Whether a cell starts with a number: `92.5 %` and `1e-5` do, `0.weight` is a name.
inline bool is_number(const std::string& cell) {
    const std::size_t digit = cell.find_first_not_of("+-.<>~ ");
    if (digit == std::string::npos || cell[digit] < '0' || cell[digit] > '9') return false;
    const std::size_t end = cell.find_first_not_of("0123456789.,e", digit);
    return end == std::string::npos || !(std::isalpha(static_cast<unsigned char>(cell[end])) || cell[end] == '_');
}

inline std::vector<std::string> escaped(std::vector<std::string> cells) {
    for (std::string& cell : cells) {
        std::replace(cell.begin(), cell.end(), '\n', ' ');
        for (std::size_t at = 0; (at = cell.find('|', at)) != std::string::npos; at += 2) cell.insert(at, "\\");
    }
    return cells;
}

} // namespace detail

ESPALIER_BODY Table& Table::row(std::vector<std::string> cells) {
    expect(cells.size() == rows_[0].size(), "Table: expected ", rows_[0].size(), " cells, got ", cells.size());
    rows_.push_back(std::move(cells));
    return *this;
}

ESPALIER_BODY std::string Table::text() const {
    const std::vector<Column> columns = this->columns();
    std::string all;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
        std::string line;
        for (std::size_t c = 0; c < columns.size(); ++c) line += (c ? "  " : "") + columns[c].padded(rows_[r][c]);
        all += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
        if (r > 0) continue;
        for (std::size_t c = 0; c < columns.size(); ++c) all += (c ? "  " : "") + std::string(columns[c].width, '-');
        all += "\n";
    }
    return all;
}

ESPALIER_BODY std::string Table::markdown() const {
    Table safe(detail::escaped(rows_[0]));
    for (std::size_t r = 1; r < rows_.size(); ++r) safe.row(detail::escaped(rows_[r]));
    const std::vector<Column> columns = safe.columns();
    std::string all;
    for (std::size_t r = 0; r < safe.rows_.size(); ++r) {
        for (std::size_t c = 0; c < columns.size(); ++c) all += "| " + columns[c].padded(safe.rows_[r][c]) + " ";
        all += "|\n";
        if (r > 0) continue;
        for (const Column& column : columns)
            all += "|" + std::string(column.width + 1, '-') + (column.numbers ? ":" : "-");
        all += "|\n";
    }
    return all;
}

ESPALIER_BODY std::vector<Table::Column> Table::columns() const {
    std::vector<Column> columns(rows_[0].size(), {1, rows_.size() > 1});
    for (std::size_t r = 0; r < rows_.size(); ++r)
        for (std::size_t c = 0; c < columns.size(); ++c) {
            const std::string& cell = rows_[r][c];
            columns[c].width = std::max(columns[c].width, detail::characters(cell));
            if (r > 0 && !cell.empty() && cell != "-" && !detail::is_number(cell)) columns[c].numbers = false;
        }
    return columns;
}

ESPALIER_BODY std::string Table::Column::padded(const std::string& cell) const {
    const std::string blanks(width - detail::characters(cell), ' ');
    return numbers ? blanks + cell : cell + blanks;
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
