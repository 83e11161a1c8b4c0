#include "pruning/networks.hpp"

#include <espalier/io/sensitivity_file.hpp>

#include <cstdio>
#include <fstream>
#include <iterator>

using namespace espalier;
using namespace espalier::test;

namespace {

const Shape image{4, 4, 3};
const std::string path = "sensitivity_file_test.csv";

std::string read() {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}
void write(const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

/// A scan whose n-th call fails.
struct Scan {
    int stop_at = -1, calls = 0;

    std::vector<pruning::SensitivityPoint> operator()(Chain<float>& model,
                                                      pruning::SensitivityOptions<float> options = {}) {
        calls = 0;
        const auto evaluate = [&](Chain<float>& m) {
            if (calls == stop_at) throw StateError("stopped");
            return 1.0 / (1 + ++calls) + static_cast<double>(m.parameter_count());
        };
        return pruning::scan_sensitivity(std::vector<Chain<float>*>{&model}, image, evaluate, std::move(options), path);
    }
};

} // namespace

TEST_CASE("sensitivity file: a scan that was stopped goes on where it was") {
    std::remove(path.c_str());
    Chain<float> model;
    shake(model);
    const auto at_once = Scan()(model, {.ratios = {0.25, 0.5, 0.75}});
    const std::string text = read();
    CHECK(text.find("a.conv,0.25,8,6,") != std::string::npos);
    std::remove(path.c_str());

    Scan scan{.stop_at = 3};
    CHECK_THROWS_WITH(scan(model, {.ratios = {0.25, 0.5, 0.75}}), "stopped");
    const std::string part = read();
    CHECK(text.starts_with(part));
    write(part + "a.conv,0.75,8,2,1"); // killed while it wrote a row
    scan.stop_at = -1;
    const auto points = scan(model, {.ratios = {0.25, 0.5, 0.75}});
    CHECK(scan.calls == 4); // of 1 + 2 * 3
    REQUIRE(points.size() == at_once.size());
    for (std::size_t i = 0; i < points.size(); ++i) {
        CHECK(points[i].group == at_once[i].group);
        CHECK(points[i].kept == at_once[i].kept);
        CHECK(points[i].cost == at_once[i].cost);
        CHECK(std::floor(points[i].score) == std::floor(at_once[i].score));
    }
    scan(model, {.ratios = {0.25, 0.5, 0.75}});
    CHECK(scan.calls == 0);
    scan(model, {.ratios = {0.1, 0.5}});
    CHECK(scan.calls == 2);
    std::remove(path.c_str());
}

TEST_CASE("sensitivity file: that of another scan, or of none, is refused and left as it is") {
    std::remove(path.c_str());
    Chain<float> model;
    shake(model);
    Scan scan;
    scan(model, {.ratios = {0.5}});
    const std::string good = read();
    const auto fails = [&](const pruning::SensitivityOptions<float>& options, const char* problem) {
        const std::string before = read();
        CHECK_THROWS_WITH_AS(scan(model, options), doctest::Contains(problem), Error);
        CHECK(scan.calls == 0);
        CHECK(read() == before);
    };
    fails({.criterion = RandomScore{}, .ratios = {0.5}}, "expected the scan 'criterion random; ");
    fails({.ratios = {0.5}, .joins = pruning::Joins::indexed}, "joins indexed");
    fails({.ratios = {2}}, "ratios in (0,1], got 2");
    model.head.bias.mutable_value().mutable_data()[0] += 1;
    fails({.ratios = {0.5}}, "expected the scan");
    model.head.bias.mutable_value().mutable_data()[0] -= 1;
    const auto broken = [&](const std::string& text, const char* problem) {
        write(text);
        fails({.ratios = {0.5}}, problem);
    };
    shake(model);
    broken("", "expected the columns group,ratio,");
    broken("# format: other\n" + good.substr(good.find('\n') + 1), "got other");
    broken(good.substr(good.find('\n') + 1), "'# format: ...'");
    broken(good + "b,0.5\n", "expected 8 cells");
    broken(good + "b,half,6,3,1,1,1,1\n", "got 'half'");
    broken(good + "b,0.5,6,many,1,1,1,1\n", "got 'many'");
    broken(good + "b,0.5,6,4,1,1,1,1\n", "points of this network, got 4 of 6 channels of group 'b'");
    std::remove(path.c_str());
}
