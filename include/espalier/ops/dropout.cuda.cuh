#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/core/random.hpp>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/view.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// One thread an element.
template <class Mask> __global__ void keep_mask_kernel(double probability, Random random, View<Mask, 1> mask) {
    if (const Index i = global_thread(); i < mask.size())
        mask(i) = random.uniform(static_cast<std::uint64_t>(i)) >= probability;
}
/// As on the CPU, with the same bits.
inline void keep_mask(Cuda on, double probability, const Random& random, View<std::uint8_t, 1> mask) {
    launch(on.stream, elements(mask.size()), keep_mask_kernel<std::uint8_t>, probability, random, mask);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
