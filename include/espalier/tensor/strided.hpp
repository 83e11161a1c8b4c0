#pragma once

#include <espalier/tensor/tensor.hpp>

#include <array>

namespace espalier::inline ESPALIER_BACKEND {

/// A view of any tensor: missing axes are in front and have extent 1, broadcast axes have stride 0.
template <class T> using Strided = View<T, Shape::max_rank>;

namespace detail {
inline std::array<Index, Shape::max_rank> trailing_extents(const Shape& shape) {
    std::array<Index, Shape::max_rank> extents;
    extents.fill(1);
    std::copy(shape.begin(), shape.end(), extents.end() - shape.rank());
    return extents;
}
template <class T> std::array<Index, Shape::max_rank> strides_of(const Strided<T>& x) {
    std::array<Index, Shape::max_rank> strides{};
    for (int axis = 0; axis < Shape::max_rank; ++axis) strides[static_cast<std::size_t>(axis)] = x.stride(axis);
    return strides;
}
} // namespace detail

/// x as a view of six axes, missing ones in front with extent 1.
/// @{
template <class T> Strided<const T> strided(const Tensor<T>& x) {
    return {x.data(), detail::trailing_extents(x.shape())};
}
template <class T> Strided<T> mutable_strided(Tensor<T>& x) {
    return {x.mutable_data(), detail::trailing_extents(x.shape())};
}
/// @}
/// `x` repeated along its axes of extent 1 (and missing axes) up to `shape`, which it must fit.
template <class T> Strided<const T> broadcast_to(const Tensor<T>& x, const Shape& shape) {
    const auto extents = detail::trailing_extents(shape), own = detail::trailing_extents(x.shape());
    auto strides = detail::strides_of(strided(x));
    for (std::size_t axis = 0; axis < extents.size(); ++axis)
        if (own[axis] == 1) strides[axis] = 0;
    return {x.data(), extents, strides};
}
/// Entries begin, begin + step, ... (`count` of them) of one axis of a tensor of rank `rank`.
template <class T> Strided<T> entries(Strided<T> x, int rank, int axis, Index begin, Index count, Index step = 1) {
    const auto along = static_cast<std::size_t>(axis + Shape::max_rank - rank);
    auto strides = detail::strides_of(x);
    std::array<Index, Shape::max_rank> extents{};
    for (int i = 0; i < Shape::max_rank; ++i) extents[static_cast<std::size_t>(i)] = x.size(i);
    T* const first = x.data() + (count > 0 ? begin * strides[along] : 0);
    extents[along] = count;
    strides[along] *= step;
    return {first, extents, strides};
}

namespace detail {

/// Nested loops over views of the same extents, with axes merged wherever all views run on without a gap.
template <std::size_t Views> struct Loops {
    std::size_t rank = 0;
    std::array<Index, Shape::max_rank> extents{};
    std::array<std::array<Index, Shape::max_rank>, Views> strides{};

    template <class V, class... More> explicit Loops(const V& first, const More&... more) {
        for (int axis = 0; axis < Shape::max_rank; ++axis) {
            const Index extent = first.size(axis);
            if (extent == 1) continue;
            const std::array<Index, Views> step{first.stride(axis), more.stride(axis)...};
            bool runs_on = rank > 0;
            for (std::size_t v = 0; v < Views && runs_on; ++v) runs_on = strides[v][rank - 1] == step[v] * extent;
            if (!runs_on) extents[rank++] = 1;
            extents[rank - 1] *= extent;
            for (std::size_t v = 0; v < Views; ++v) strides[v][rank - 1] = step[v];
        }
        if (rank == 0) extents[rank++] = 1;
    }
    ESPALIER_HD Index size() const {
        Index n = 1;
        for (std::size_t axis = 0; axis < rank; ++axis) n *= extents[axis];
        return n;
    }
    /// Where element `i` of each view is.
    ESPALIER_HD std::array<Index, Views> offsets(Index i) const {
        std::array<Index, Views> offsets{};
        for (std::size_t axis = rank - 1; axis > 0; i /= extents[axis--])
            for (std::size_t v = 0; v < Views; ++v) offsets[v] += i % extents[axis] * strides[v][axis];
        for (std::size_t v = 0; v < Views; ++v) offsets[v] += i * strides[v][0]; // most views have this axis alone
        return offsets;
    }

    /// Calls `row(offsets, count)` for consecutive innermost runs of elements [begin, end).
    template <class Row> void rows(Index begin, Index end, const Row& row) const {
        std::array<Index, Shape::max_rank> at{};
        std::array<Index, Views> offsets{};
        Index rest = begin;
        for (std::size_t axis = rank; axis-- > 0; rest /= extents[axis]) {
            at[axis] = rest % extents[axis];
            for (std::size_t v = 0; v < Views; ++v) offsets[v] += at[axis] * strides[v][axis];
        }
        while (begin < end) {
            const Index count = std::min(end - begin, extents[rank - 1] - at[rank - 1]);
            row(offsets, count);
            begin += count;
            advance(at, offsets, rank - 1, count);
            for (std::size_t axis = rank - 1; axis > 0 && at[axis] == extents[axis]; --axis) {
                advance(at, offsets, axis, -extents[axis]);
                advance(at, offsets, axis - 1, 1);
            }
        }
    }

private:
    void advance(std::array<Index, Shape::max_rank>& at, std::array<Index, Views>& offsets, std::size_t axis,
                 Index by) const {
        at[axis] += by;
        for (std::size_t v = 0; v < Views; ++v) offsets[v] += by * strides[v][axis];
    }
};

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
