#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/view.hpp>
#if ESPALIER_CUDA
#include <espalier/tensor/fill.cuda.cuh>
#endif

#include <cstring>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// y[i] = value
template <class T> void fill(Cpu, T value, View<T, 1> y) { std::fill_n(y.data(), y.size(), value); }

/// y[i] += by
template <class T> void increase(Cpu, T by, View<T, 1> y) {
    for (Index i = 0; i < y.size(); ++i) y(i) += by;
}

/// y[i] = x[i], converted.
template <class T, class U> void cast(Cpu, View<const T, 1> x, View<U, 1> y) {
    std::transform(x.data(), x.data() + x.size(), y.data(), [](T v) { return static_cast<U>(v); });
}

} // namespace kernels

namespace detail {

/// Copies memory of one device to another or the same. A copy to or from a GPU is queued in this thread's stream; where
/// the CPU has a part, it waits for its end.
inline void copy_bytes(void* to, [[maybe_unused]] Device to_device, const void* from,
                       [[maybe_unused]] Device from_device, std::size_t bytes) {
    if (bytes == 0) return;
#if ESPALIER_CUDA
    if (to_device != Device::cpu || from_device != Device::cpu) {
        // A replay would copy from memory of the CPU that is long gone.
        if (to_device != from_device) expect_not_recording("Tensor: copy between devices");
        check_cuda("Tensor: copy", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, current_stream()));
        if (to_device != from_device) synchronise();
        return;
    }
#endif
    parallel_ranges(static_cast<Index>(bytes), 65536, [&](Index begin, Index end) {
        std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin,
                    static_cast<std::size_t>(end - begin));
    });
}

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
