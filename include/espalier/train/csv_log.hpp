#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// A table on disk that grows by a row at a time; each row is handed to the system before `row` returns.
///
/// The first column counts steps and rises. Numbers are written so that reading gives them back exactly.
class CsvLog {
public:
    /// Starts a new file with a header. @throws IoError if it can't be written, with an older file unchanged;
    /// ShapeError without columns
    CsvLog(const std::string& path, const std::vector<std::string>& columns);
    /// Continues a file behind its rows up to step `last`; later ones, and a torn one, are removed. A missing or empty
    /// file is started. @throws IoError if the file has another header, with the file unchanged
    static CsvLog resume(const std::string& path, const std::vector<std::string>& columns, Index last);

    /// Appends a row. @throws ShapeError unless there is one value a column, IoError if the disk does not take it
    void row(const std::vector<double>& values);

private:
    CsvLog(std::string path, std::vector<std::string> columns, const std::string& contents);
    static std::string header_of(const std::vector<std::string>& columns);
    void append(const std::string& text);

    struct Close {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };
    std::string path_;
    std::vector<std::string> columns_;
    std::unique_ptr<std::FILE, Close> file_;
};

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/data/atomic_file.hpp>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <utility>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY CsvLog::CsvLog(const std::string& path, const std::vector<std::string>& columns)
    : CsvLog(path, columns, header_of(columns)) {}

ESPALIER_BODY CsvLog CsvLog::resume(const std::string& path, const std::vector<std::string>& columns, Index last) {
    std::ifstream file(path, std::ios::binary);
    if (!file.is_open() || file.peek() == std::ifstream::traits_type::eof()) return CsvLog(path, columns);
    const std::string header = header_of(columns);
    std::string line, kept;
    std::getline(file, line);
    expect<IoError>(line + "\n" == header, "CsvLog: expected the header '", header.substr(0, header.size() - 1),
                    "' in '", path, "', got '", line, "'");
    kept = line + "\n";
    while (std::getline(file, line) && !file.eof()) { // a row without its line end was torn
        Index step = 0;
        const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), step);
        expect<IoError>(error == std::errc() && (end == line.data() + line.size() || *end == ','),
                        "CsvLog: expected rows that start with a step in '", path, "', got '", line, "'");
        if (step > last) break;
        kept += line + "\n";
    }
    return CsvLog(path, columns, kept);
}

ESPALIER_BODY void CsvLog::row(const std::vector<double>& values) {
    expect(values.size() == columns_.size(), "CsvLog: expected ", columns_.size(), " values for '", path_, "', got ",
           values.size());
    std::string text;
    for (const double value : values) {
        char digits[32]; // the shortest text of any double is at most 24 characters
        const bool whole = std::abs(value) < 0x1p53 && value == std::floor(value); // 100000, not 1e+05
        const auto written = whole ? std::to_chars(digits, digits + sizeof digits, static_cast<Index>(value))
                                   : std::to_chars(digits, digits + sizeof digits, value);
        text.append(text.empty() ? "" : ",").append(digits, written.ptr);
    }
    append(text + "\n");
}

ESPALIER_BODY CsvLog::CsvLog(std::string path, std::vector<std::string> columns, const std::string& contents)
    : path_(std::move(path)), columns_(std::move(columns)) {
    expect(!columns_.empty(), "CsvLog: expected at least one column for '", path_, "', got none");
    AtomicFile whole(path_);
    whole.write(contents);
    whole.commit();
    file_.reset(std::fopen(path_.c_str(), "a"));
    expect<IoError>(file_ != nullptr, "CsvLog: expected to open '", path_, "', got ", std::strerror(errno));
}

ESPALIER_BODY std::string CsvLog::header_of(const std::vector<std::string>& columns) {
    std::string text;
    for (const std::string& column : columns) text += (text.empty() ? "" : ",") + column;
    return text + "\n";
}

ESPALIER_BODY void CsvLog::append(const std::string& text) {
    const bool written =
        std::fwrite(text.data(), 1, text.size(), file_.get()) == text.size() && std::fflush(file_.get()) == 0;
    expect<IoError>(written, "CsvLog: expected to append ", text.size(), " bytes to '", path_, "', got ",
                    std::strerror(errno));
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
