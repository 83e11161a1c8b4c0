#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace report {

/// One line, or one colour of bars, of a plot.
struct Series {
    std::string name;         ///< in the legend; empty: not listed
    std::vector<double> x, y; ///< points in order, as many y as x
    std::string colour = {};  ///< as `#rrggbb`; empty: the next of a palette that colour-blind people can tell apart
};
/// How series are drawn.
enum class Mark { line, bar };
/// What stands around the series.
struct PlotOptions {
    std::string title = {}, x_label = {}, y_label = {}; ///< texts; empty ones take no room
    Mark mark = Mark::line;                             ///< of all series
    std::vector<std::string> categories = {};           ///< names of x = 0, 1, 2, ... for bars
    int width = 640, height = 400;                      ///< in pixels
};

namespace detail {
/// A text with its & < > " as entities.
std::string escape_xml(const std::string& text);
} // namespace detail

namespace detail {

/// An axis that maps [low, high], widened to whole ticks at 1, 2 or 5 times a power of ten, to pixels.
struct Axis {
    double low, high, step, from, to;

    Axis(double least, double most, double pixel_from, double pixel_to) : from(pixel_from), to(pixel_to) {
        if (!(most > least)) { // one value, or none
            least = std::isfinite(least) ? least - 0.5 : 0;
            most = least + 1;
        }
        const double raw = (most - least) / 5, power = std::pow(10, std::floor(std::log10(raw)));
        step = power * (raw / power < 1.5 ? 1 : raw / power < 3 ? 2 : raw / power < 7 ? 5 : 10);
        low = std::floor(least / step + 1e-9) * step; // a bound on a tick stays there in spite of rounding
        high = std::ceil(most / step - 1e-9) * step;
    }
    double operator()(double value) const { return from + (value - low) / (high - low) * (to - from); }
    int ticks() const { return static_cast<int>(std::lround((high - low) / step)) + 1; }
    /// Rounded to a thousandth of a step, so that it prints as 0.3 and not 0.30000000000000004.
    double tick(int i) const { return std::round((low + i * step) / step * 1000) / 1000 * step; }
};

} // namespace detail

/// Lines or bars with axes, ticks and a legend, as the text of an SVG image. Points that are not finite leave a gap.
/// @throws ShapeError if a series has not as many x as y
std::string svg_plot(const std::vector<Series>& series, const PlotOptions& options = {});

} // namespace report
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <algorithm>
#include <limits>

namespace espalier::inline ESPALIER_BACKEND {
namespace report {

namespace detail {

ESPALIER_BODY std::string escape_xml(const std::string& text) {
    std::string safe;
    for (const char c : text)
        safe += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" : std::string(1, c);
    return safe;
}

/// Pixels to a tenth.
inline std::string px(double value) { return to_text(std::round(value * 10) / 10); }

inline std::string svg_text(double x, double y, const char* anchor, const std::string& text, const char* more = "") {
    return join_text("<text x=\"", px(x), "\" y=\"", px(y), "\" text-anchor=\"", anchor, "\"", more, ">",
                     escape_xml(text), "</text>\n");
}

} // namespace detail

ESPALIER_BODY std::string svg_plot(const std::vector<Series>& series, const PlotOptions& options) {
    // Colours that colour-blind people can tell apart (Okabe and Ito 2008).
    static constexpr const char* colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                              "#e69f00", "#56b4e9", "#000000"};
    std::vector<std::string> chosen;
    std::size_t next = 0;
    for (const Series& s : series)
        chosen.push_back(s.colour.empty() ? colours[next++ % std::size(colours)] : detail::escape_xml(s.colour));
    const auto colour = [&](std::size_t s) { return chosen[s]; };
    const bool bars = options.mark == Mark::bar;
    constexpr double infinity = std::numeric_limits<double>::infinity();
    double x0 = infinity, x1 = -infinity, y0 = bars ? 0 : infinity, y1 = bars ? 0 : -infinity;
    for (const Series& s : series) {
        expect(s.x.size() == s.y.size(), "svg_plot: expected as many x as y, got ", s.x.size(), " and ", s.y.size(),
               " in '", s.name, "'");
        for (std::size_t i = 0; i < s.x.size(); ++i) {
            if (!std::isfinite(s.x[i]) || !std::isfinite(s.y[i])) continue;
            x0 = std::min(x0, s.x[i]), x1 = std::max(x1, s.x[i]);
            y0 = std::min(y0, s.y[i]), y1 = std::max(y1, s.y[i]);
        }
    }
    const auto listed = std::count_if(series.begin(), series.end(), [](const Series& s) { return !s.name.empty(); });
    const double legend = 40, left = 70, right = options.width - 20, bottom = options.height - 55;
    const double top = legend + 18 * static_cast<double>(listed); // the legend has its own rows, where no line runs
    const detail::Axis y(y0, y1, bottom, top);
    detail::Axis x(x0, x1, left, right);
    if (bars) x.low = (std::isfinite(x0) ? x0 : 0) - 0.5, x.high = (std::isfinite(x1) ? x1 : 0) + 0.5, x.step = 1;

