#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// In row-major order, element e has channel e modulo the last extent: that is kept when the last extents divide each
/// other.
inline ChannelRule reshape_rule(const Shape& x, const Shape& y) {
    if (x.rank() == 0 || y.rank() == 0) return ChannelRule::declared();
    const Index from = x.back(), to = y.back();
    if (from == to) return ChannelRule::same();
    if (from > 0 && to % from == 0) return ChannelRule::declared().spread(0, from);
    if (to > 0 && from % to == 0) return ChannelRule::declared().gather(0, to);
    return ChannelRule::declared().block(0, "reshape across channels");
}

} // namespace detail

/// The same elements under another shape; one extent may be -1 and is worked out. Copies nothing.
///
/// Channels follow when the last extents are equal or multiples of each other.
/// @throws ShapeError if the shape has another number of elements
template <class T> Var<T> reshape(const Var<T>& x, const Shape& shape) {
    const Tensor<T> y = x.value().reshape(shape);
    return record<T>("reshape", y, {x}, detail::reshape_rule(x.shape(), y.shape()),
                     [of = x.shape()](const Tensor<T>& dy, const Inputs<T>& input) {
                         const Tensor<T> dx = dy.reshape(of); // shares dy's memory: not ours to give away
                         input[0].add_grad(dx);
                     });
}

/// [N,H,W,C] as [N, H*W*C]: all axes but the first become one. Channel c becomes entries c, C + c, 2C + c, ...
/// @throws ShapeError for fewer than two axes
template <class T> Var<T> flatten(const Var<T>& x) {
    expect(x.rank() >= 2, "flatten: expected x [N,...,C], got ", x.shape());
    return reshape(x, {x.size(0), x.shape().product(1, x.rank())});
}

ESPALIER_COMPILED_FUNCTION(reshape);

} // namespace espalier::inline ESPALIER_BACKEND
