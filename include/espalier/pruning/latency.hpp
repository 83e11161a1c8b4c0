#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/steady_clock.hpp>
#include <espalier/pruning/trace.hpp>
#include <espalier/tensor/random.hpp>

#include <algorithm>
#include <string>
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

template <class T> Latency time_forward(const Network<T>& net, const Shape& image, const LatencyOptions& options) {
    expect(options.batch >= 1 && options.rounds >= 3,
           "measure_latency: expected a batch of at least 1 and at least 3 rounds, got ", options.batch, " and ",
           options.rounds);
    const Var<T> x(normal<T>(batch_of(options.batch, image), Random(1, "latency")));
    const NoGrad no_grad;
    const ModeScope<T> mode(net.module, Mode::inference);
    std::vector<double> times;
    const double begin = steady_seconds();
    for (Index round = 0; round <= options.rounds; ++round) {
        const double start = steady_seconds();
        const Var<T> y = net.forward(x);
        const double stop = steady_seconds();
        if (round > 0) times.push_back(1e3 * (stop - start));
        if (times.size() >= 3 && stop - begin > options.seconds) break;
    }
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times.front(), times.back(), static_cast<Index>(times.size())};
}

} // namespace pruning::detail

/// Times `model.forward` on random images [batch,H,W,C].
template <class M> Latency measure_latency(M& model, const Shape& image, const LatencyOptions& options = {}) {
    return pruning::detail::time_forward(network(model), image, options);
}

ESPALIER_COMPILED_FUNCTION(pruning::detail::time_forward);

} // namespace espalier::inline ESPALIER_BACKEND
