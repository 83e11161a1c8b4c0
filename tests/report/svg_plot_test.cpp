#include "support/check.hpp"

#include <espalier/report/svg_plot.hpp>

using namespace espalier;
using report::Series, report::svg_plot;

namespace {
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
Index count(const std::string& text, const std::string& part) {
    Index n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}
} // namespace

TEST_CASE("svg_plot: lines have axes with round ticks, labels and a legend") {
    const std::string svg = svg_plot({{"train", {0, 50, 100}, {0.93, 0.5, 0.11}}, {"test", {0, 100}, {0.9, 0.2}}},
                                     {.title = "Loss", .x_label = "epoch", .y_label = "nats"});
    CHECK(svg.starts_with("<svg "));
    CHECK(svg.ends_with("</svg>\n"));
    for (const char* text :
         {">Loss<", ">epoch<", ">nats<", ">train<", ">test<", ">0<", ">20<", ">100<", ">0.2<", ">1<"})
        CHECK_MESSAGE(has(svg, text), text);
    CHECK_FALSE(has(svg, "000000")); // 0.3 is not printed as 0.30000000000000004
    CHECK(count(svg, "stroke-linejoin") == 2);
    CHECK(std::stod(svg.substr(svg.find("M70 ") + 4)) > 40 + 2 * 18); // below the title and two rows of legend
    CHECK(has(svg, "M70 "));                                          // x = 0 is at the left margin ...
    CHECK(has(svg, "L620 "));                                         // ... and x = 100 at the right one
}

TEST_CASE("svg_plot: points that are not finite leave a gap and never reach the file") {
    const double nan = std::nan("");
    const std::string svg = svg_plot({{"a", {0, 1, 2, 3, 4}, {1, 2, nan, 2, HUGE_VAL}}, {"b", {nan}, {1}}});
    CHECK_FALSE(has(svg, "nan"));
    CHECK_FALSE(has(svg, "inf"));
    CHECK(count(svg, "h0") == 2); // two pieces, each beginning with a dot
}

TEST_CASE("svg_plot: bars stand on zero, side by side, over their names") {
    const std::string svg = svg_plot({{"before", {0, 1}, {4, 3}}, {"after", {0, 1}, {2, -1}}},
                                     {.mark = report::Mark::bar, .categories = {"conv1", "conv2"}});
    CHECK(count(svg, "<rect") == 1 + 4 + 2); // background, bars, legend
    for (const char* text : {">conv1<", ">conv2<", ">4<", ">-1<"}) CHECK_MESSAGE(has(svg, text), text);
    CHECK_FALSE(has(svg, "height=\"-"));
}

TEST_CASE("svg_plot: nothing, one point and one value are plots too, and text is escaped") {
    for (const auto& series : {std::vector<Series>{}, {{"", {}, {}}}, {{"", {3}, {7}}}, {{"", {1, 2}, {5, 5}}}})
        for (const report::Mark mark : {report::Mark::line, report::Mark::bar}) {
            const std::string svg = svg_plot(series, {.mark = mark});
            CHECK_FALSE(has(svg, "nan"));
            CHECK_FALSE(has(svg, "inf"));
        }
    CHECK(has(svg_plot({}, {.title = "a < b & \"c\""}), "a &lt; b &amp; &quot;c&quot;"));
    CHECK_THROWS_WITH_AS(svg_plot({{"s", {1}, {}}}), "svg_plot: expected as many x as y, got 1 and 0 in 's'",
                         ShapeError);
}

TEST_CASE("svg_plot: axes cover their data by whole ticks of 1, 2 or 5") {
    const Random random(1, "axes");
    for (std::uint64_t i = 0; i < 200; ++i) {
        const double a = random.normal(3 * i) * std::pow(10, random.uniform(3 * i + 1) * 12 - 6);
        const double b = a + std::pow(10, random.uniform(3 * i + 2) * 12 - 6);
        const report::detail::Axis axis(a, b, 0, 100);
        CHECK(axis.low <= a + 1e-6 * axis.step);
        CHECK(axis.high >= b - 1e-6 * axis.step);
        CHECK(axis.ticks() >= 3);
        CHECK(axis.ticks() <= 10);
        const double mantissa = axis.step / std::pow(10, std::floor(std::log10(axis.step) + 1e-9));
        CHECK((std::abs(mantissa - 1) < 1e-9 || std::abs(mantissa - 2) < 1e-9 || std::abs(mantissa - 5) < 1e-9));
    }
}
