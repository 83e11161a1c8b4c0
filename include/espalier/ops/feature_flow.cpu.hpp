#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/lanes.hpp>
#include <espalier/ops/flow_options.hpp>
#include <espalier/tensor/tensor.hpp>

#include <array>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// The maps of one stage, [N,E] with E elements a sample, are either features x, with steps d_l = x_{l+1} - x_l, or
// branches F, with steps d_l = F_l. A bend is c_l = d_l - d_{l-1}. A seed is the gradient of the stage's value with
// respect to one map. It is made where the value is, by a walk along all maps at a few positions at a time, so that
// every map is read from memory once and every seed is written once.
//
// Let p_l be the gradient of the value with respect to d_l: w sign(d_l) or w d_l, plus the same of c_l, minus the same
// of c_{l+1}. Then the seed of F_l is p_l, and that of x_l is p_{l-1} - p_l.

/// One number for first differences, one for second differences: weights or sums.
struct FlowPair {
    double gradient = 0, curvature = 0; ///< of the first and of the second differences
};
/// As a `FlowPair`, in vectors of S.
template <class S> struct FlowTally {
    typename S::Vector gradient = S::zero();  ///< sums, lane by lane
    typename S::Vector curvature = S::zero(); ///< likewise
};
/// The maps of one stage, [N,E] each.
template <class T> using FlowMaps = std::vector<View<const T, 2>>;
/// The gradients of one stage's value, one a map and [N,E] each, or none.
template <class T> using FlowSeeds = std::vector<View<T, 2>>; // none, or one a map

/// Elements that a thread takes through the maps of a stage at a time.
///
/// Reading jumps from map to map after as many, which the processor does not foresee: each step fetches the row that
/// comes next. What the walk carries, and the rows in use, fit a core's L1 cache.
inline constexpr Index flow_chunk = 512;

/// What a chunk carries from step to step.
template <class T> struct FlowCarry {
    alignas(64) T step[flow_chunk];    ///< d_{l-1}
    alignas(64) T pull[flow_chunk];    ///< p_{l-1} without the bend that is still to come
    alignas(64) T settled[flow_chunk]; ///< p_{l-2}
};

/// Rows of a chunk that one step reads and writes.
template <class T> struct FlowRows {
    const T* before; ///< of the map before; of branches unused
    const T* after;  ///< d = after - before, of branches d = after
    const T* next;   ///< what is read after this step
    T* seed;         ///< of the map that this step is the last one to touch; null before there is one
};

/// One step l of a chunk: returns the sums of weight * |d| and of weight * |c| (with `absolute`) or of weight * d^2 and
/// of weight * c^2, and finishes one seed.
template <bool absolute, bool features, bool curved, bool seeded, class T>
FlowPair flow_step(const FlowRows<T>& rows, FlowCarry<T>& carry, Index count, FlowPair weight) {
    const T *const before = rows.before, *const after = rows.after, *const next = rows.next;
    T *const seed = rows.seed, *const step = carry.step, *const last = carry.pull, *const settled = carry.settled;
    const T gradient = static_cast<T>(weight.gradient), curvature = static_cast<T>(weight.curvature);

    const auto pull = []<class S, class V>(S, const V& v, const V& w) { // v * pull is what the norm adds up, times w
        if constexpr (absolute)
            return v > 0 ? w : (v < 0 ? -w : S::zero());
        else
            return v * w;
    };
    std::tuple<FlowTally<Simd<T>>, FlowTally<Lane<T>>> tallies;
    for_lanes<T>(count, [=, &tallies]<class S>(S, Index i) {
        auto& tally = std::get<FlowTally<S>>(tallies);
        __builtin_prefetch(next + i);
        const auto d = features ? S::load(after + i) - S::load(before + i) : S::load(after + i);
        auto along = pull(S{}, d, S::broadcast(gradient));
        tally.gradient += d * along;
        auto p = seeded ? S::load(last + i) : S::zero();
        if constexpr (curved) {
            const auto c = d - S::load(step + i);
            const auto bend = pull(S{}, c, S::broadcast(curvature));
            tally.curvature += c * bend;
            along += bend;
            p -= bend;
        }
        S::store(step + i, d);
        if constexpr (seeded) {
            if (seed) S::stream(seed + i, features ? S::load(settled + i) - p : p);
            S::store(settled + i, p);
            S::store(last + i, along);
        }
    });
    const auto& [vectors, lanes] = tallies;
    FlowPair sums{static_cast<double>(lanes.gradient), static_cast<double>(lanes.curvature)};
    for (int lane = 0; lane < Simd<T>::lanes; ++lane) {
        sums.gradient += static_cast<double>(vectors.gradient[lane]);
        sums.curvature += static_cast<double>(vectors.curvature[lane]);
    }
    return sums;
}

