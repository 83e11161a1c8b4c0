#include "support/check.hpp"

#include <espalier/report/sensitivity_plot.hpp>

using namespace espalier;

TEST_CASE("sensitivity_plot: the groups that lose most are named, the others are grey and behind them") {
    std::vector<pruning::SensitivityPoint> points{{.group = "", .score = 0.9}};
    for (const auto& [name, score] : {std::pair("robust", 0.9), {"fragile", 0.2}, {"between", 0.6}, {"hardly", 0.8}})
        for (const Index kept : {3, 1})
            points.push_back({.group = name, .ratio = 0.25, .width = 4, .kept = kept, .score = score});
    const std::string svg = report::sensitivity_plot(points, {.title = "a scan"}, 2);
    const std::size_t grey = svg.find("stroke=\"#c8c8c8\""), fragile = svg.find(">fragile<");
    CHECK(svg.starts_with("<svg"));
    CHECK(grey != std::string::npos);
    CHECK(grey < svg.find("stroke=\"#0072b2\"")); // drawn first
    CHECK(fragile < svg.find(">between<"));
    CHECK(svg.find(">2 other groups<") != std::string::npos);
    CHECK(svg.find("robust") == std::string::npos);
    CHECK(svg.find("cut</text>") != std::string::npos);
    CHECK(svg.find("a scan") != std::string::npos);
    CHECK(report::sensitivity_plot(points).find("other groups") == std::string::npos);
    CHECK(report::sensitivity_plot({}).starts_with("<svg"));
}
