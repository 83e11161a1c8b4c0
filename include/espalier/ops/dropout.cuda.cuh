#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/core/random.hpp>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/view.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// One thread an element; each finds the substream for itself.
template <class T>
__global__ void keep_mask_kernel(double probability, Random random, View<const T, 1> call, View<std::uint8_t, 1> mask) {
    if (const Index i = global_thread(); i < mask.size()) {
        if (call.size() > 0) random = random.substream(static_cast<std::uint64_t>(call(0)));
        mask(i) = random.uniform(static_cast<std::uint64_t>(i)) >= probability;
    }
}
/// As on the CPU, with the same bits.
template <class T>
void keep_mask(Cuda on, double probability, const Random& random, View<const T, 1> call, View<std::uint8_t, 1> mask) {
    launch(on.stream, elements(mask.size()), keep_mask_kernel<T>, probability, random, call, mask);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