/// What a step is made of; each of the 16 forms is a loop of its own.
struct FlowForm {
    bool absolute, features, curved, seeded; ///< l1 norm; maps are features; second differences count; seeds are wanted
};

/// All steps over the elements [begin, end) of one sample: adds what step l measures to `sums[l]`, with `weights[l]`.
template <class T>
void flow_walk(FlowForm form, const FlowMaps<T>& maps, const FlowSeeds<T>& seeds, Index begin, Index end,
               const std::vector<FlowPair>& weights, std::vector<FlowPair>& sums) {
    constexpr auto forms = []<std::size_t... I>(std::index_sequence<I...>) {
        return std::array{&flow_step<(I & 8) != 0, (I & 4) != 0, (I & 2) != 0, (I & 1) != 0, T>...};
    }
    (std::make_index_sequence<16>());
    const std::size_t steps = sums.size(), first = form.features ? 1 : 0; // map l + first is where step l ends
    FlowCarry<T> carry;
    for (Index at = begin; at < end; at += flow_chunk) {
        const Index count = std::min(flow_chunk, end - at);
        const auto map = [&](std::size_t l) { return maps[l].data() + at; };
        const Index soon = at + count < end ? at + count : at; // where the next chunk begins, if there is one
        std::fill_n(carry.pull, count, T(0));
        for (std::size_t l = 0; l < steps; ++l) {
            const bool curved = form.curved && l > 0;
            const int number = 8 * form.absolute + 4 * form.features + 2 * curved + form.seeded;
            const FlowRows<T> rows{map(l), map(l + first), l + 1 < steps ? map(l + 1 + first) : maps[0].data() + soon,
                                   form.seeded && l > 0 ? seeds[l - 1].data() + at : nullptr};
            const FlowPair part = forms[static_cast<std::size_t>(number)](rows, carry, count, weights[l]);
            sums[l].gradient += part.gradient;
            sums[l].curvature += part.curvature;
        }
        if (!form.seeded) continue;
        T *const last = seeds[steps - 1 + first].data() + at, *const other = seeds[steps - 1].data() + at;
        for_lanes<T>(count, [=, pull = &carry.pull[0], settled = &carry.settled[0]]<class S>(S, Index i) {
            const auto p = S::load(pull + i);
            if (form.features) S::stream(other + i, S::load(settled + i) - p);
            S::stream(last + i, p);
        });
    }
}

/// Sum over l of gradient * norm(d_l) + curvature * norm(c_l), over the elements [begin, end) of one sample.
///
/// l2 needs a sample's norms before its seeds, so it walks twice, the second time through the caches.
template <class T>
double flow_sample(const FlowMaps<T>& maps, const FlowSeeds<T>& seeds, Index begin, Index end, FlowNorm norm,
                   FlowDifference difference, FlowPair weight) {
    const FlowForm form{norm == FlowNorm::l1, difference == FlowDifference::features, weight.curvature != 0,
                        !seeds.empty()};
    const std::size_t steps = form.features ? maps.size() - 1 : maps.size();
    std::vector<FlowPair> sums(steps);
    double value = 0;
    if (norm == FlowNorm::l2) {
        flow_walk({form.absolute, form.features, form.curved, false}, maps, seeds, begin, end,
                  std::vector<FlowPair>(steps, {1, 1}), sums);
        const auto unit = [](double w, double length) { return length > 0 ? w / length : 0; };
        std::vector<FlowPair> weights;
        for (const FlowPair& squares : sums) {
            const double length = std::sqrt(squares.gradient), bend = std::sqrt(squares.curvature);
            value += weight.gradient * length + weight.curvature * bend;
            weights.push_back({unit(weight.gradient, length), unit(weight.curvature, bend)});
        }
        if (form.seeded) flow_walk(form, maps, seeds, begin, end, weights, sums);
        return value;
    }
    const double slope = form.absolute ? 1 : 2; // v^2 has the derivative 2 v
    flow_walk(form, maps, seeds, begin, end,
              std::vector<FlowPair>(steps, {slope * weight.gradient, slope * weight.curvature}), sums);
    for (const FlowPair& sum : sums) value += (sum.gradient + sum.curvature) / slope;
    return value;
}

/// value[n] of each sample of a stage and, where `seeds` are given, the gradient with respect to every map.
///
/// One thread takes one sample. `weight` includes the reduction. Features need two maps, branches one.
template <class T>
void feature_flow(Cpu, const FlowMaps<T>& maps, const FlowSeeds<T>& seeds, FlowNorm norm, FlowDifference difference,
                  FlowPair weight, View<double, 1> value) {
    const Index elements = maps[0].size(1);
    parallel_for(value.size(), [&](Index n) {
        value(n) = flow_sample(maps, seeds, n * elements, (n + 1) * elements, norm, difference, weight);
        end_of_streams();
    });
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::feature_flow);

} // namespace espalier::inline ESPALIER_BACKEND
