#pragma once

#include <espalier/autograd/var.hpp>

#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// One slice that surgery took out of one parameter or buffer: only `kept` entries of `axis` remain, in that order.
///
/// Followers, as optimizers are, apply it to what they keep for the variable, so the next step is that of a network
/// that had been small all along. `axis` -1 marks a parameter that surgery made anew (the constant of an indexed join):
/// what is kept for it starts again, in the parameter's new shape.
template <class T> struct Cut {
    std::string name;        ///< path of the parameter from the model
    Var<T> parameter;        ///< already cut
    int axis = 0;            ///< counted from the first; -1: made anew
    Index extent = 0;        ///< before the cut
    std::vector<Index> kept; ///< entries that stay, ascending
};

namespace kernels {

/// y = x restricted to entries `kept` of one axis; x: [outer, extent, inner], y: [outer, kept, inner].
template <class T> void take(Cpu, View<const T, 3> x, const std::vector<Index>& kept, View<T, 3> y) {
    for (Index o = 0; o < y.size(0); ++o)
        for (Index k = 0; k < y.size(1); ++k)
            std::copy_n(x.at(o, kept[static_cast<std::size_t>(k)]), y.size(2), y.at(o, k));
}

} // namespace kernels

/// Entries `kept` of one axis of x, in that order, as a new tensor.
/// @throws ShapeError if there is no such axis or an entry is outside it
template <class T> Tensor<T> take(const Tensor<T>& x, int axis, const std::vector<Index>& kept) {
    expect(axis >= 0 && axis < x.rank(), "take: expected an axis below ", x.rank(), ", got ", axis);
    for (const Index k : kept)
        expect(0 <= k && k < x.size(axis), "take: expected entries below ", x.size(axis), ", got ", k);
    Shape shape = x.shape();
    shape[axis] = static_cast<Index>(kept.size());
    const Tensor<T> whole = x.to(Device::cpu); // surgery is the CPU's, once in a network's life
    Tensor<T> y(shape);
    const Index outer = shape.product(0, axis), inner = shape.product(axis + 1, shape.rank());
    kernels::take(Cpu(), View<const T, 3>(whole.data(), {outer, whole.size(axis), inner}), kept,
                  View<T, 3>(y.mutable_data(), {outer, shape[axis], inner}));
    return y.to(x.device());
}

} // namespace espalier::inline ESPALIER_BACKEND
