#pragma once

#include <espalier/nn/conv2d.hpp>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// A `size` x `size` convolution without bias that keeps height and width, or divides them by its stride, rounded up;
/// for odd sizes. Its weight [out,size,size,in/groups] is zero until its model draws it by `initialize`.
template <class T> Conv2d<T> convolution(Index in, Index out, Index size, Index stride = 1, Index groups = 1) {
    return Conv2d<T>({.in = in,
                      .out = out,
                      .size = size,
                      .stride = stride,
                      .padding = size / 2,
                      .groups = groups,
                      .bias = Bias::none,
                      .init = Init::zeros()});
}

} // namespace models
} // namespace espalier::inline ESPALIER_BACKEND
