#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/ops/conv2d.hpp>
#include <espalier/ops/linear.hpp>
#include <espalier/pruning/latency.hpp>

#include <functional>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// Measured milliseconds of one kind of layer on a grid of widths.
struct LayerTimes {
    std::string layer;                ///< all but its widths: `conv2d 3x3 on 32x32 stride 1 padding 1`
    std::vector<Index> in, out;       ///< channels, ascending
    std::vector<double> milliseconds; ///< [in][out]

    /// Bilinear between the points of the grid; beyond its ends, as at the ends.
    double at(Index channels, Index filters) const;
};

/// What a width sweep measured: how long the layers of networks take on one machine, against their widths.
///
/// Predicts the latency of a pruned network before it is cut. Convolutions and linear layers are looked up; all else a
/// network does (batch norm, activations, joins) goes with the elements of its maps.
struct LatencyTable {
    std::string machine;                 ///< where it was measured, in the words of whoever measured it
    int threads = 0;                     ///< that the kernels used
    Index batch = 0;                     ///< images a pass
    double rest = 0;                     ///< milliseconds a million elements of maps, beside the layers
    std::vector<LayerTimes> layers = {}; ///< each kind once

    /// The times of a kind of layer; null if it was not measured.
    const LayerTimes* find(const std::string& layer) const;
};

/// How `sweep_widths` measures.
struct SweepOptions {
    Index batch = 1;          ///< images a pass
    Index steps = 6;          ///< widths on each axis of the grid: full * 1/steps, 2/steps, ... full
    Index rounds = 5;         ///< measured ones of each point, after one that warms up; their median counts
    std::string machine = {}; ///< for `LatencyTable::machine`
};

namespace detail {

/// A product of a trace as a latency table sees it.
template <class T> struct TimedLayer {
    std::string name; ///< as `LayerTimes::layer`
    Conv2dOptions options;
    Index height = 0, width = 0; ///< of the input map; 0 for a linear layer
    Var<T> weight;
    Index outputs = 0; ///< pixels of the result, for one image
    bool depthwise = false;

    Index channels(const Shape& w) const { return depthwise ? w[0] : w[-1] * options.groups; }
};

template <class T> std::vector<TimedLayer<T>> timed_layers(const Trace<T>& trace) {
    std::vector<TimedLayer<T>> layers;
    for (const auto& node : trace.nodes) {
        if (node->rule.weight() < 0) continue;
        const auto variable = trace.variables.find(node->inputs[static_cast<std::size_t>(node->rule.weight())].get());
        if (variable == trace.variables.end()) continue;
        TimedLayer<T> layer{.name = node->op, .options = {}, .weight = variable->second.var};
        layer.outputs = node->rule.positions();
        const Shape &x = node->inputs[0]->shape, &w = layer.weight.shape();
        if (w.rank() == 4) {
            const auto number = [&](const char* name) { return node->attributes.index(name); };
            layer.options = {.stride = number("stride"),
                             .padding = number("padding"),
                             .dilation = number("dilation"),
                             .groups = number("groups")};
            layer.height = x[1];
            layer.width = x[2];
            layer.depthwise = espalier::detail::is_depthwise(x, w, layer.options);
            layer.name += join_text(" ", w[1], "x", w[2], " on ", x[1], "x", x[2], " stride ", layer.options.stride,
                                    " padding ", layer.options.padding);
            if (layer.options.dilation > 1) layer.name += join_text(" dilation ", layer.options.dilation);
            if (layer.depthwise) layer.name += " depthwise";
            if (!layer.depthwise && layer.options.groups > 1) layer.name += join_text(" groups ", layer.options.groups);
        }
        layers.push_back(std::move(layer));
    }
    return layers;
}

/// Milliseconds of one layer with other widths: the median of `rounds`.
template <class T> double time_layer(const TimedLayer<T>& layer, Index channels, Index filters, const SweepOptions& o) {
    const NoGrad no_grad;
    const Shape& w = layer.weight.shape();
    Shape weight = w, image{o.batch, channels};
    Conv2dOptions options = layer.options;
    if (layer.depthwise) options.groups = filters;
    weight[0] = filters;
    weight[-1] = layer.depthwise ? 1 : channels / options.groups;
    if (w.rank() == 4) image = {o.batch, layer.height, layer.width, layer.depthwise ? filters : channels};
    const Device device = layer.weight.device();
    const Var<T> x(normal<T>(image, Random(1, "latency")).to(device));
    const Var<T> y(normal<T>(weight, Random(2, "latency")).to(device));
    std::vector<double> times;
    for (Index round = 0; round <= o.rounds; ++round) {
        const double start = steady_seconds();
        const Var<T> result = w.rank() == 4 ? conv2d(x, y, options) : linear(x, y, Var<T>());
        synchronise(device);
        if (round > 0) times.push_back(1e3 * (steady_seconds() - start));
    }
    std::nth_element(times.begin(), times.begin() + o.rounds / 2, times.end());
    return times[static_cast<std::size_t>(o.rounds / 2)];
}

/// Whether a table has times of a layer as wide as it is.
template <class T> bool covers(const LatencyTable& table, const TimedLayer<T>& layer) {
    const LayerTimes* const times = table.find(layer.name);
    return times && times->in.back() >= layer.channels(layer.weight.shape()) &&
           times->out.back() >= layer.weight.size(0);
}

/// Predicted milliseconds, of layers and of the rest, if variables had the shapes that `shape_of` gives.
template <class T>
double predicted_latency(const LatencyTable& table, const Trace<T>& trace,
                         const std::function<Shape(const Var<T>&)>& shape_of) {
    double total = 0;
    for (const TimedLayer<T>& layer : timed_layers(trace)) {
        expect<StateError>(covers(table, layer), "LatencyTable: expected times of '", layer.name, "' up to ",
                           layer.channels(layer.weight.shape()), " and ", layer.weight.size(0),
                           " channels, got none; sweep this network");
        const LayerTimes* const times = table.find(layer.name);
        const Shape w = shape_of(layer.weight);
        if (w.size() == 0) continue; // of a branch that is gone
        total += times->at(layer.channels(w), w[0]);
        total += table.rest * 1e-6 * static_cast<double>(table.batch * layer.outputs * w[0]);
    }
    return total;
}

template <class T> LatencyTable sweep(const Network<T>& net, const Shape& image, const SweepOptions& options) {
    expect(options.batch >= 1 && options.steps >= 1 && options.rounds >= 1,
           "sweep_widths: expected a batch, steps and rounds of at least 1, got ", options.batch, ", ", options.steps,
           " and ", options.rounds);
    LatencyTable table{.machine = options.machine, .threads = espalier::threads(), .batch = options.batch};
    const Trace<T> trace = trace_image(net, image);
    const std::vector<TimedLayer<T>> layers = timed_layers(trace);
    const auto grid = [&](Index full, Index multiple) {
        std::vector<Index> widths;
        for (Index i = 1; i <= options.steps; ++i) {
            const Index width = (full * i / options.steps + multiple - 1) / multiple * multiple;
            if (width > 0 && (widths.empty() || width > widths.back())) widths.push_back(width);
        }
        return widths;
    };
    for (const TimedLayer<T>& layer : layers) {
        if (table.find(layer.name)) continue;
        Index channels = 0, filters = 0; // the widest of this kind
        for (const TimedLayer<T>& other : layers)
            if (other.name == layer.name) {
                channels = std::max(channels, other.channels(other.weight.shape()));
                filters = std::max(filters, other.weight.size(0));
            }
        const Index groups = layer.depthwise ? 1 : layer.options.groups;
        LayerTimes times{layer.name,
                         layer.depthwise ? std::vector<Index>{channels} : grid(channels, groups),
                         grid(filters, groups),
                         {}};
        for (const Index in : times.in)
            for (const Index out : times.out) times.milliseconds.push_back(time_layer(layer, in, out, options));
        table.layers.push_back(std::move(times));
    }
    const auto now = [](const Var<T>& var) { return var.shape(); };
    const double whole = time_forward(net, image, {.batch = options.batch, .rounds = options.rounds + 2}).median;
    double elements = 0;
    for (const TimedLayer<T>& layer : layers)
        elements += static_cast<double>(options.batch * layer.outputs * layer.weight.size(0));
    table.rest = std::max(0.0, whole - predicted_latency<T>(table, trace, now)) / std::max(1.0, elements) * 1e6;
    return table;
}

} // namespace detail

