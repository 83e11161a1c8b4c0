#pragma once

#include <espalier/core/launch.cuh>
#include <espalier/tensor/device.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// One thread a number.
template <class F> __global__ void for_each_kernel(Index count, F f) {
    if (const Index i = global_thread(); i < count) f(i);
}
/// f(i) for i in [0, count), each by a thread of its own; f can be called by the GPU.
template <class F> void for_each(Cuda on, Index count, F f) {
    launch(on.stream, elements(count), for_each_kernel<F>, count, f);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
