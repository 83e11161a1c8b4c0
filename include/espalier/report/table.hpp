#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
/// Tables, plots and progress for people.
namespace report {

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
    std::size_t width(std::size_t column) const;
    bool is_number(std::size_t column) const;
    std::string padded(const std::string& cell, std::size_t column) const;

    std::vector<std::vector<std::string>> rows_; // the header first
};

} // namespace report
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <algorithm>

namespace espalier::inline ESPALIER_BACKEND {
namespace report {

namespace detail {

/// Characters, not bytes: UTF-8 continues with bytes 10xxxxxx.
inline std::size_t length(const std::string& cell) {
    return static_cast<std::size_t>(
        std::count_if(cell.begin(), cell.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
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
    std::string all;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
        std::string line;
        for (std::size_t c = 0; c < rows_[r].size(); ++c) line += (c ? "  " : "") + padded(rows_[r][c], c);
        all += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
        if (r > 0) continue;
        for (std::size_t c = 0; c < rows_[0].size(); ++c) all += (c ? "  " : "") + std::string(width(c), '-');
        all += "\n";
    }
    return all;
}

ESPALIER_BODY std::string Table::markdown() const {
    Table safe(detail::escaped(rows_[0]));
    for (std::size_t r = 1; r < rows_.size(); ++r) safe.row(detail::escaped(rows_[r]));
    std::string all;
    for (std::size_t r = 0; r < safe.rows_.size(); ++r) {
        for (std::size_t c = 0; c < safe.rows_[r].size(); ++c) all += "| " + safe.padded(safe.rows_[r][c], c) + " ";
        all += "|\n";
        if (r > 0) continue;
        for (std::size_t c = 0; c < safe.rows_[0].size(); ++c)
            all += "|" + std::string(safe.width(c) + 1, '-') + (safe.is_number(c) ? ":" : "-");
        all += "|\n";
    }
    return all;
}

ESPALIER_BODY std::size_t Table::width(std::size_t column) const {
    std::size_t most = 1;
    for (const auto& cells : rows_) most = std::max(most, detail::length(cells[column]));
    return most;
}

/// Whether every cell below the header starts like a number, or says that there is none.
ESPALIER_BODY bool Table::is_number(std::size_t column) const {
    for (std::size_t r = 1; r < rows_.size(); ++r) {
        const std::string& cell = rows_[r][column];
        const std::size_t digit = cell.find_first_not_of("+-.<>~ ");
        if (!cell.empty() && cell != "-" && (digit == std::string::npos || cell[digit] < '0' || cell[digit] > '9'))
            return false;
    }
    return rows_.size() > 1;
}

ESPALIER_BODY std::string Table::padded(const std::string& cell, std::size_t column) const {
    const std::string blanks(width(column) - detail::length(cell), ' ');
    return is_number(column) ? blanks + cell : cell + blanks;
}

} // namespace report
} // namespace espalier::inline ESPALIER_BACKEND
#endif
