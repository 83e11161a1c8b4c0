#pragma once

#include <espalier/cuda/block.cuh>
#include <espalier/ops/feature_flow.cpu.hpp>
#include <espalier/tensor/device.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// As on the CPU, a walk along all maps at a few positions at a time reads every map once. A value needs no seeds: the
// walk is taken twice, for the value, and for the seeds when their factor dy is there.

/// The maps of a stage that a kernel can be handed.
inline constexpr std::size_t flow_most_maps = 240;
/// Addresses of one stage's maps [N,E], and of the gradients that are wanted, null for others.
template <class T> struct FlowPointers {
    const T* maps[flow_most_maps];
    T* seeds[flow_most_maps];
};
/// A stage as kernels see it.
struct FlowStageShape {
    Index samples, elements;
    int steps;
    bool absolute, features, curved, lengths; ///< as in `FlowForm`; whether each step's sums count by themselves (l2)
};
/// Threads of a block, and positions that one of them walks along.
/// @{
inline constexpr int flow_positions = 4;
inline unsigned flow_threads(Index elements) {
    return static_cast<unsigned>(std::clamp<Index>((elements / flow_positions + 31) / 32 * 32, 32, 256));
}
/// @}
/// Blocks that share a sample.
inline Index flow_blocks(Index elements) {
    const Index chunk = flow_positions * static_cast<Index>(flow_threads(elements));
    return (elements + chunk - 1) / chunk;
}
/// Double numbers that a block writes: one sum, or two a step.
inline Index flow_sums(const FlowStageShape& stage) { return stage.lengths ? 2 * stage.steps : 1; }

// A block takes 4 * blockDim.x elements of one sample, a thread four of them, blockDim.x apart, through all maps.
// Writes its weighted sum; for l2 two sums a step, unweighted, which go through dynamic shared memory: 2 doubles a step
// and warp.
template <class T>
__global__ void flow_value_kernel(FlowPointers<T> at, FlowStageShape stage, Index blocks, FlowPair weight,
                                  double* partial) {
    double* const sums = dynamic_shared<double>();
    const Index n = blockIdx.x / blocks, first = (blockIdx.x - n * blocks) * flow_positions * blockDim.x + threadIdx.x;
    const T* const origin = at.maps[0];
    const unsigned warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    T before[flow_positions], step[flow_positions];
    for (int i = 0; i < flow_positions; ++i) {
        const Index e = first + Index(i) * blockDim.x;
        before[i] = stage.features && e < stage.elements ? origin[n * stage.elements + e] : T(0);
        step[i] = 0;
    }
    double total = 0;
    for (int l = 0; l < stage.steps; ++l) {
        const T* const map = at.maps[stage.features ? l + 1 : l];
        const bool curved = stage.curved && l > 0;
        T gradient = 0, curvature = 0;
        for (int i = 0; i < flow_positions; ++i) {
            const Index e = first + Index(i) * blockDim.x;
            const T after = e < stage.elements ? map[n * stage.elements + e] : T(0);
            const T d = stage.features ? after - before[i] : after, c = curved ? d - step[i] : T(0);
            gradient += stage.absolute ? std::abs(d) : d * d;
            curvature += stage.absolute ? std::abs(c) : c * c;
            before[i] = after;
            step[i] = d;
        }
        const auto g = static_cast<double>(gradient), k = static_cast<double>(curvature);
        if (stage.lengths) {
            const double squares = warp_sum(g), bends = warp_sum(k);
            if (lane == 0) sums[2 * (l * warps + warp)] = squares, sums[2 * (l * warps + warp) + 1] = bends;
        } else {
            total += weight.gradient * g;
            if (curved) total += weight.curvature * k;
        }
    }
    if (!stage.lengths) {
        total = block_sum(total);
        if (threadIdx.x == 0) partial[blockIdx.x] = total;
        return;
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < 2 * stage.steps; i += static_cast<int>(blockDim.x)) {
        double sum = 0;
        for (unsigned w = 0; w < warps; ++w) sum += sums[2 * (i / 2 * warps + w) + i % 2];
        partial[Index(blockIdx.x) * 2 * stage.steps + i] = sum;
    }
}

// One warp a sample: adds what its blocks wrote, in order. For l2 lane l takes every 32nd step from l on, and writes
// what the step's seeds are multiplied with: weights [N,steps,2].
template <class T>
__global__ void flow_finish_kernel(FlowStageShape stage, Index blocks, FlowPair weight, const double* partial,
                                   double* weights, double* value) {
    const Index n = global_thread() / 32;
    if (n >= stage.samples) return; // the whole warp
    const int lane = static_cast<int>(threadIdx.x % 32);
    double total = 0;
    if (!stage.lengths) {
        for (Index b = lane; b < blocks; b += 32) total += partial[n * blocks + b];
    } else {
        for (int l = lane; l < stage.steps; l += 32) {
            double squares = 0, bends = 0;
            for (Index b = 0; b < blocks; ++b) {
                squares += partial[((n * blocks + b) * stage.steps + l) * 2];
                bends += partial[((n * blocks + b) * stage.steps + l) * 2 + 1];
            }
            const double length = std::sqrt(squares), bend = std::sqrt(bends);
            total += weight.gradient * length + weight.curvature * bend;
            weights[(n * stage.steps + l) * 2] = length > 0 ? weight.gradient / length : 0;
            weights[(n * stage.steps + l) * 2 + 1] = bend > 0 ? weight.curvature / bend : 0;
        }
    }
    total = warp_sum(total);
    if (lane == 0) value[n] = total;
}

