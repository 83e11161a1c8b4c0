#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/sensitivity.hpp>

#include <cstdint>
#include <string>
#include <vector>

// Not part of espalier.hpp: few programs measure.

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// The points of a sensitivity scan as CSV, a row a point, added as they are measured: a scan that was stopped goes on
/// where it was.
///
/// Comments in front say what was scanned. A row that was not written whole, by a process that was killed, is dropped.
class SensitivityFile {
public:
    /// Opens a file for points of a scan that `of` describes in one line, or makes it.
    /// @throws IoError if the file is of another scan, is none at all, or can't be written
    SensitivityFile(std::string path, const std::string& of);

    /// Points that the file held when it was opened.
    const std::vector<SensitivityPoint>& points() const { return points_; }
    /// Writes one more row, through to the system. @throws IoError if the disk does not take it
    void add(const SensitivityPoint& point) const;

private:
    std::string path_;
    std::vector<SensitivityPoint> points_;
};

namespace detail {

/// Eats bytes into a 64-bit number (FNV-1a, Fowler, Noll and Vo), to tell weights apart.
std::uint64_t fingerprint(const void* data, std::size_t bytes, std::uint64_t so_far);

/// One line that is another for another network, other weights, criterion or joins.
template <class T>
std::string scan_text(const Network<T>& net, const Shape& image, const SensitivityOptions<T>& options) {
    std::uint64_t weights = 14695981039346656037u; // FNV's start
    for (const auto& list : {net.module.parameters(), net.module.buffers()})
        for (const auto& [name, var] : list) {
            weights = fingerprint(name.data(), name.size(), weights);
            const auto bytes = static_cast<std::size_t>(var.size()) * sizeof(T);
            weights = fingerprint(var.value().to(Device::cpu).data(), bytes, weights);
        }
    return join_text("criterion ", options.criterion.name(), "; joins ", options.joins, "; image ", image, "; ",
                     net.module.parameter_count(), " parameters; weights ", weights);
}

} // namespace detail

/// As `scan_sensitivity` with a file: rows that are there are not measured again, new ones are added one by one. The
/// file is refused if it is of another network or other weights, another criterion, joins or image; more ratios are
/// welcome. What `evaluate` does is not part of that: a new measure wants a new file.
/// @throws what `scan_sensitivity` and `SensitivityFile` throw
template <class M, class F>
std::vector<SensitivityPoint> scan_sensitivity(const std::vector<M*>& replicas, const Shape& image, const F& evaluate,
                                               SensitivityOptions<typename M::Scalar> options,
                                               const std::string& path) {
    using T = typename M::Scalar;
    expect(!replicas.empty(), "scan_sensitivity: expected a model, got none");
    const SensitivityFile file(path, detail::scan_text<T>(network(*replicas.front()), image, options));
    options.done = file.points();
    options.measured = [&file, also = options.measured](const SensitivityPoint& point) {
        file.add(point);
        if (also) also(point);
    };
    return scan_sensitivity(replicas, image, evaluate, options);
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/data/atomic_file.hpp>
#include <espalier/io/csv_text.hpp>

#include <fstream>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

namespace detail {

inline constexpr const char* sensitivity_columns = "group,ratio,width,kept,parameters,macs,filters,score";

ESPALIER_BODY std::uint64_t fingerprint(const void* data, std::size_t bytes, std::uint64_t so_far) {
    const auto* const byte = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < bytes; ++i) so_far = (so_far ^ byte[i]) * 1099511628211u; // FNV's 64-bit prime
    return so_far;
}

ESPALIER_BODY std::string row_of(const SensitivityPoint& p) {
    using espalier::detail::exact;
    return join_text(p.group, ",", exact(p.ratio), ",", p.width, ",", p.kept, ",", p.cost.parameters, ",", p.cost.macs,
                     ",", p.cost.filters, ",", exact(p.score), "\n");
}

} // namespace detail

ESPALIER_BODY SensitivityFile::SensitivityFile(std::string path, const std::string& of) : path_(std::move(path)) {
    constexpr const char* who = "SensitivityFile";
    std::string text =
        join_text("# format: espalier sensitivity 1\n# scan: ", of, "\n", detail::sensitivity_columns, "\n");
    bool whole = false;
    if (std::ifstream(path_).good()) {
        const auto csv = espalier::detail::read_csv(who, path_, detail::sensitivity_columns);
        const std::string& format = csv.comment(who, path_, "format");
        expect<IoError>(format == "espalier sensitivity 1", who, ": expected format espalier sensitivity 1 in ", path_,
                        ", got ", format);
        const std::string& scan = csv.comment(who, path_, "scan");
        expect<IoError>(scan == of, who, ": expected the scan '", of, "' in ", path_, ", got '", scan, "'");
        const auto count = [&](const std::string& cell) { return espalier::detail::count(who, path_, cell); };
        const auto number = [&](const std::string& cell) { return espalier::detail::number(who, path_, cell); };
        for (std::size_t r = 1; r < csv.rows.size(); ++r) {
            const auto& row = csv.rows[r];
            points_.push_back({row[0],
                               number(row[1]),
                               count(row[2]),
                               count(row[3]),
                               {.parameters = count(row[4]), .macs = count(row[5]), .filters = count(row[6])},
                               number(row[7])});
            text += detail::row_of(points_.back());
        }
        whole = csv.whole;
    }
    if (whole) return;
    AtomicFile file(path_);
    file.write(text);
    file.commit();
}

ESPALIER_BODY void SensitivityFile::add(const SensitivityPoint& point) const {
    std::ofstream out(path_, std::ios::app | std::ios::binary);
    out << detail::row_of(point) << std::flush;
    expect<IoError>(out.good(), "SensitivityFile: expected to add a row to ", path_, ", got a failure to write");
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND
#endif
