#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/steady_clock.hpp>
#include <espalier/pruning/trace.hpp>
#include <espalier/tensor/random.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Measured milliseconds of one forward pass in inference mode.
struct Latency {
    double median = 0, lowest = 0, highest = 0; ///< of all rounds
    Index rounds = 0;                           ///< measured ones
};

/// Whether `after` is faster than `before` beyond doubt: every round of it beats every round of the other.
inline bool clearly_faster(const Latency& before, const Latency& after) { return after.highest < before.lowest; }

/// How `measure_latency` measures.
struct LatencyOptions {
    Index batch = 1;      ///< images a pass
    Index rounds = 11;    ///< measured ones; one more warms up
    double seconds = 0.5; ///< stop early after this long, but not before three rounds
};

namespace pruning::detail {

/// Times of each network, measured in turns, so that what disturbs the machine for a while disturbs all of them.
template <class T>
std::vector<Latency> time_in_turns(const std::vector<Network<T>>& nets, const Shape& image,
                                   const LatencyOptions& options) {
    expect(options.batch >= 1 && options.rounds >= 3,
           "measure_latency: expected a batch of at least 1 and at least 3 rounds, got ", options.batch, " and ",
           options.rounds);
    const Tensor<T> images = normal<T>(batch_of(options.batch, image), Random(1, "latency"));
    std::vector<Var<T>> x; // where each network is
    for (const Network<T>& net : nets) x.emplace_back(images.to(net.module.device()));
    const NoGrad no_grad;
    std::vector<std::vector<double>> times(nets.size());
    const double begin = steady_seconds();
    for (Index round = 0; round <= options.rounds; ++round) {
        for (std::size_t i = 0; i < nets.size(); ++i) {
            const ModeScope<T> mode(nets[i].module, Mode::inference);
            const double start = steady_seconds();
            const Var<T> y = nets[i].forward(x[i]);
            synchronise(x[i].device());
            if (round > 0) times[i].push_back(1e3 * (steady_seconds() - start));
        }
        if (round >= 3 && steady_seconds() - begin > options.seconds * static_cast<double>(nets.size())) break;
    }
    std::vector<Latency> latencies;
    for (std::vector<double>& t : times) {
        std::sort(t.begin(), t.end());
        latencies.push_back({t[t.size() / 2], t.front(), t.back(), static_cast<Index>(t.size())});
    }
    return latencies;
}

template <class T> Latency time_forward(const Network<T>& net, const Shape& image, const LatencyOptions& options) {
    return time_in_turns(std::vector<Network<T>>{net}, image, options).front();
}

} // namespace pruning::detail

/// Times `model.forward` on random images [batch,H,W,C], where the model is; a GPU has done it all when time is up.
template <class M> Latency measure_latency(M& model, const Shape& image, const LatencyOptions& options = {}) {
    return pruning::detail::time_forward(network(model), image, options);
}

/// Times two models in turns, round by round: the fair way to compare a pruned network with the one before.
template <class A, class B>
std::pair<Latency, Latency> compare_latency(A& before, B& after, const Shape& image,
                                            const LatencyOptions& options = {}) {
    const std::vector<Network<typename A::Scalar>> both{network(before), network(after)};
    const std::vector<Latency> times = pruning::detail::time_in_turns(both, image, options);
    return {times[0], times[1]};
}

ESPALIER_COMPILED_FUNCTION(pruning::detail::time_in_turns);
ESPALIER_COMPILED_FUNCTION(pruning::detail::time_forward);

} // namespace espalier::inline ESPALIER_BACKEND