    std::string svg = join_text("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", options.width, "\" height=\"",
                                options.height, "\" viewBox=\"0 0 ", options.width, " ", options.height,
                                "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" "
                                "fill=\"white\"/>\n");
    const auto line = [&](double xa, double ya, double xb, double yb, const char* stroke) {
        using detail::px;
        svg +=
            join_text("<path d=\"M", px(xa), " ", px(ya), "L", px(xb), " ", px(yb), "\" stroke=\"", stroke, "\"/>\n");
    };
    for (int i = 0; i < y.ticks(); ++i) {
        line(left, y(y.tick(i)), right, y(y.tick(i)), "#dddddd");
        svg += detail::svg_text(left - 8, y(y.tick(i)) + 4, "end", to_text(y.tick(i)));
    }
    const int x_ticks = bars ? static_cast<int>(std::lround(x.high - x.low)) : x.ticks();
    for (int i = 0; i < x_ticks; ++i) {
        const double at = bars ? x.low + 0.5 + i : x.tick(i);
        const bool named = bars && at >= 0 && at < static_cast<double>(options.categories.size());
        svg += detail::svg_text(x(at), bottom + 18, "middle",
                                named ? options.categories[static_cast<std::size_t>(at)] : to_text(at));
        if (!bars) line(x(at), bottom, x(at), bottom + 4, "black");
    }
    for (std::size_t s = 0; s < series.size(); ++s) {
        std::string path;
        bool drawing = false;
        for (std::size_t i = 0; i < series[s].x.size(); ++i) {
            const double px = series[s].x[i], py = series[s].y[i];
            const bool finite = std::isfinite(px) && std::isfinite(py);
            if (finite && bars) {
                const double width = (x(1) - x(0)) * 0.8 / static_cast<double>(series.size());
                const double from = x(px) + (static_cast<double>(s) - static_cast<double>(series.size()) / 2) * width;
                svg += join_text("<rect x=\"", detail::px(from), "\" y=\"", detail::px(std::min(y(0), y(py))),
                                 "\" width=\"", detail::px(width), "\" height=\"", detail::px(std::abs(y(0) - y(py))),
                                 "\" fill=\"", colour(s), "\"/>\n");
            } else if (finite) {
                path += join_text(drawing ? "L" : "M", detail::px(x(px)), " ", detail::px(y(py)), drawing ? "" : "h0");
            }
            drawing = finite;
        }
        if (!path.empty())
            svg += join_text("<path d=\"", path, "\" fill=\"none\" stroke=\"", colour(s),
                             "\" stroke-width=\"2\" stroke-linejoin=\"round\" stroke-linecap=\"round\"/>\n");
    }
    line(left, top, left, bottom, "black");
    line(left, bars ? y(0) : bottom, right, bars ? y(0) : bottom, "black");

    svg += detail::svg_text(options.width / 2.0, 20, "middle", options.title, " font-size=\"15\"");
    svg += detail::svg_text((left + right) / 2, options.height - 12, "middle", options.x_label);
    svg += detail::svg_text(-(top + bottom) / 2, 16, "middle", options.y_label, " transform=\"rotate(-90)\"");
    double row = legend + 8;
    for (std::size_t s = 0; s < series.size(); ++s) {
        if (series[s].name.empty()) continue;
        svg += join_text("<rect x=\"", detail::px(right - 14), "\" y=\"", detail::px(row - 10),
                         "\" width=\"12\" height=\"12\" fill=\"", colour(s), "\"/>\n");
        svg += detail::svg_text(right - 20, row, "end", series[s].name);
        row += 18;
    }
    return svg + "</svg>\n";
}

} // namespace report
} // namespace espalier::inline ESPALIER_BACKEND
#endif
