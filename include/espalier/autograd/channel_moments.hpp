#pragma once

#include <espalier/tensor/tensor.hpp>

#include <cstdint>
#include <utility>

namespace espalier::inline ESPALIER_BACKEND {

/// What the kernel that made a value on a GPU has added up of it, for who normalises it: see cuda/moments.cuh.
template <class T> struct ChannelMoments {
    Tensor<T> tiles;          ///< [2,tiles,C]; undefined: none
    std::uint64_t writes = 0; ///< `Tensor::writes` of the value then

    /// Gives `tiles` away, which frees their memory before the backward pass; undefined if there are none, or if the
    /// value may have been changed since.
    Tensor<T> take(const Tensor<T>& value) {
        Tensor<T> taken = std::exchange(tiles, {});
        return taken.defined() && value.writes() == writes ? taken : Tensor<T>();
    }
};

} // namespace espalier::inline ESPALIER_BACKEND
