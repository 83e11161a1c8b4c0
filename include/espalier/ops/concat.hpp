#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/cpu/elementwise.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// The operands one after the other along an axis (negative: from the last); other extents must agree.
///
/// Each operand's gradient is its part of dy; an operand that appears twice gets the sum of both.
/// @throws ShapeError without operands, for an axis that is not there, and for shapes that do not agree
template <class T> Var<T> concat(const std::vector<Var<T>>& operands, int axis) {
    expect(!operands.empty(), "concat: expected at least one operand, got none");
    Shape shape = operands[0].shape();
    const int rank = shape.rank();
    expect(axis >= -rank && axis < rank, "concat: expected an axis of ", shape, ", got ", axis);
    if (axis < 0) axis += rank;
    std::vector<Index> begins, extents;
    shape[axis] = 0;
    for (const Var<T>& operand : operands) {
        Shape other = operand.shape();
        if (other.rank() == rank) other[axis] = shape[axis];
        expect(other == shape, "concat: expected shapes that differ along axis ", axis, " only, got ",
               operands[0].shape(), " and ", operand.shape());
        expect_same_device("concat", operands[0], operand);
        begins.push_back(shape[axis]);
        extents.push_back(operand.size(axis));
        shape[axis] += operand.size(axis);
    }
    Tensor<T> y(shape, operands[0].device());
    ChannelRule rule = ChannelRule::declared();
    for (std::size_t i = 0; i < operands.size(); ++i) {
        dispatch(y.device(), [&](auto on) {
            kernels::copy(on, strided(operands[i].value()),
                          entries(mutable_strided(y), rank, axis, begins[i], extents[i]));
        });
        rule = axis == rank - 1 ? std::move(rule).pass(static_cast<int>(i), 0, begins[i], extents[i])
                                : std::move(rule).pass(static_cast<int>(i));
    }
    const auto backward = [=](const Tensor<T>& dy, const Inputs<T>& input) {
        for (std::size_t i = 0; i < begins.size(); ++i) {
            if (!input[i].needs_grad()) continue;
            Tensor<T> dx(input[i].shape, dy.device());
            dispatch(dy.device(), [&](auto on) {
                kernels::copy(on, entries(strided(dy), rank, axis, begins[i], extents[i]), mutable_strided(dx));
            });
            input[i].add_grad(std::move(dx));
        }
    };
    return record<T>("concat", y, operands, std::move(rule), backward, {{"axis", axis}});
}
/// `concat({a, b}, -1)`
template <class T> Var<T> concat(std::initializer_list<Var<T>> operands, int axis) {
    return concat(std::vector<Var<T>>(operands), axis);
}

} // namespace espalier::inline ESPALIER_BACKEND
