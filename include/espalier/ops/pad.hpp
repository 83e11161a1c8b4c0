#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/elementwise.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// x with `before[axis]` entries of `value` in front of each axis and `after[axis]` behind it.
///
/// dx is the inner part of dy. Channel rule: channels pass, shifted; those that are added stay.
/// @throws ShapeError unless there is one count of at least 0 for each axis
template <class T>
Var<T> pad(const Var<T>& x, const std::vector<Index>& before, const std::vector<Index>& after, double value = 0) {
    const int rank = x.rank();
    const auto fits = [&](const std::vector<Index>& counts) {
        return static_cast<int>(counts.size()) == rank &&
               std::all_of(counts.begin(), counts.end(), [](Index n) { return n >= 0; });
    };
    expect(fits(before) && fits(after), "pad: expected ", rank, " counts of at least 0 before and after for ",
           x.shape(), ", got ", before, " and ", after);
    Shape shape = x.shape();
    for (int axis = 0; axis < rank; ++axis)
        shape[axis] += before[static_cast<std::size_t>(axis)] + after[static_cast<std::size_t>(axis)];

    const auto inner = [rank, before, of = x.shape()](auto view) {
        for (int axis = 0; axis < rank; ++axis)
            view = entries(view, rank, axis, before[static_cast<std::size_t>(axis)], of[axis]);
        return view;
    };
    Tensor<T> y = Tensor<T>::full(shape, static_cast<T>(value), x.device());
    dispatch(x.device(), [&](auto on) { kernels::copy(on, strided(x.value()), inner(mutable_strided(y))); });

    ChannelRule rule = ChannelRule::declared();
    if (rank > 0) {
        const Index first = before.back(), C = x.size(-1), last = after.back();
        rule = std::move(rule).pass(0, 0, first, C);
        for (const auto& [begin, count] : {std::pair<Index, Index>(0, first), std::pair<Index, Index>(first + C, last)})
            if (count > 0) rule = std::move(rule).block(ChannelRule::output, "channels that pad adds", begin, count);
    }
    const bool within = x.shape().product(0, rank - 1) != shape.product(0, rank - 1); // padding inside channels
    if (value != 0 && within) rule = std::move(rule).moves_zero();
    const auto backward = [inner, of = x.shape()](const Tensor<T>& dy, const Inputs<T>& input) {
        Tensor<T> dx(of, dy.device());
        dispatch(dy.device(), [&](auto on) { kernels::copy(on, inner(strided(dy)), mutable_strided(dx)); });
        input[0].add_grad(std::move(dx));
    };
    Attributes attributes{{"value", value}};
    for (const Index count : before) attributes.add({"before", count});
    return record<T>("pad", y, {x}, std::move(rule), backward, attributes);
}

ESPALIER_COMPILED_FUNCTION(pad);

} // namespace espalier::inline ESPALIER_BACKEND
