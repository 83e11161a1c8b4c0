#pragma once

#include <espalier/tensor/tensor.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Which of `width` channels a branch's J channels are, where kernels can read it.
struct JoinChannels {
    Tensor<Index> kept;  ///< [J]: of each channel of the branch
    Tensor<Index> slots; ///< [width]: the other way round, -1 for channels that are none of the branch's
};

} // namespace espalier::inline ESPALIER_BACKEND