/// Measures each kind of layer of a model for images [H,W,C] on a grid of widths, where the model is, on the CPU with
/// `threads()` threads, and what the network takes beside its layers. Do it on a quiet machine, once: tables are kept
/// in files
/// (`io/latency_file.hpp`).
template <class M> LatencyTable sweep_widths(M& model, const Shape& image, const SweepOptions& options = {}) {
    return detail::sweep(network(model), image, options);
}

/// Milliseconds that a table predicts for a model as it is. @throws StateError if a layer is not in the table
template <class M> double predict_latency(M& model, const Shape& image, const LatencyTable& table) {
    using T = typename M::Scalar;
    return detail::predicted_latency<T>(table, trace(model, image), [](const Var<T>& var) { return var.shape(); });
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::predicted_latency);
ESPALIER_COMPILED_FUNCTION(pruning::detail::sweep);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

ESPALIER_BODY double LayerTimes::at(Index channels, Index filters) const {
    struct Place {
        std::size_t low, high;
        double share; ///< of the way from low to high
    };
    const auto place = [](const std::vector<Index>& grid, Index width) -> Place {
        const auto above = static_cast<std::size_t>(std::lower_bound(grid.begin(), grid.end(), width) - grid.begin());
        if (above == grid.size()) return {above - 1, above - 1, 0};
        if (above == 0) return {0, 0, 0};
        return {above - 1, above,
                static_cast<double>(width - grid[above - 1]) / static_cast<double>(grid[above] - grid[above - 1])};
    };
    const Place c = place(in, channels), k = place(out, filters);
    const auto time = [&](std::size_t i, std::size_t o) { return milliseconds[i * out.size() + o]; };
    const auto along = [&](std::size_t i) { return (1 - k.share) * time(i, k.low) + k.share * time(i, k.high); };
    return (1 - c.share) * along(c.low) + c.share * along(c.high);
}

ESPALIER_BODY const LayerTimes* LatencyTable::find(const std::string& layer) const {
    for (const LayerTimes& times : layers)
        if (times.layer == layer) return &times;
    return nullptr;
}

} // namespace pruning
} // namespace espalier::inline ESPALIER_BACKEND
#endif
