#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/elementwise.hpp>
#include <espalier/ops/join.hpp>

#include <memory>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// `slice`, of a non-negative axis, by numbers that were checked. With a state the channels are its `kept`.
template <class T>
Var<T> slice(const Var<T>& x, int axis, Index begin, Index count, Index step,
             const std::shared_ptr<JoinState<T>>& state) {
    const int rank = x.rank();
    Shape shape = x.shape();
    shape[axis] = count;
    Tensor<T> y(shape, x.device());
    dispatch(x.device(), [&](auto on) {
        kernels::copy(on, entries(strided(x.value()), rank, axis, begin, count, step), mutable_strided(y));
    });
    ChannelRule rule = ChannelRule::same();
    if (axis == rank - 1) {
        rule = ChannelRule::declared();
        if (step == 1) rule = std::move(rule).pass(0, begin, 0, count);
        if (!state)
            rule = std::move(rule).block(0, "slice of channels by fixed numbers (es::ChannelSplit follows a cut)");
    }
    const auto backward = [=, whole = x.shape()](const Tensor<T>& dy, const Inputs<T>& input) {
        Tensor<T> dx = Tensor<T>::zeros(whole, dy.device());
        dispatch(dy.device(), [&](auto on) {
            kernels::copy(on, strided(dy), entries(mutable_strided(dx), rank, axis, begin, count, step));
        });
        input[0].add_grad(std::move(dx));
    };
    Var<T> result =
        record<T>("slice", y, {x}, std::move(rule), backward, {{"axis", axis}, {"begin", begin}, {"step", step}});
    if (result.needs_grad()) result.node()->join = state;
    return result;
}

} // namespace detail

/// Entries begin, begin + step, ... before `end` of one axis (negative: from the last); numpy's x[..., begin:end:step].
///
/// dx is dy at these entries and 0 elsewhere. Channel rule: channels that are sliced by numbers can't be cut, since the
/// numbers could not follow.
/// @throws ShapeError unless 0 <= begin <= end <= extent and step >= 1
template <class T> Var<T> slice(const Var<T>& x, int axis, Index begin, Index end, Index step = 1) {
    const int rank = x.rank();
    expect(axis >= -rank && axis < rank, "slice: expected an axis of ", x.shape(), ", got ", axis);
    if (axis < 0) axis += rank;
    expect(0 <= begin && begin <= end && end <= x.size(axis) && step >= 1,
           "slice: expected 0 <= begin <= end <= ", x.size(axis), " and a step of at least 1 along axis ", axis, " of ",
           x.shape(), ", got begin ", begin, ", end ", end, " and step ", step);
    return detail::slice<T>(x, axis, begin, (end - begin + step - 1) / step, step, nullptr);
}

/// A range of channels that surgery follows: x [..,C] -> y [..,J] with y[..,j] = x[..,kept[j]], `state->kept` being J
/// numbers one after the other. dx is dy there and 0 elsewhere. Channel rule: channels pass, shifted.
/// @throws ShapeError unless the numbers are consecutive and below C
template <class T> Var<T> slice(const Var<T>& x, const std::shared_ptr<JoinState<T>>& state) {
    const std::vector<Index>& kept = state->kept;
    const Index count = static_cast<Index>(kept.size()), begin = count > 0 ? kept.front() : 0;
    bool fits = x.rank() >= 1 && begin >= 0 && begin + count <= x.size(-1);
    for (Index j = 0; fits && j < count; ++j) fits = kept[static_cast<std::size_t>(j)] == begin + j;
    expect(fits, "slice: expected consecutive channels of ", x.shape(), ", got ", kept);
    return detail::slice<T>(x, x.rank() - 1, begin, count, 1, state);
}

ESPALIER_COMPILED_FUNCTION(detail::slice);

} // namespace espalier::inline ESPALIER_BACKEND
