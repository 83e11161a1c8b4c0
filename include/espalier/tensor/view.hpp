#pragma once

#include <espalier/core/shape.hpp>

#include <array>
#include <type_traits>

namespace espalier::inline ESPALIER_BACKEND {

/// R extents and strides over memory somebody else owns: what kernels take. Copying it copies no element.
template <class T, int R> class View {
public:
    /// Dense and row-major.
    ESPALIER_HD View(T* data, std::array<Index, R> extents) : data_(data), extents_(extents) {
        Index stride = 1;
        for (int axis = R - 1; axis >= 0; --axis) {
            strides_[static_cast<std::size_t>(axis)] = stride;
            stride *= extents_[static_cast<std::size_t>(axis)];
        }
    }
    /// With strides in elements; 0 repeats an axis.
    ESPALIER_HD View(T* data, std::array<Index, R> extents, std::array<Index, R> strides)
        : data_(data), extents_(extents), strides_(strides) {}

    /// The element at all zeros.
    ESPALIER_HD T* data() const { return data_; }
    /// Of one axis, in elements.
    /// @{
    ESPALIER_HD Index size(int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
    ESPALIER_HD Index stride(int axis) const { return strides_[static_cast<std::size_t>(axis)]; }
    /// @}
    /// Number of elements: the product of the extents.
    ESPALIER_HD Index size() const {
        Index n = 1;
        for (const Index extent : extents_) n *= extent;
        return n;
    }

    /// Element at the given indices, unchecked.
    template <class... I>
        requires(sizeof...(I) == R)
    ESPALIER_HD T& operator()(I... indices) const { return *at(indices...); }
    /// Address of the element at the given leading indices; missing ones are 0.
    template <class... I>
        requires(sizeof...(I) <= R)
    ESPALIER_HD T* at(I... indices) const {
        T* p = data_;
        std::size_t axis = 0;
        ((p += static_cast<Index>(indices) * strides_[axis++]), ...);
        return p;
    }

    /// The same elements, to read.
    template <class U>
        requires(!std::is_const_v<T> && std::is_same_v<U, const T>)
    ESPALIER_HD operator View<U, R>() const { return {data_, extents_, strides_}; }

private:
    T* data_;
    std::array<Index, R> extents_;
    std::array<Index, R> strides_{};
};

} // namespace espalier::inline ESPALIER_BACKEND
