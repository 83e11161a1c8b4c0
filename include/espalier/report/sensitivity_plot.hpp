#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/sensitivity.hpp>
#include <espalier/report/svg_plot.hpp>

#include <string>
#include <vector>

// Not part of espalier.hpp: few programs measure.

namespace espalier::inline ESPALIER_BACKEND {
namespace report {

/// Score against the share of a group that is gone, a line a group, as the text of an SVG image.
///
/// The `named` groups that lose most (on average over their points) have a colour and a name; the others are grey lines
/// behind them, under one name. Title and labels may be set in `options`.
std::string sensitivity_plot(const std::vector<pruning::SensitivityPoint>& points, PlotOptions options = {},
                             std::size_t named = 6);

} // namespace report
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <algorithm>

namespace espalier::inline ESPALIER_BACKEND {
namespace report {

ESPALIER_BODY std::string sensitivity_plot(const std::vector<pruning::SensitivityPoint>& points, PlotOptions options,
                                           std::size_t named) {
    struct Line {
        Series series;
        double sum = 0; ///< of the scores
    };
    std::vector<Line> lines;
    const pruning::SensitivityPoint* whole = nullptr;
    for (const auto& point : points) {
        if (point.group.empty()) {
            whole = &point;
            continue;
        }
        if (lines.empty() || lines.back().series.name != point.group) {
            lines.push_back({{.name = point.group, .x = {}, .y = {}}});
            if (whole) lines.back().series.x = {0}, lines.back().series.y = {whole->score};
        }
        lines.back().series.x.push_back(static_cast<double>(point.width - point.kept) /
                                        static_cast<double>(std::max<Index>(1, point.width)));
        lines.back().series.y.push_back(point.score);
        lines.back().sum += point.score;
    }
    const auto mean = [](const Line& line) { return line.sum / static_cast<double>(line.series.x.size()); };
    std::stable_sort(lines.begin(), lines.end(), [&](const Line& a, const Line& b) { return mean(a) < mean(b); });
    std::vector<Series> drawn;
    for (std::size_t i = lines.size(); i-- > named;) { // behind the others
        lines[i].series.name = i == named ? join_text(lines.size() - named, " other groups") : "";
        lines[i].series.colour = "#c8c8c8";
        drawn.push_back(lines[i].series);
    }
    for (std::size_t i = 0; i < std::min(named, lines.size()); ++i) drawn.push_back(lines[i].series);
    options.height += 18 * static_cast<int>(std::min(named + 1, lines.size())); // the legend's rows, beside the lines
    if (options.x_label.empty()) options.x_label = "share of the group's channels cut";
    if (options.y_label.empty()) options.y_label = "score";
    return svg_plot(drawn, options);
}

} // namespace report
} // namespace espalier::inline ESPALIER_BACKEND
#endif
