#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/elementwise.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Entries begin, begin + step, ... before `end` of one axis (negative: from the last); numpy's x[..., begin:end:step].
///
/// dx is dy at these entries and 0 elsewhere.
/// @throws ShapeError unless 0 <= begin <= end <= extent and step >= 1
template <class T> Var<T> slice(const Var<T>& x, int axis, Index begin, Index end, Index step = 1) {
    const int rank = x.rank();
    expect(axis >= -rank && axis < rank, "slice: expected an axis of ", x.shape(), ", got ", axis);
    if (axis < 0) axis += rank;
    expect(0 <= begin && begin <= end && end <= x.size(axis) && step >= 1,
           "slice: expected 0 <= begin <= end <= ", x.size(axis), " and a step of at least 1 along axis ", axis, " of ",
           x.shape(), ", got begin ", begin, ", end ", end, " and step ", step);
    const Index count = (end - begin + step - 1) / step;
    Shape shape = x.shape();
    shape[axis] = count;
    Tensor<T> y(shape, x.device());
    dispatch(x.device(), [&](auto on) {
        kernels::copy(on, entries(strided(x.value()), rank, axis, begin, count, step), mutable_strided(y));
    });
    ChannelRule rule = ChannelRule::same();
    if (axis == rank - 1)
        rule = step == 1 ? ChannelRule::declared().pass(0, begin, 0, count)
                         : ChannelRule::declared().block(0, "slice with a step over channels");
    const auto backward = [=, whole = x.shape()](const Tensor<T>& dy, const Inputs<T>& input) {
        Tensor<T> dx = Tensor<T>::zeros(whole, dy.device());
        dispatch(dy.device(), [&](auto on) {
            kernels::copy(on, strided(dy), entries(mutable_strided(dx), rank, axis, begin, count, step));
        });
        input[0].add_grad(std::move(dx));
    };
    return record<T>("slice", y, {x}, std::move(rule), backward, {{"axis", axis}, {"begin", begin}, {"step", step}});
}

ESPALIER_COMPILED_FUNCTION(slice);

} // namespace espalier::inline ESPALIER_BACKEND