// v * flow_pull is what the norm adds up, times w.
template <class T> __device__ T flow_pull(bool absolute, T v, T w) {
    return absolute ? (v > 0 ? w : v < 0 ? -w : T(0)) : v * w;
}

// As flow_value_kernel, writing seeds times dy [1]. Weights [N,steps,2] are for l2; else `weight` is for all.
template <class T>
__global__ void flow_seed_kernel(FlowPointers<T> at, FlowStageShape stage, Index blocks, FlowPair weight,
                                 const double* weights, const T* dy) {
    const Index n = blockIdx.x / blocks, first = (blockIdx.x - n * blocks) * flow_positions * blockDim.x + threadIdx.x;
    const T scale = *dy;
    const T* const origin = at.maps[0];
    // d_{l-1}, p_{l-1} without the bend that is still to come, and p_{l-2}
    T before[flow_positions], step[flow_positions], pull[flow_positions], settled[flow_positions];
    for (int i = 0; i < flow_positions; ++i) {
        const Index e = first + Index(i) * blockDim.x;
        before[i] = stage.features && e < stage.elements ? origin[n * stage.elements + e] : T(0);
        step[i] = pull[i] = settled[i] = 0;
    }
    for (int l = 0; l < stage.steps; ++l) {
        const T* const map = at.maps[stage.features ? l + 1 : l];
        T* const seed = l > 0 ? at.seeds[l - 1] : nullptr;
        const bool curved = stage.curved && l > 0;
        const double* const own = weights + (n * stage.steps + l) * 2;
        const T g = static_cast<T>(stage.lengths ? own[0] : weight.gradient);
        const T k = static_cast<T>(stage.lengths ? own[1] : weight.curvature);
        for (int i = 0; i < flow_positions; ++i) {
            const Index e = first + Index(i) * blockDim.x;
            if (e >= stage.elements) continue;
            const T after = map[n * stage.elements + e], d = stage.features ? after - before[i] : after;
            T along = flow_pull(stage.absolute, d, g), p = pull[i];
            if (curved) {
                const T bend = flow_pull(stage.absolute, d - step[i], k);
                along += bend;
                p -= bend;
            }
            if (seed) seed[n * stage.elements + e] = scale * (stage.features ? settled[i] - p : p);
            before[i] = after;
            step[i] = d;
            settled[i] = p;
            pull[i] = along;
        }
    }
    T* const last = at.seeds[stage.features ? stage.steps : stage.steps - 1];
    T* const other = stage.features ? at.seeds[stage.steps - 1] : nullptr;
    for (int i = 0; i < flow_positions; ++i) {
        const Index e = first + Index(i) * blockDim.x;
        if (e >= stage.elements) continue;
        if (other) other[n * stage.elements + e] = scale * (settled[i] - pull[i]);
        if (last) last[n * stage.elements + e] = scale * pull[i];
    }
}

// One block: thread i adds every 256th value from i on, then block_sum.
template <class T> __global__ void flow_total_kernel(View<const double, 1> values, T* y) {
    double sum = 0;
    for (Index i = threadIdx.x; i < values.size(); i += blockDim.x) sum += values(i);
    sum = block_sum(sum);
    if (threadIdx.x == 0) *y = static_cast<T>(sum);
}

/// value[n] of each sample, and for l2 the weights [N,steps,2] of its seeds. `weight` includes the reduction.
template <class T>
void flow_value(Cuda on, const FlowPointers<T>& at, const FlowStageShape& stage, FlowPair weight, double* weights,
                double* value) {
    const Index blocks = flow_blocks(stage.elements);
    const unsigned threads = flow_threads(stage.elements);
    Tensor<double> partial({stage.samples * blocks * flow_sums(stage)}, Device::cuda);
    const std::size_t shared =
        stage.lengths ? static_cast<std::size_t>(stage.steps) * (threads / 32) * 2 * sizeof(double) : 0;
    launch(on.stream, {static_cast<unsigned>(stage.samples * blocks), threads, shared}, flow_value_kernel<T>, at, stage,
           blocks, weight, partial.mutable_data());
    launch(on.stream, elements(32 * stage.samples), flow_finish_kernel<T>, stage, blocks, weight, partial.data(),
           weights, value);
}
/// The seeds of a stage times dy [1], with the weights of `flow_value`.
template <class T>
void flow_seeds(Cuda on, const FlowPointers<T>& at, const FlowStageShape& stage, FlowPair weight, const double* weights,
                const T* dy) {
    const Index blocks = flow_blocks(stage.elements);
    const double slope = stage.absolute ? 1 : 2; // v^2 has the derivative 2 v; those of l2 are in the weights
    launch(on.stream, {static_cast<unsigned>(stage.samples * blocks), flow_threads(stage.elements)},
           flow_seed_kernel<T>, at, stage, blocks, FlowPair{slope * weight.gradient, slope * weight.curvature}, weights,
           dy);
}
/// y = sum of the values
template <class T> void flow_total(Cuda on, View<const double, 1> values, T* y) {
    launch(on.stream, {1, 256}, flow_total_kernel<T>, values, y);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
