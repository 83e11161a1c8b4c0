#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/criteria.hpp>
#include <espalier/pruning/surgery.hpp>

#include <atomic>
#include <cmath>
#include <deque>
#include <functional>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

// Not part of espalier.hpp: few programs measure.

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// What a network is worth with one group cut and all others whole.
struct SensitivityPoint {
    std::string group;         ///< empty: nothing is cut, what the others are compared with
    double ratio = 0;          ///< share of the group's channels that was asked to go
    Index width = 0, kept = 0; ///< channels of the group, and those that stayed
    Cost cost = {};            ///< of the cut network
    double score = 0;          ///< what `evaluate` said of it: an accuracy, for instance
};

/// What a sensitivity scan cuts, and what becomes of its points.
template <class T> struct SensitivityOptions {
    Criterion<T> criterion = FilterNorm{};                                      ///< which channels of a group go first
    std::vector<double> ratios = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}; ///< of each group, in (0, 1]
    Joins joins = Joins::coupled;                                               ///< how residual joins couple channels
    std::vector<SensitivityPoint> done = {};                    ///< points of an earlier scan, not measured again
    std::function<void(const SensitivityPoint&)> measured = {}; ///< gets every new point, one at a time
};

namespace detail {

/// `evaluate(r)` gives the score of network r, which is cut when it is called.
template <class T>
std::vector<SensitivityPoint> scan(const std::vector<Network<T>>& replicas, const Shape& image,
                                   const std::function<double(std::size_t)>& evaluate,
                                   const SensitivityOptions<T>& options) {
    expect(!replicas.empty() && !options.ratios.empty(), "scan_sensitivity: expected a model and ratios, got ",
           replicas.size(), " and ", options.ratios.size());
    for (const double ratio : options.ratios)
        expect(ratio > 0 && ratio <= 1, "scan_sensitivity: expected ratios in (0,1], got ", ratio);
    std::vector<Device> devices; // where networks are evaluated; criteria and cuts are the CPU's
    std::deque<DeviceScope<T>> on_cpu;
    for (const Network<T>& net : replicas) {
        devices.push_back(net.module.device());
        on_cpu.emplace_back(net.module, Device::cpu);
    }
    std::vector<ChannelGraph<T>> graphs;
    for (const Network<T>& net : replicas) graphs.emplace_back(trace_image(net, image), options.joins);
    const auto& groups = graphs.front().groups();
    for (const ChannelGraph<T>& graph : graphs) {
        bool same = graph.groups().size() == groups.size();
        for (std::size_t g = 0; same && g < groups.size(); ++g)
            same = graph.groups()[g].name == groups[g].name && graph.groups()[g].width() == groups[g].width();
        expect<StateError>(same, "scan_sensitivity: expected copies of one network, got others");
    }

    std::vector<SensitivityPoint> points{{.group = "", .cost = cost_of_network(replicas.front(), image)}};
    std::vector<std::size_t> group_of{0};
    std::vector<std::vector<Index>> orders; // channels of each group, least important first
    const Score<T> score = options.criterion.prepare(graphs.front());
    for (std::size_t g = 0; g < groups.size(); ++g) {
        std::vector<double> scores;
        std::vector<Index>& order = orders.emplace_back(static_cast<std::size_t>(groups[g].width()));
        std::iota(order.begin(), order.end(), Index(0));
        if (!groups[g].blocked.empty()) continue;
        for (const Channel<T>& channel : groups[g].channels) scores.push_back(score(channel));
        if (!std::all_of(scores.begin(), scores.end(), [](double s) { return std::isfinite(s); })) continue;
        std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
            return scores[static_cast<std::size_t>(a)] < scores[static_cast<std::size_t>(b)];
        });
        for (const double ratio : options.ratios) {
            const Index width = groups[g].width(), least = groups[g].is_branch ? 0 : 1;
            const auto gone = static_cast<Index>(std::lround(ratio * static_cast<double>(width)));
            points.push_back({groups[g].name, ratio, width, std::max(least, width - gone)});
            group_of.push_back(g);
        }
    }

    std::vector<char> is_done(points.size(), 0);
    for (std::size_t p = 0; p < points.size(); ++p)
        for (const SensitivityPoint& done : options.done)
            if (done.group == points[p].group && done.ratio == points[p].ratio) {
                expect<StateError>(done.width == points[p].width && done.kept == points[p].kept,
                                   "scan_sensitivity: expected points of this network, got ", done.kept, " of ",
                                   done.width, " channels of group '", done.group, "'");
                points[p] = done;
                is_done[p] = 1;
            }

    const Path path = current_path();
    const MatmulPrecision precision = current_matmul_precision();
    std::atomic<std::size_t> next = 0;
    std::mutex one_at_a_time;
    parallel_for(static_cast<Index>(replicas.size()), [&](Index worker) {
        const PathScope path_scope(path);
        const MatmulPrecisionScope precision_scope(precision);
        const auto r = static_cast<std::size_t>(worker);
        Module<T>& model = replicas[r].module;
        for (std::size_t p; (p = next.fetch_add(1)) < points.size();) {
            if (is_done[p]) continue;
            SensitivityPoint& point = points[p];
            const ChangeScope<T> as_before(copies(model)); // whatever `evaluate` does is undone
            Removal<T> removal(graphs[r]);
            const std::size_t g = group_of[p];
            for (Index i = 0; i < point.width - point.kept; ++i)
                removal.remove(
                    graphs[r].groups()[g].channels[static_cast<std::size_t>(orders[g][static_cast<std::size_t>(i)])]);
            removal.close();
            const ChangeScope<T> cut_network(cut(model, graphs[r], removal).first);
            if (p > 0) point.cost = cost_of_network(replicas[r], image);
            model.to(devices[r]);
            point.score = evaluate(r);
            if (!options.measured) continue;
            const std::lock_guard lock(one_at_a_time);
            options.measured(point);
        }
    });
    return points;
}

template <class M> std::vector<Network<typename M::Scalar>> networks(const std::vector<M*>& replicas) {
    std::vector<Network<typename M::Scalar>> all;
    for (M* const model : replicas) all.push_back(network(*model));
    return all;
}

} // namespace detail

/// Cuts one group after the other at each ratio, for images [H,W,C], and asks `evaluate(model)` for a score.
///
/// Each point is a real cut: the model that `evaluate` gets is the smaller network, and afterwards it is put back bit
/// for bit, whatever `evaluate` did to its weights. The first point is that of the whole network; groups that can't be
/// cut have none. `replicas` are copies of one model with variables of their own: as many points are evaluated at a
/// time, each on one thread, so more than one pays where `evaluate` does not fill all cores. Not to be used during the
/// scan. Networks on a GPU are cut on the CPU and evaluated on the GPU; one replica will do there. @throws ShapeError
/// for ratios out of range; StateError for replicas or points of different networks
template <class M, class F>
std::vector<SensitivityPoint> scan_sensitivity(const std::vector<M*>& replicas, const Shape& image, const F& evaluate,
                                               const SensitivityOptions<typename M::Scalar>& options = {}) {
    return detail::scan<typename M::Scalar>(
        detail::networks(replicas), image, [&](std::size_t r) { return static_cast<double>(evaluate(*replicas[r])); },
        options);
}

/// As above with the model itself, one point after the other.
template <class M, class F>
std::vector<SensitivityPoint> scan_sensitivity(M& model, const Shape& image, const F& evaluate,
                                               const SensitivityOptions<typename M::Scalar>& options = {}) {
    return scan_sensitivity(std::vector<M*>{&model}, image, evaluate, options);
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::scan);

} // namespace espalier::inline ESPALIER_BACKEND
