#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/tensor/storage.hpp>
#include <espalier/tensor/view.hpp>

#include <algorithm>
#include <memory>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// A dense row-major array of T with shared memory.
///
/// Copying a tensor copies the handle; `clone()` copies the elements. `reshape` and `rows` are views of the same
/// memory. A default-constructed tensor is undefined: it has no memory, and `defined()` is false.
template <class T> class Tensor {
public:
    /// An undefined tensor: no memory, no shape.
    Tensor() = default;
    /// Elements are not initialised.
    explicit Tensor(const Shape& shape, Device device = Device::cpu) : shape_(shape), device_(device) {
        for (const Index extent : shape) expect(extent >= 0, "Tensor: expected extents of at least 0, got ", shape);
        storage_ = std::make_shared<Storage<T>>(shape.size());
        data_ = storage_->data();
    }

    /// Every element `value`.
    static Tensor full(const Shape& shape, T value, Device device = Device::cpu) {
        Tensor t(shape, device);
        t.fill(value);
        return t;
    }
    /// As `full`.
    /// @{
    static Tensor zeros(const Shape& shape, Device device = Device::cpu) { return full(shape, T(0), device); }
    static Tensor ones(const Shape& shape, Device device = Device::cpu) { return full(shape, T(1), device); }
    /// @}
    /// Rank 0, one element.
    static Tensor scalar(T value, Device device = Device::cpu) { return full({}, value, device); }
    /// Copies `values`, row-major. @throws ShapeError if their number is not the shape's size
    static Tensor from(const Shape& shape, const std::vector<T>& values) {
        expect(static_cast<Index>(values.size()) == shape.size(), "Tensor::from: expected ", shape.size(),
               " values for shape ", shape, ", got ", values.size());
        Tensor t(shape);
        std::copy(values.begin(), values.end(), t.mutable_data());
        return t;
    }

    /// Whether it has memory, be it for no element.
    bool defined() const { return storage_ != nullptr; }
    /// Extents, and how many there are.
    /// @{
    const Shape& shape() const { return shape_; }
    int rank() const { return shape_.rank(); }
    /// @}
    /// Number of elements.
    Index size() const { return shape_.size(); }
    /// Extent of one axis; a negative one counts from the last. @throws ShapeError if there is no such axis
    Index size(int axis) const {
        expect(axis >= -rank() && axis < rank(), "Tensor::size: expected an axis below ", rank(), ", got ", axis);
        return shape_[axis];
    }
    /// Where its memory is.
    Device device() const { return device_; }

    /// The elements, row-major without gaps. Changing them changes every tensor that shares the memory.
    /// @{
    const T* data() const { return data_; }
    T* mutable_data() { return data_; }
    /// @}
    /// The elements in memory order, for range-based loops.
    /// @{
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size(); }
    /// @}
    /// A copy of the elements, in memory order.
    std::vector<T> to_vector() const { return {begin(), end()}; }

    /// The only element. @throws ShapeError if there is not exactly one
    T item() const {
        expect(size() == 1, "Tensor::item: expected one element, got shape ", shape_);
        return *data_;
    }
    /// Element at the given indices. @throws ShapeError if they do not fit the shape
    template <class... I> T at(I... indices) const { return data_[offset(indices...)]; }
    /// Changes one element. @throws ShapeError unless there is one index an axis, each within its extent
    template <class... I> void set(T value, I... indices) { data_[offset(indices...)] = value; }

    /// Makes every element `value`.
    void fill(T value) { std::fill_n(data_, size(), value); }
    /// The same elements in memory of their own.
    Tensor clone() const {
        Tensor copy(shape_, device_);
        parallel_ranges(size(), 16384, [&](Index begin, Index end) { // 64 KiB of floats
            std::copy(data_ + begin, data_ + end, copy.data_ + begin);
        });
        return copy;
    }

    /// The same elements under another shape; one extent may be -1 and is worked out. Shares memory.
    Tensor reshape(Shape shape) const {
        int open = -1;
        Index known = 1;
        for (int axis = 0; axis < shape.rank(); ++axis) {
            if (shape[axis] == -1 && open < 0)
                open = axis;
            else
                known *= shape[axis];
        }
        const Shape asked = shape;
        if (open >= 0 && known > 0) shape[open] = size() / known;
        expect(shape.size() == size() && (open < 0 || known > 0), "Tensor::reshape: expected a shape of ", size(),
               " elements for ", shape_, ", got ", asked);
        Tensor view = *this;
        view.shape_ = shape;
        return view;
    }
    /// Entries [begin, end) of the first axis. Shares memory.
    Tensor rows(Index begin, Index end) const {
        expect(rank() > 0 && 0 <= begin && begin <= end && end <= shape_[0],
               "Tensor::rows: expected 0 <= begin <= end <= ", rank() > 0 ? shape_[0] : 0, " for ", shape_, ", got ",
               begin, " and ", end);
        Tensor view = *this;
        view.shape_[0] = end - begin;
        view.data_ += begin * shape_.product(1, rank());
        return view;
    }
    /// Whether both tensors see the same memory.
    bool shares_memory(const Tensor& other) const { return storage_ == other.storage_; }
    /// Whether any other tensor sees this memory: if none does, its last user may write over it.
    bool is_shared() const { return storage_.use_count() > 1; }

    /// On that device; the same handle if it is there already.
    Tensor to(Device) const { return *this; } // the CPU is the only device of this build

    /// All elements converted to another scalar type.
    template <class U> Tensor<U> cast() const {
        Tensor<U> converted(shape_, device_);
        std::transform(begin(), end(), converted.mutable_data(), [](T v) { return static_cast<U>(v); });
        return converted;
    }

