#include "networks.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/pruning/latency_table.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>

using namespace espalier;
using namespace espalier::test;
using pruning::LatencyTable;
using pruning::LayerTimes;

namespace {

const Shape image{4, 4, 3};

/// Times that grow with the product of widths, so that the share of milliseconds is that of multiply-adds.
LatencyTable proportional(LatencyTable table) {
    table.rest = 0;
    for (LayerTimes& layer : table.layers)
        for (std::size_t i = 0; i < layer.in.size(); ++i)
            for (std::size_t o = 0; o < layer.out.size(); ++o)
                layer.milliseconds[i * layer.out.size() + o] = static_cast<double>(layer.in[i] * layer.out[o]);
    return table;
}

} // namespace

TEST_CASE("LayerTimes: bilinear between points, and as at the ends beyond them") {
    const LayerTimes times{"layer", {4, 8}, {2, 4, 10}, {1, 2, 5, 3, 6, 12}};
    CHECK(times.at(4, 2) == 1);
    CHECK(times.at(8, 10) == 12);
    CHECK(times.at(4, 3) == 1.5);
    CHECK(times.at(6, 2) == 2);
    CHECK(times.at(6, 7) == 0.5 * 3.5 + 0.5 * 9);
    CHECK(times.at(1, 1) == 1);
    CHECK(times.at(100, 100) == 12);
    CHECK(times.at(100, 3) == 4.5);
}

TEST_CASE("sweep_widths: each kind of layer once, on a grid of widths") {
    models::ResNet<float> model(20, {.channels = 3});
    const LatencyTable table = pruning::sweep_widths(model, {8, 8, 3}, {.batch = 2, .steps = 2, .rounds = 1});
    std::vector<std::string> names;
    for (const LayerTimes& layer : table.layers) {
        names.push_back(layer.layer);
        CHECK(layer.milliseconds.size() == layer.in.size() * layer.out.size());
        for (const double ms : layer.milliseconds) CHECK(ms > 0);
    }
    CHECK(names ==
          std::vector<std::string>{"conv2d 3x3 on 8x8 stride 1 padding 1", "conv2d 3x3 on 8x8 stride 2 padding 1",
                                   "conv2d 3x3 on 4x4 stride 1 padding 1", "conv2d 3x3 on 4x4 stride 2 padding 1",
                                   "conv2d 3x3 on 2x2 stride 1 padding 1", "linear"});
    CHECK(table.layers[0].in == std::vector<Index>{8, 16}); // the stem and stage 1 are of one kind
    CHECK(table.layers[5].out == std::vector<Index>{5, 10});
    CHECK(table.batch == 2);
    CHECK(table.threads == threads());
    CHECK(pruning::predict_latency(model, {8, 8, 3}, table) > 0);
}

TEST_CASE("sweep_widths: depthwise layers have one width, linear and strided ones are told apart") {
    Depthwise<float> model;
    const LatencyTable table = pruning::sweep_widths(model, image, {.steps = 3, .rounds = 1});
    const LayerTimes* const depthwise = table.find("conv2d 3x3 on 4x4 stride 1 padding 1 depthwise");
    REQUIRE(depthwise);
    CHECK(depthwise->in.size() == 1);
    CHECK(depthwise->out == std::vector<Index>{2, 4, 6});
    CHECK(table.find("conv2d 1x1 on 4x4 stride 1 padding 0"));
    CHECK(table.find("linear"));
    CHECK_FALSE(table.find("conv2d"));
}

TEST_CASE("plan: a predicted latency is met, and is what the pruned network is predicted to take") {
    Residual<float> model;
    shake<float>(model);
    const LatencyTable table = proportional(pruning::sweep_widths(model, image, {.steps = 8, .rounds = 1}));
    const auto plan = pruning::plan(model, image, {.keep_latency = 0.5, .latencies = &table});
    CHECK(plan.milliseconds_before == pruning::predict_latency(model, image, table));
    CHECK(plan.milliseconds_after <= 0.5 * plan.milliseconds_before);
    CHECK(plan.milliseconds_after > 0.3 * plan.milliseconds_before); // one channel of the stream is less than 20 %
    CHECK(to_text(plan).find("; predicted ") != std::string::npos);
    const auto original = pruning::original(model, image, pruning::Joins::coupled, &table);
    CHECK(original.milliseconds == plan.milliseconds_before);
    CHECK(pruning::apply(plan, model).certificate.holds());
    CHECK(pruning::predict_latency(model, image, table) == plan.milliseconds_after);
    CHECK_THROWS_WITH_AS(pruning::plan(model, image, {.keep_latency = 0.6, .latencies = &table, .original = original}),
                         doctest::Contains("nothing to cut"), StateError);
    CHECK_THROWS_WITH_AS(
        pruning::plan(model, image,
                      {.keep_latency = 0.6, .latencies = &table, .original = pruning::original(model, image)}),
        doctest::Contains("an original with a predicted latency"), StateError);
}

TEST_CASE("plan: where fewer channels take longer, the latency target is still met, or the best is named") {
    Chain<float> model;
    shake<float>(model);
    LatencyTable table = proportional(pruning::sweep_widths(model, image, {.steps = 8, .rounds = 1}));
    for (LayerTimes& layer : table.layers)
        for (std::size_t i = 0; i < layer.milliseconds.size(); ++i)
            if (i % layer.out.size() % 2 == 0) layer.milliseconds[i] *= 2.3; // cliffs
    const auto plan = pruning::plan(model, image, {.keep_latency = 0.5, .latencies = &table});
    CHECK(plan.milliseconds_after <= 0.5 * plan.milliseconds_before);
    CHECK_THROWS_WITH_AS(pruning::plan(model, image, {.keep_latency = 0.01, .latencies = &table}),
                         doctest::Contains("of the predicted latency, got 0."), StateError);
}

TEST_CASE("sweep_widths: options out of range and layers that were not swept are errors") {
    Chain<float> model;
    CHECK_THROWS_WITH_AS(pruning::sweep_widths(model, image, {.steps = 0}),
                         doctest::Contains("of at least 1, got 1, 0"), ShapeError);
    const LatencyTable table = pruning::sweep_widths(model, image, {.steps = 1, .rounds = 1});
    CHECK_THROWS_WITH_AS(pruning::predict_latency(model, {8, 8, 3}, table),
                         doctest::Contains("expected times of 'conv2d 3x3 on 8x8 stride 1 padding 1' up to 3 and 8"),
                         StateError);
    Flattened<float> wider; // in the layers that both have
    CHECK_THROWS_WITH_AS(pruning::predict_latency(wider, image, table), doctest::Contains("'linear' up to 96 and 10"),
                         StateError);
}
