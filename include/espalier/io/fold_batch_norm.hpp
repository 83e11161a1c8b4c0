#pragma once

#include <espalier/io/export_step.hpp>

#include <cmath>
#include <map>
#include <set>

// Not part of espalier.hpp: few programs export.

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// The step that makes a value which only one step reads, or null.
inline ExportStep* sole_producer(ExportGraph& graph, std::size_t value) {
    if (graph.uses(value) != 1) return nullptr;
    for (ExportStep& step : graph.steps)
        if (step.output == value) return &step;
    return nullptr;
}

/// Lets `producer` make what step number `i` made, and removes that step.
inline void absorb(ExportGraph& graph, ExportStep& producer, std::size_t i) {
    producer.output = graph.steps[i].output;
    producer.activation = graph.steps[i].activation;
    graph.steps.erase(graph.steps.begin() + static_cast<std::ptrdiff_t>(i));
}

} // namespace detail

/// Batch norm of inference as a factor and a shift for each channel: y = factor * x + shift.
struct ChannelAffine {
    Tensor<double> factor, shift; ///< [C]
};
/// Of a step `batch_norm`.
inline ChannelAffine channel_affine(const ExportGraph& graph, const ExportStep& norm) {
    const auto at = [&](std::size_t i) { return graph.input(norm, i).constant; };
    const Tensor<double> gamma = at(1), beta = at(2), mean = at(3), variance = at(4);
    ChannelAffine affine{Tensor<double>(gamma.shape()), Tensor<double>(gamma.shape())};
    for (Index c = 0; c < gamma.size(); ++c) {
        const double factor = gamma.data()[c] / std::sqrt(variance.data()[c] + norm.attributes.number("epsilon"));
        affine.factor.mutable_data()[c] = factor;
        affine.shift.mutable_data()[c] = beta.data()[c] - mean.data()[c] * factor;
    }
    return affine;
}

/// Turns each convolution or linear layer that batch norm alone reads into one with a bias: w' = factor * w,
/// b' = factor * b + shift for each filter (`channel_affine`), in double. Other batch norms stay.
///
/// Returns how many were folded. A module used twice keeps sharing its weights.
inline Index fold_batch_norm(ExportGraph& graph) {
    std::map<std::vector<std::size_t>, std::vector<std::size_t>> folded; // constants: before to after
    Index count = 0;
    for (std::size_t i = 0; i < graph.steps.size(); ++i) {
        const ExportStep norm = graph.steps[i];
        if (norm.op != "batch_norm") continue;
        ExportStep* const producer = detail::sole_producer(graph, norm.inputs[0]);
        if (!producer || (producer->op != "conv2d" && producer->op != "linear")) continue;
        if (producer->activation != Activation::none) continue;

        std::vector<std::size_t> key(producer->inputs.begin() + 1, producer->inputs.end());
        key.insert(key.end(), norm.inputs.begin() + 1, norm.inputs.end());
        auto known = folded.find(key);
        if (known == folded.end()) {
            const ChannelAffine affine = channel_affine(graph, norm);
            const std::string name = graph.input(*producer, 1).name;
            Tensor<double> w = graph.input(*producer, 1).constant.clone(), b = affine.shift;
            const Index K = w.size(0), row = w.shape().product(1, w.rank());
            for (Index k = 0; k < K; ++k) {
                const double factor = affine.factor.data()[k];
                for (Index e = k * row; e < (k + 1) * row; ++e) w.mutable_data()[e] *= factor;
                if (producer->inputs.size() > 2)
                    b.mutable_data()[k] += factor * graph.input(*producer, 2).constant.data()[k];
            }
            graph.values.push_back({name + ".folded", w.shape(), w});
            graph.values.push_back({producer->name + ".bias.folded", b.shape(), b});
            known = folded.emplace(key, std::vector{graph.values.size() - 2, graph.values.size() - 1}).first;
        }
        producer->inputs = {producer->inputs[0], known->second[0], known->second[1]};
        detail::absorb(graph, *producer, i--);
        ++count;
    }
    return count;
}

/// Lets a step that alone feeds a relu apply it, where exporters can: after products, sums and joins.
inline void fuse_relu(ExportGraph& graph) {
    static const std::set<std::string> able{"conv2d", "linear", "batch_norm", "join", "add", "sub", "mul", "scale"};
    for (std::size_t i = 0; i < graph.steps.size(); ++i) {
        if (graph.steps[i].op != "relu") continue;
        ExportStep* const producer = detail::sole_producer(graph, graph.steps[i].inputs[0]);
        if (!producer || !able.contains(producer->op)) continue;
        graph.steps[i].activation = Activation::relu;
        detail::absorb(graph, *producer, i--); // relu of relu is relu
    }
}

} // namespace espalier::inline ESPALIER_BACKEND
