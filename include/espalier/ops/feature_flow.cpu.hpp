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
// respect to one map; it is made where the value is, so that every map is read from memory once.

/// One number for first differences, one for second differences: weights or sums.
struct FlowPair {
    double gradient = 0, curvature = 0; ///< of the first and of the second differences
};
/// As a `FlowPair`, in vectors of S.
template <class S> struct FlowTally {
    typename S::Vector gradient{}, curvature{}; ///< sums, lane by lane
};
/// The maps of one stage, [N,E] each.
template <class T> using FlowMaps = std::vector<View<const T, 2>>;
/// The gradients of one stage's value, one a map and [N,E] each, or none.
template <class T> using FlowSeeds = std::vector<View<T, 2>>; // none, or one a map

/// Elements that a thread takes through the maps of a stage: long enough for the prefetcher (at 512 a third of the
/// speed is lost), while the six rows in use, 48 KiB of floats, stay in the L2 cache.
inline constexpr Index flow_chunk = 2048;

/// Step l, and the bend before it, over elements [begin, begin + count): returns the sums of weight * |d| and of
/// weight * |c| (with `absolute`) or of weight * d^2 and of weight * c^2, and adds weight * sign(d), or weight * d, and
/// the same of c, with the signs that d and c have in each map, to the seeds.
///
/// The seed of the last map that the step touches is new, the earlier ones hold what earlier steps left there.
template <bool absolute, bool features, bool curved, bool seeded, class T>
FlowPair flow_step(const FlowMaps<T>& maps, const FlowSeeds<T>& seeds, std::size_t l, Index begin, Index count,
                   FlowPair weight) {
    const std::size_t last = features ? l + 1 : l;
    const auto map = [&](bool there, std::size_t back) { return there ? maps[last - back].data() + begin : nullptr; };
    const auto seed = [&](bool there, std::size_t back) { return there ? seeds[last - back].data() + begin : nullptr; };
    const T *const x2 = map(true, 0), *const x1 = map(features || curved, 1), *const x0 = map(features && curved, 2);
    T *const s2 = seed(seeded, 0), *const s1 = seed(seeded && (features || curved), 1),
             *const s0 = seed(seeded && features && curved, 2);
    const T gradient = static_cast<T>(weight.gradient), curvature = static_cast<T>(weight.curvature);

    const auto pull = []<class V>(const V& v, const V& w) { // v * pull is what the norm adds up, times w
        if constexpr (absolute)
            return v > 0 ? w : (v < 0 ? -w : V{});
        else
            return v * w;
    };
    std::tuple<FlowTally<Simd<T>>, FlowTally<Lane<T>>> tallies;
    for_lanes<T>(count, [=, &tallies]<class S>(S, Index i) {
        auto& tally = std::get<FlowTally<S>>(tallies);
        const auto d = features ? S::load(x2 + i) - S::load(x1 + i) : S::load(x2 + i);
        auto along = pull(d, S::broadcast(gradient)); // toward d itself, then also through c = d - d_before
        tally.gradient += d * along;
        if constexpr (curved) {
            const auto c = d - (features ? S::load(x1 + i) - S::load(x0 + i) : S::load(x1 + i));
            const auto bend = pull(c, S::broadcast(curvature));
            tally.curvature += c * bend;
            along += bend;
            if constexpr (seeded && features) {
                S::store(s0 + i, S::load(s0 + i) + bend);
                S::store(s1 + i, S::load(s1 + i) - along - bend);
            } else if constexpr (seeded) {
                S::store(s1 + i, S::load(s1 + i) - bend);
            }
        } else if constexpr (seeded && features) {
            S::store(s1 + i, S::load(s1 + i) - along);
        }
        if constexpr (seeded) S::store(s2 + i, along);
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
/// `flow_step` for elements [begin, end), in chunks that are summed in double.
template <class T>
FlowPair flow_steps(FlowForm form, const FlowMaps<T>& maps, const FlowSeeds<T>& seeds, std::size_t l, Index begin,
                    Index end, FlowPair weight) {
    constexpr auto forms = []<std::size_t... I>(std::index_sequence<I...>) {
        return std::array{&flow_step<(I & 8) != 0, (I & 4) != 0, (I & 2) != 0, (I & 1) != 0, T>...};
    }
    (std::make_index_sequence<16>());
    const int number = 8 * form.absolute + 4 * form.features + 2 * form.curved + form.seeded;
    FlowPair sums;
    for (Index at = begin; at < end; at += flow_chunk) {
        const Index count = std::min(flow_chunk, end - at);
        const FlowPair part = forms[static_cast<std::size_t>(number)](maps, seeds, l, at, count, weight);
        sums.gradient += part.gradient;
        sums.curvature += part.curvature;
    }
    return sums;
}

/// Sum over l of gradient * norm(d_l) + curvature * norm(c_l), over the elements [begin, end) of one sample.
///
/// l1 and squared l2 take a chunk through all steps before the next chunk. l2 needs a sample's norm before its seeds,
/// so it takes the sample twice through each step, the second time from the cache.
template <class T>
double flow_sample(const FlowMaps<T>& maps, const FlowSeeds<T>& seeds, Index begin, Index end, FlowNorm norm,
                   FlowDifference difference, FlowPair weight) {
    FlowForm form{norm == FlowNorm::l1, difference == FlowDifference::features, false, !seeds.empty()};
    const std::size_t steps = form.features ? maps.size() - 1 : maps.size();
    if (form.seeded && form.features) std::fill(seeds[0].data() + begin, seeds[0].data() + end, T(0));
    double value = 0;
    if (norm == FlowNorm::l2) {
        const auto unit = [](double w, double length) { return length > 0 ? w / length : 0; };
        for (std::size_t l = 0; l < steps; ++l) {
            form.curved = l > 0 && weight.curvature != 0;
            const FlowForm measure{form.absolute, form.features, form.curved, false};
            const FlowPair squares = flow_steps(measure, maps, seeds, l, begin, end, {1, 1});
            const double length = std::sqrt(squares.gradient), bend = std::sqrt(squares.curvature);
            value += weight.gradient * length + weight.curvature * bend;
            if (form.seeded)
                flow_steps(form, maps, seeds, l, begin, end,
                           {unit(weight.gradient, length), unit(weight.curvature, bend)});
        }
        return value;
    }
    const double slope = form.absolute ? 1 : 2; // v^2 has the derivative 2 v
    for (Index at = begin; at < end; at += flow_chunk)
        for (std::size_t l = 0; l < steps; ++l) {
            form.curved = l > 0 && weight.curvature != 0;
            const FlowPair sums = flow_steps(form, maps, seeds, l, at, std::min(end, at + flow_chunk),
                                             {slope * weight.gradient, slope * weight.curvature});
            value += (sums.gradient + sums.curvature) / slope;
        }
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
    });
}

} // namespace kernels

ESPALIER_COMPILED_FUNCTION(kernels::feature_flow);

} // namespace espalier::inline ESPALIER_BACKEND
