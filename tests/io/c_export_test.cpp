#include "data/temporary.hpp"
#include "io/odd_network.hpp"
#include "support/temporary_path.hpp"

#include <espalier/io/c_export.hpp>
#include <espalier/models/lenet.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>

#include <cstdlib>
#include <fstream>

using namespace espalier;
using namespace espalier::test;

namespace {

const std::string main_text = R"(
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    float image[NET_HEIGHT * NET_WIDTH * NET_CHANNELS], output[NET_OUTPUTS];
    float *workspace = malloc(NET_WORKSPACE * sizeof *workspace); /* exactly: the sanitizer sees a step beyond it */
    if (!workspace || net_self_test(workspace)) return 1;
    while (fread(image, sizeof image, 1, stdin) == 1) {
        net_run(image, output, workspace);
        fwrite(output, sizeof output, 1, stdout);
    }
    free(workspace);
    return 0;
}
)";
const std::string strict = " -std=c99 -pedantic -Wall -Wextra -Wconversion -Wshadow -Wdouble-promotion -Werror ";

bool runs(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

/// Writes `model` as C, compiles it under the sanitizers, runs it on images and compares with the model.
template <class M> CExport check_c(M& model, const Shape& image, const std::string& compiler = "gcc") {
    const TemporaryFolder folder;
    const std::string at = folder.path().string();
    const CExport written = write_c(export_graph(model, image), {.name = "net", .folder = at});
    std::ofstream(at + "/main.c") << main_text;
    const std::string build = compiler + strict + "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -o " +
                              at + "/net " + at + "/main.c " + at + "/net.c -lm 2>" + at + "/errors";
    REQUIRE_MESSAGE(std::system(build.c_str()) == 0, slurp(at + "/errors"));

    const Index count = 3;
    const Tensor<float> x = uniform<float>(batch_of(count, image), Random(9, "images"), -2, 2);
    std::ofstream(at + "/in", std::ios::binary)
        .write(reinterpret_cast<const char*>(x.data()), static_cast<std::streamsize>(x.size()) * 4);
    const std::string run = at + "/net <" + at + "/in >" + at + "/out 2>" + at + "/errors";
    REQUIRE_MESSAGE(std::system(run.c_str()) == 0, slurp(at + "/errors"));
    const std::string bytes = slurp(at + "/out");

    model.eval();
    const Tensor<float> expected = network(model).forward(Var<float>(x)).value();
    REQUIRE(bytes.size() == static_cast<std::size_t>(expected.size()) * 4);
    double largest = 0, error = 0;
    for (Index i = 0; i < expected.size(); ++i) {
        float got = 0;
        std::memcpy(&got, bytes.data() + 4 * i, 4);
        largest = std::max(largest, std::abs(static_cast<double>(expected.data()[i])));
        error = std::max(error, std::abs(static_cast<double>(got) - static_cast<double>(expected.data()[i])));
    }
    CHECK(largest > 0);
    CHECK(error <= 1e-5 * largest); // sums of a few thousand floats in another order; what the header promises
    return written;
}

} // namespace

TEST_CASE("write_c: LeNet-5, with either nonlinearity") {
    models::LeNet<float> smooth({.channels = 1, .seed = 1}),
        kinked({.channels = 1, .seed = 2, .size = 32, .nonlinearity = models::Nonlinearity::relu});
    const CExport written = check_c(smooth, {28, 28, 1});
    CHECK(written.weight_bytes == 4 * smooth.parameter_count());
    CHECK(written.workspace_bytes == 4 * (28 * 28 * 6 + 14 * 14 * 6)); // the first map, and what it is pooled to
    check_c(kinked, {32, 32, 1});
}

TEST_CASE("write_c: ResNet-20, dense and pruned with indexed joins to odd widths") {
    models::ResNet<float> model(20, {.channels = 1, .seed = 1});
    shake(model);
    const CExport dense = check_c(model, {12, 12, 1});
    const auto plan = pruning::plan(model, {12, 12, 1}, {.keep_macs = 0.4, .joins = pruning::Joins::indexed});
    pruning::apply(plan, model);
    const CExport pruned = check_c(model, {12, 12, 1});
    CHECK(pruned.weight_bytes < dense.weight_bytes / 2);
    CHECK(pruned.workspace_bytes < dense.workspace_bytes);
    CHECK(dense.workspace_bytes == 4 * 3 * 12 * 12 * 16); // stream, branch and what lies between
    models::ResNet<float> projected(20, {.seed = 1, .shortcut = models::Shortcut::projection});
    shake(projected);
    check_c(projected, {8, 8, 3});
}

TEST_CASE("write_c: a branch that lost all its filters") {
    Residual<float> model;
    shake(model);
    empty_branch(model.one);
    check_c(model, {4, 4, 3});
}

TEST_CASE_TEMPLATE("write_c: every way to couple channels", M, Chain<float>, Concats<float>, Depthwise<float>,
                   Grouped<float>, Flattened<float>, Excited<float>, OneFilter<float>, Shared<float>) {
    M model;
    shake(model);
    check_c(model, {4, 4, 3});
}

