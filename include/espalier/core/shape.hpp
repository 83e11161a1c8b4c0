#pragma once

#include <espalier/core/config.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace espalier::inline ESPALIER_BACKEND {

/// Extents, offsets and counts: signed 64 bits everywhere.
using Index = std::int64_t;

/// Extents of a tensor, outermost first; up to six axes, stored in place. A scalar has rank 0 and one element.
class Shape {
public:
    static constexpr int max_rank = 6; ///< more axes than any op of a convolutional network needs

    /// A scalar: no axes, one element.
    Shape() = default;
    /// Extents, outermost first. @throws std::length_error beyond six axes
    Shape(std::initializer_list<Index> extents) : rank_(static_cast<int>(extents.size())) {
        if (rank_ > max_rank) throw std::length_error("Shape: expected at most 6 axes, got " + std::to_string(rank_));
        std::copy(extents.begin(), extents.end(), extents_.begin());
    }

    /// Adds an axis after the last one. @throws std::length_error beyond six axes
    void append(Index extent) {
        if (rank_ == max_rank) throw std::length_error("Shape: expected at most 6 axes, got 7");
        extents_[static_cast<std::size_t>(rank_++)] = extent;
    }

    /// Number of axes.
    int rank() const { return rank_; }
    /// Extent of one axis; a negative axis counts from the last. The axis must exist.
    Index operator[](int axis) const { return extents_[static_cast<std::size_t>(axis < 0 ? axis + rank_ : axis)]; }
    /// The same, to be changed.
    Index& operator[](int axis) { return extents_[static_cast<std::size_t>(axis < 0 ? axis + rank_ : axis)]; }
    /// Extent of the last axis: the channels.
    Index back() const { return (*this)[-1]; }

    /// Number of elements: the product of the extents, 1 for a scalar.
    Index size() const { return product(0, rank_); }
    /// Product of the extents of axes [first, last), counted from the first axis.
    Index product(int first, int last) const {
        Index n = 1;
        for (int axis = first; axis < last; ++axis) n *= extents_[static_cast<std::size_t>(axis)];
        return n;
    }

    /// Extents in order, for range-based loops.
    /// @{
    const Index* begin() const { return extents_.data(); }
    const Index* end() const { return extents_.data() + rank_; }
    /// @}

    friend bool operator==(const Shape& a, const Shape& b) {
        if (a.rank_ != b.rank_) return false;
        for (int axis = 0; axis < a.rank_; ++axis)
            if (a[axis] != b[axis]) return false;
        return true;
    }

private:
    std::array<Index, max_rank> extents_{};
    int rank_ = 0;
};

/// `[2,3,4]`
inline std::string to_text(const Shape& shape) {
    std::string text = "[";
    for (int axis = 0; axis < shape.rank(); ++axis) {
        if (axis > 0) text += ',';
        text += std::to_string(shape[axis]);
    }
    text += ']';
    return text;
}

} // namespace espalier::inline ESPALIER_BACKEND
