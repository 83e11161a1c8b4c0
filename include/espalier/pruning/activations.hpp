#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/pruning/criterion.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// A scalar to take gradients of, from the logits [N,K] that the network gives for batch number `batch`.
template <class T> using BatchLoss = std::function<Var<T>(const Var<T>& logits, Index batch)>;

/// One channel of one image's map, in row-major memory: pixel (h,w) is `values[(h * width + w) * stride]`.
template <class T> struct ChannelMap {
    const T* values;     ///< of the channel's first pixel
    const T* gradients;  ///< of the loss with respect to them, likewise; null without a loss, or if it has none
    Index height, width; ///< H and W
    Index stride;        ///< between pixels: C
    Index pixels() const { return height * width; } ///< H * W
};

/// What one channel's map of one image is worth.
template <class T> using MapScore = std::function<double(const ChannelMap<T>&)>;

/// A number for each channel's map of each image, first of all images, then of all maps of a channel combined.
template <class T> struct MapCriterion {
    const char* name;       ///< for error texts
    MapScore<T> score;      ///< of one map
    Combine over_images;    ///< what becomes of its values for all images
    Combine over_maps;      ///< and of those of all maps that the channel has
    BatchLoss<T> loss = {}; ///< if gradients are wanted
};

namespace detail {

/// Takes the gradients of a module's parameters away, and gives them back at the end of the scope.
template <class T> class GradientScope {
public:
    explicit GradientScope(const Module<T>& module) {
        for (const auto& [name, var] : module.parameters()) kept_.emplace_back(var, var.node()->take_grad());
    }
    ~GradientScope() {
        for (auto& [var, gradient] : kept_) {
            var.clear_grad();
            if (gradient.defined()) var.node()->add_grad(std::move(gradient));
        }
    }
    GradientScope(const GradientScope&) = delete;
    GradientScope& operator=(const GradientScope&) = delete;

private:
    std::vector<std::pair<Var<T>, Deferred<T>>> kept_;
};

/// The activation whose channels are the node's, one to one or spread over columns, if it has exactly one such input.
template <class T> Node<T>* channels_from(const Node<T>& node, const Trace<T>& trace) {
    Node<T>* from = nullptr;
    for (const ChannelLink& link : node.rule.links()) {
        const int i = link.operand == ChannelRule::output ? link.other
                      : link.other == ChannelRule::output ? link.operand
                                                          : ChannelRule::output;
        if (i == ChannelRule::output) continue;
        Node<T>* const input = node.inputs[static_cast<std::size_t>(i)].get();
        if (trace.variables.count(input)) continue;
        if (from && from != input) return nullptr;
        from = input;
    }
    return from;
}

/// What weights eat, and under `Joins::indexed` what goes into joins: each map once, in the order of the graph. Where
/// that is a vector, behind global pooling or a flatten, the map that it was made of.
template <class T> std::vector<Node<T>*> eaten_maps(const Trace<T>& trace, Joins joins) {
    const auto is_map = [](const Node<T>& node) { return node.shape.rank() == 4 && node.shape[1] * node.shape[2] > 1; };
    std::vector<Node<T>*> maps;
    std::unordered_set<const Node<T>*> seen;
    for (const auto& node : trace.nodes)
        for (const ChannelLink& link : node->rule.links()) {
            const bool ends_branch = link.joined && joins == Joins::indexed;
            if (link.role != ChannelRole::eats && !ends_branch) continue;
            Node<T>* eaten = node->inputs[static_cast<std::size_t>(ends_branch ? link.operand : link.other)].get();
            Node<T>* map = eaten;
            while (map && !map->is_leaf() && !is_map(*map)) map = channels_from(*map, trace);
            if (map && !map->is_leaf()) eaten = map;
            if (!eaten->is_leaf() && seen.insert(eaten).second) maps.push_back(eaten);
        }
    return maps;
}

/// Adds the score of every image's map to the combiner of its channel. map [N,H,W,C] or [N,C]; gradient alike, or
/// undefined.
template <class T>
void add_scores(const MapScore<T>& score, const Tensor<T>& map, const Tensor<T>& gradient,
                std::vector<Combiner>& channels) {
    const Index C = map.size(-1), N = map.size(0), size = map.shape().product(1, map.rank());
    const Index height = map.rank() == 4 ? map.size(1) : 1, width = C == 0 ? 0 : size / C / height;
    parallel_for(C, [&](Index c) {
        for (Index n = 0; n < N; ++n)
            channels[static_cast<std::size_t>(c)].add(
                score({map.data() + n * size + c, gradient.defined() ? gradient.data() + n * size + c : nullptr, height,
                       width, C}));
    });
}

/// Scores of every map's channels over all batches, [map][channel], and which of them belong to a class of the graph
/// that the first batch recorded.
template <class T> class SeenMaps {
public:
    SeenMaps(const MapCriterion<T>& criterion, const Network<T>& net, const std::vector<Tensor<T>>& batches,
             Joins joins) {
        expect(!batches.empty(), criterion.name, ": expected at least one batch of images, got none");
        for (std::size_t b = 0; b < batches.size(); ++b) {
            const KeepValues<T> values;
            const Trace<T> trace = trace_batch(net, batches[b]);
            const std::vector<Node<T>*> maps = eaten_maps(trace, joins);
            if (b == 0) start(criterion, trace, maps, joins);
            expect<StateError>(maps.size() == scores_.size(), criterion.name, ": expected the same ", scores_.size(),
                               " maps for every batch, got ", maps.size());
            if (criterion.loss)
                look_backward(criterion, net, trace, maps, values, static_cast<Index>(b));
            else
                for (std::size_t k = 0; k < maps.size(); ++k)
                    add_scores(criterion.score, values.of(maps[k]), Tensor<T>(), scores_[k]);
        }
    }

    /// Of the channel that a weight's filter makes: its maps' scores combined.
    double of(const MapCriterion<T>& criterion, const ChannelMember<T>& maker) const {
        expect<StateError>(graph_->trace().variables.count(maker.variable.node().get()) > 0, criterion.name,
                           ": expected the model whose graph is scored, got one without its ", maker.name);
        const auto it = places_.find(graph_->channel(maker.variable.node().get(), maker.axis, maker.entry));
        Combiner combiner(criterion.over_maps);
        if (it != places_.end())
            for (const auto& [map, column] : it->second) combiner.add(scores_[map][column].value());
        return combiner.value();
    }

private:
    void start(const MapCriterion<T>& criterion, const Trace<T>& trace, const std::vector<Node<T>*>& maps,
               Joins joins) {
        graph_ = std::make_unique<ChannelGraph<T>>(trace, joins);
        for (std::size_t k = 0; k < maps.size(); ++k) {
            const Index channels = maps[k]->shape[-1];
            scores_.emplace_back(static_cast<std::size_t>(channels), Combiner(criterion.over_images));
            for (Index c = 0; c < channels; ++c)
                places_[graph_->channel(maps[k], -1, c)].emplace_back(k, static_cast<std::size_t>(c));
        }
    }
    /// Looks at each map when its gradient is complete: just before it flows on.
    void look_backward(const MapCriterion<T>& criterion, const Network<T>& net, const Trace<T>& trace,
                       const std::vector<Node<T>*>& maps, const KeepValues<T>& values, Index batch) {
        const GradientScope<T> scope(net.module);
        std::vector<char> reached(maps.size(), 0);
        for (std::size_t k = 0; k < maps.size(); ++k)
            maps[k]->backward = [&, k, flow = std::move(maps[k]->backward)](Deferred<T> dy, const Inputs<T>& input) {
                reached[k] = 1;
                add_scores(criterion.score, values.of(maps[k]), dy.value(), scores_[k]);
                flow(std::move(dy), input);
            };
        criterion.loss(trace.output, batch).backward();
        for (std::size_t k = 0; k < maps.size(); ++k)
            if (!reached[k]) add_scores(criterion.score, values.of(maps[k]), Tensor<T>(), scores_[k]);
    }

    std::unique_ptr<ChannelGraph<T>> graph_;
    std::vector<std::vector<Combiner>> scores_;
    std::unordered_map<std::size_t, std::vector<std::pair<std::size_t, std::size_t>>> places_;
};

template <class T>
Score<T> score_by_maps(const MapCriterion<T>& criterion, const ChannelGraph<T>& graph, const Network<T>& net,
                       const std::vector<Tensor<T>>& batches) {
    const SeenMaps<T> maps(criterion, net, batches, graph.joins());
    return score_groups(graph, [&](const ChannelGroup<T>& group) {
        std::vector<double> scores;
        for (const Channel<T>& channel : group.channels)
            for (const ChannelMember<T>& m : channel.members)
                if (m.role == ChannelRole::makes) { // any maker will do: all make the same channel
                    scores.push_back(maps.of(criterion, m));
                    break;
                }
        return scores;
    });
}

template <class T> double map_peak(const ChannelMap<T>& map) {
    double peak = 0;
    for (Index i = 0; i < map.pixels(); ++i) {
        const double v = std::abs(static_cast<double>(map.values[i * map.stride]));
        if (v > peak || v != v) peak = v;
    }
    return peak;
}

template <class T> double map_share_of_nonzeros(const ChannelMap<T>& map) {
    Index count = 0;
    for (Index i = 0; i < map.pixels(); ++i) {
        const T v = map.values[i * map.stride];
        if (v != v) return static_cast<double>(v);
        count += v != T(0);
    }
    return static_cast<double>(count) / static_cast<double>(map.pixels());
}

/// Pivots of an elimination with complete pivoting that are above max(H,W) * eps(T) times the first, which is the
/// largest element: what rounding of H*W values to T can leave where there should be 0.
template <class T> double map_rank(const ChannelMap<T>& map) {
    const Index H = map.height, W = map.width;
    std::vector<double> a(static_cast<std::size_t>(H * W));
    for (Index i = 0; i < H * W; ++i) a[static_cast<std::size_t>(i)] = static_cast<double>(map.values[i * map.stride]);
    const auto at = [&](Index h, Index w) -> double& { return a[static_cast<std::size_t>(h * W + w)]; };
    double tolerance = 0;
    for (Index rank = 0; rank < std::min(H, W); ++rank) {
        Index row = rank, column = rank;
        for (Index h = rank; h < H; ++h)
            for (Index w = rank; w < W; ++w) {
                if (!std::isfinite(at(h, w))) return std::numeric_limits<double>::quiet_NaN();
                if (std::abs(at(h, w)) > std::abs(at(row, column))) {
                    row = h;
                    column = w;
                }
            }
        const double pivot = at(row, column);
        if (rank == 0)
            tolerance = static_cast<double>(std::max(H, W)) * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                        std::abs(pivot);
        if (std::abs(pivot) <= tolerance) return static_cast<double>(rank);
        for (Index w = 0; w < W; ++w) std::swap(at(rank, w), at(row, w));
        for (Index h = 0; h < H; ++h) std::swap(at(h, rank), at(h, column));
        for (Index h = rank + 1; h < H; ++h) {
            const double factor = at(h, rank) / pivot;
            for (Index w = rank; w < W; ++w) at(h, w) -= factor * at(rank, w);
        }
    }
    return static_cast<double>(std::min(H, W));
}

} // namespace detail
} // namespace pruning