TEST_CASE("write_c: ops that no model of the library uses") {
    Odd<float> model;
    shake(model);
    check_c(model, {10, 12, 3});
    if (runs("command -v clang-14")) check_c(model, {10, 12, 3}, "clang-14");
}

TEST_CASE("write_c: what the header offers beside the network") {
    const TemporaryFolder folder;
    const std::string at = folder.path().string();
    Chain<float> model;
    shake(model);
    const std::vector<std::string> classes{"cat", "T-shirt/top", "\"?\\", "caf\xc3\xa9"};
    write_c(export_graph(model, {4, 5, 3}), {.name = "small_net2",
                                             .folder = at,
                                             .normalize = {.mean = {0.25, 0.5, 0}, .deviation = {0.3, 1, 2}},
                                             .classes = classes});
    std::ofstream(at + "/main.c") << R"(
#include "small_net2.h"
#include <stdio.h>
int main(void) {
    static float workspace[SMALL_NET2_WORKSPACE];
    unsigned char bytes[SMALL_NET2_HEIGHT * SMALL_NET2_WIDTH * SMALL_NET2_CHANNELS];
    float image[4 * 5 * 3];
    int i;
    for (i = 0; i < 60; ++i) bytes[i] = (unsigned char)(4 * i);
    small_net2_prepare(bytes, image);
    fwrite(image, sizeof image, 1, stdout);
    for (i = 0; i < SMALL_NET2_OUTPUTS; ++i) printf("%s\n", small_net2_classes[i]);
    return small_net2_self_test(workspace);
}
)";
    const std::string program = at + "/main";
    REQUIRE(std::system(("gcc" + strict + at + "/main.c " + at + "/small_net2.c -o " + program).c_str()) == 0);
    REQUIRE(std::system((program + " >" + at + "/out").c_str()) == 0); // no libm: this network needs none
    const std::string out = slurp(at + "/out");
    REQUIRE(out.size() > 240);
    CHECK(out.substr(240) == "cat\nT-shirt/top\n\"?\\\ncaf\xc3\xa9\n");
    const Tensor<float> table = colour_table<float>({.mean = {0.25, 0.5, 0}, .deviation = {0.3, 1, 2}}, 3, 1);
    for (Index i = 0; i < 60; ++i) {
        float value = 0;
        std::memcpy(&value, out.data() + 4 * i, 4);
        CHECK(value == table.at(i % 3, 4 * i)); // the same bits as in training
    }
    // A weight that is wrong fails the self-test.
    std::string source = slurp(at + "/small_net2.c");
    const std::size_t weight = source.find("0x", source.find("static const float w0"));
    source.replace(weight, source.find(',', weight) - weight, "3");
    std::ofstream(at + "/small_net2.c") << source;
    REQUIRE(runs("gcc " + at + "/main.c " + at + "/small_net2.c -o " + program));
    CHECK_FALSE(runs(program));
    CHECK(runs("g++ -fsyntax-only -x c++ -include " + at + "/small_net2.h /dev/null")); // usable from C++
}

TEST_CASE("write_c: errors come before any file") {
    const TemporaryFolder folder;
    const std::string at = folder.path().string();
    Chain<float> model;
    const ExportGraph graph = export_graph(model, {4, 4, 3});
    for (const std::string name : {"", "2nd", "my-net", "a b"})
        CHECK_THROWS_WITH_AS(write_c(graph, {.name = name, .folder = at}),
                             doctest::Contains("expected a name that is a C identifier, got"), StateError);
    CHECK_THROWS_WITH_AS(write_c(graph, {.folder = at, .classes = {"a"}}), "write_c: expected 4 class names, got 1",
                         StateError);
    CHECK_THROWS_WITH_AS(write_c(graph, {.folder = at, .normalize = {.mean = {0, 0, 0}, .deviation = {1, 1}}}),
                         "write_c: expected statistics of 3 channels, got 3 means and 2 deviations", ShapeError);
    CHECK_THROWS_WITH_AS(write_c(graph, {.folder = at, .normalize = {.mean = {0, 0, 0}, .deviation = {1, 0, 1}}}),
                         "write_c: expected a positive deviation, got 0 for channel 1", ShapeError);
    model.head.weight.mutable_value().mutable_data()[3] = std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH_AS(write_c(export_graph(model, {4, 4, 3}), {.folder = at}),
                         "write_c: expected finite weights, got inf in head.weight", StateError);
    OneFilter<float> empty;
    empty_map(empty);
    CHECK_THROWS_WITH_AS(write_c(export_graph(empty, {4, 4, 3}), {.folder = at}),
                         "write_c: expected maps of at least one element, got [4,4,0] from a.conv", StateError);
    CHECK(std::filesystem::is_empty(folder.path()));
    CHECK_THROWS_AS(write_c(graph, {.folder = at + "/nowhere"}), IoError);
}