private:
    template <class... I> Index offset(I... indices) const {
        const Shape at{static_cast<Index>(indices)...};
        bool fits = at.rank() == rank();
        Index o = 0;
        for (int axis = 0; fits && axis < rank(); ++axis) {
            fits = at[axis] >= 0 && at[axis] < shape_[axis];
            o = o * shape_[axis] + at[axis];
        }
        expect(fits, "Tensor::at: expected indices within ", shape_, ", got ", at);
        return o;
    }

    std::shared_ptr<Storage<T>> storage_;
    T* data_ = nullptr;
    Shape shape_;
    Device device_ = Device::cpu;
};

/// Uninitialised, with the shape and device of `x`.
template <class T> Tensor<T> empty_like(const Tensor<T>& x) { return Tensor<T>(x.shape(), x.device()); }
/// x's shape and device, all elements zero.
template <class T> Tensor<T> zeros_like(const Tensor<T>& x) { return Tensor<T>::zeros(x.shape(), x.device()); }

namespace detail {
template <int R> std::array<Index, R> extents(const Shape& shape) {
    expect(shape.rank() == R, "view: expected ", R, " axes, got ", shape);
    std::array<Index, R> e{};
    std::copy(shape.begin(), shape.end(), e.begin());
    return e;
}
} // namespace detail

/// A kernel's view of a tensor of rank R. @throws ShapeError for another rank
template <int R, class T> View<const T, R> view(const Tensor<T>& x) {
    return {x.data(), detail::extents<R>(x.shape())};
}
/// As `view`, to be written.
template <int R, class T> View<T, R> mutable_view(Tensor<T>& x) {
    return {x.mutable_data(), detail::extents<R>(x.shape())};
}

/// All elements as one row of x.size().
template <class T> View<const T, 1> flat(const Tensor<T>& x) { return {x.data(), {x.size()}}; }
/// As `flat`, to be written.
template <class T> View<T, 1> mutable_flat(Tensor<T>& x) { return {x.mutable_data(), {x.size()}}; }

/// [..., C] as [M, C]: a feature map as a matrix of pixels by channels.
template <class T> View<const T, 2> pixels(const Tensor<T>& x) {
    return {x.data(), {x.shape().product(0, x.rank() - 1), x.size(-1)}};
}
/// As `pixels`, to be written.
template <class T> View<T, 2> mutable_pixels(Tensor<T>& x) {
    return {x.mutable_data(), {x.shape().product(0, x.rank() - 1), x.size(-1)}};
}

} // namespace espalier::inline ESPALIER_BACKEND