/// Largest |activation| that the channel's consumers ever see on the given images: 0 is a filter that is dead after
/// relu, whatever its norm. Use it with a threshold.
///
/// Of this and the other criteria that look at activations: the network runs in inference mode and is left as it was.
/// What counts are the maps [N,H,W,C] that weights eat, so behind batch norm, relu and pooling; where a weight eats a
/// vector, behind global pooling or a flatten, the map that this is made of. A residual stream has one in each block;
/// the end of an indexed branch has the one that goes into its join.
template <class T> struct ActivationPeak {
    Network<T> net;                      ///< whose graph is given to `prepare`: `network(model)`
    std::vector<Tensor<T>> batches = {}; ///< of images [N,H,W,C], as the network is fed
    Combine combine = Combine::max;      ///< of the peaks of a channel's maps

    /// As of every criterion. NaN for a channel that nothing eats. @throws ShapeError without a batch; StateError if
    /// the model is another one; when prepared
    /// @{
    std::string name() const { return "activation peak"; }
    pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return pruning::detail::score_by_maps<T>(
            {"ActivationPeak", pruning::detail::map_peak<T>, Combine::max, combine}, graph, net, batches);
    }
    /// @}
};

/// Share of the channel's activations that are not zero, 1 - APoZ: what relu silences most of the time goes first.
/// Mean over images and pixels. Source: Hu et al. 2016, "Network Trimming", section 3.1 (average percentage of zeros).
template <class T> struct Apoz {
    Network<T> net;                      ///< as of `ActivationPeak`
    std::vector<Tensor<T>> batches = {}; ///< likewise
    Combine combine = Combine::mean;     ///< of the shares of a channel's maps

    /// As of `ActivationPeak`.
    /// @{
    std::string name() const { return "1 - APoZ"; }
    pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return pruning::detail::score_by_maps<T>(
            {"Apoz", pruning::detail::map_share_of_nonzeros<T>, Combine::mean, combine}, graph, net, batches);
    }
    /// @}
};

/// Mean over images of the rank of the channel's map, a matrix [H,W]: maps of low rank say little.
///
/// The rank is counted by elimination with complete pivoting, in double: pivots above max(H,W) * eps(T) times the
/// largest element of the map. Source: Lin et al. 2020, "HRank", section 3.2.
template <class T> struct ActivationRank {
    Network<T> net;                      ///< as of `ActivationPeak`
    std::vector<Tensor<T>> batches = {}; ///< likewise
    Combine combine = Combine::mean;     ///< of the ranks of a channel's maps

    /// As of `ActivationPeak`.
    /// @{
    std::string name() const { return "activation rank"; }
    pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return pruning::detail::score_by_maps<T>(
            {"ActivationRank", pruning::detail::map_rank<T>, Combine::mean, combine}, graph, net, batches);
    }
    /// @}
};

ESPALIER_COMPILED_CLASS(pruning::detail::SeenMaps);
ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_maps);
ESPALIER_COMPILED_FUNCTION(pruning::detail::map_rank);

} // namespace espalier::inline ESPALIER_BACKEND
