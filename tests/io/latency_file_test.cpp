#include "pruning/networks.hpp"

#include <espalier/io/latency_file.hpp>

#include <cstdio>
#include <fstream>
#include <iterator>

using namespace espalier;
using namespace espalier::test;
using pruning::LatencyTable;

namespace {

const Shape image{4, 4, 3};
const std::string path = "latency_file_test.csv";

void write(const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
std::string read() {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

const std::string head = "# format: espalier latency table 1\n# machine: some\n# threads: 2\n# batch: 4\n# rest: 0.25\n"
                         "layer,in,out,milliseconds\n";

} // namespace

TEST_CASE("latency file: what is read is what was written") {
    const LatencyTable table{
        .machine = "a machine, its name",
        .threads = 2,
        .batch = 4,
        .rest = 1.0 / 3,
        .layers = {{"conv2d 3x3 on 4x4", {3}, {4, 8}, {0.1, 0.2}}, {"linear", {2, 6}, {10}, {1e-7, 1.0 / 7}}}};
    save_latency_table(table, path);
    const LatencyTable same = pruning::load_latency_table(path);
    CHECK(same.machine == table.machine);
    CHECK(same.threads == 2);
    CHECK(same.batch == 4);
    CHECK(same.rest == table.rest);
    REQUIRE(same.layers.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
        CHECK(same.layers[i].layer == table.layers[i].layer);
        CHECK(same.layers[i].in == table.layers[i].in);
        CHECK(same.layers[i].out == table.layers[i].out);
        CHECK(same.layers[i].milliseconds == table.layers[i].milliseconds);
    }
    std::remove(path.c_str());
}

TEST_CASE("latency file: a table is measured once and used again, unless it is of something else") {
    Chain<float> model;
    std::remove(path.c_str());
    const auto table = pruning::latency_table(model, image, {.steps = 2, .rounds = 1}, path);
    CHECK(pruning::stale(table, 1).empty());
    const std::string text = read();
    pruning::latency_table(model, image, {.steps = 2, .rounds = 1}, path);
    CHECK(read() == text);
    CHECK(pruning::stale(table, 8) == "measured at batch 1, not at 8");
    LatencyTable other = table;
    other.threads += 1;
    CHECK(pruning::stale(other, 1).starts_with("measured with "));
    other.machine = "another";
    CHECK(pruning::stale(other, 1).starts_with("measured on 'another', not on '"));
    save_latency_table(other, path);
    CHECK(pruning::latency_table(model, image, {.steps = 2, .rounds = 1}, path).machine == table.machine);
    Flattened<float> wider;
    CHECK(pruning::latency_table(wider, image, {.steps = 2, .rounds = 1}, path).find("linear")->in.back() == 96);
    std::remove(path.c_str());
}

TEST_CASE("latency file: what is no table is one clear error") {
    CHECK_THROWS_WITH_AS(pruning::load_latency_table("no such folder/table.csv"),
                         doctest::Contains("expected a readable file no such folder/table.csv"), IoError);
    const auto fails = [](const std::string& text, const char* problem) {
        write(text);
        CHECK_THROWS_WITH_AS(pruning::load_latency_table(path), doctest::Contains(problem), IoError);
    };
    fails("", "expected the columns layer,in,out,milliseconds");
    fails("# threads 2\n", "expected '# name: value' in line 1");
    fails("layer,in,out\n", "expected the columns layer,in,out,milliseconds in line 1");
    fails("layer,in,out,milliseconds\n", "expected a line '# format: ...'");
    fails("# format: another\nlayer,in,out,milliseconds\n", "got another");
    fails("# format: espalier latency table 1\nlayer,in,out,milliseconds\n", "expected a line '# machine: ...'");
    fails(head + "a,1,2,0.5\na,1", "one that breaks off");
    fails(head + "a,1,2\n", "expected 4 cells in line 7");
    fails(head + "a,1,-2,0.5\n", "expected a count in latency_file_test.csv, got '-2'");
    fails(head + "a,1,2,fast\n", "expected a number in latency_file_test.csv, got 'fast'");
    fails(head + "a,1,2,nan\n", "got 'nan'");
    fails(head + "a,1,2,1\na,1,2,1\n", "expected a grid of ascending widths for 'a'");
    fails(head + "a,1,2,1\na,2,3,1\n", "got in 2 and out 3");
    fails(head + "a,2,2,1\na,1,2,1\n", "got in 1 and out 2");
    fails(head + "a,1,2,1\na,1,3,1\na,2,2,1\n", "expected a whole grid for 'a'");
    fails(head + "a,1,2,1\nb,1,2,1\na,1,3,1\n", "expected the rows of 'a' together");
    write(head + "a,1,2,1\n");
    CHECK(pruning::load_latency_table(path).rest == 0.25);
    std::remove(path.c_str());
}
