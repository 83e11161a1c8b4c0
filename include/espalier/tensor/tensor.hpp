#pragma once

#include <espalier/core/parallel.hpp>
#include <espalier/tensor/fill.hpp>
#include <espalier/tensor/storage.hpp>
#include <espalier/tensor/view.hpp>

#include <algorithm>
#include <cstdint>
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
        storage_ = std::make_shared<Storage<T>>(shape.size(), device);
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
    static Tensor from(const Shape& shape, const std::vector<T>& values, Device device = Device::cpu) {
        expect(static_cast<Index>(values.size()) == shape.size(), "Tensor::from: expected ", shape.size(),
               " values for shape ", shape, ", got ", values.size());
        Tensor t(shape, device);
        detail::copy_bytes(t.mutable_data(), device, values.data(), Device::cpu, t.bytes());
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

    /// The elements, row-major without gaps, in the memory of the device: a GPU's are for its kernels alone. Changing
    /// them changes every tensor that shares the memory.
    /// @{
    const T* data() const { return data_; }
    T* mutable_data() {
#if ESPALIER_CUDA
        if (device_ != Device::cpu) storage_->count_write();
#endif
        return data_;
    }
    /// @}
    /// How often the memory, under any handle, was handed out to be changed; of a GPU's, the CPU's is not watched. Who
    /// keeps what it worked out of the elements sees by that whether it still holds.
    std::uint64_t writes() const { return storage_ ? storage_->writes() : 0; }
    /// The elements in memory order, for range-based loops. @throws DeviceError on a GPU: `to` the CPU first
    /// @{
    const T* begin() const {
        expect<DeviceError>(device_ == Device::cpu, "Tensor::begin: expected a tensor on cpu, got one on ", device_);
        return data_;
    }
    const T* end() const { return data_ + size(); }
    /// @}
    /// A copy of the elements, in memory order. Waits for a GPU.
    std::vector<T> to_vector() const {
        std::vector<T> values(static_cast<std::size_t>(size()));
        detail::copy_bytes(values.data(), Device::cpu, data_, device_, bytes());
        return values;
    }

    /// The only element. Waits for a GPU. @throws ShapeError if there is not exactly one
    T item() const {
        expect(size() == 1, "Tensor::item: expected one element, got shape ", shape_);
        return element(0);
    }
    /// Element at the given indices. Waits for a GPU. @throws ShapeError if they do not fit the shape
    template <class... I> T at(I... indices) const { return element(offset(indices...)); }
    /// Changes one element. @throws ShapeError unless there is one index an axis, each within its extent
    template <class... I> void set(T value, I... indices) {
        T* const to = mutable_data() + offset(indices...);
        if (device_ == Device::cpu)
            *to = value;
        else
            detail::copy_bytes(to, device_, &value, Device::cpu, sizeof(T));
    }

    /// Makes every element `value`.
    void fill(T value) {
        dispatch(device_, [&](auto on) { kernels::fill(on, value, View<T, 1>(mutable_data(), {size()})); });
    }
    /// Makes the elements those of a tensor of the same shape, from any device. Waits for a GPU if it is another one's.
    /// @throws ShapeError for another shape
    void copy_from(const Tensor& from) {
        expect(from.shape() == shape_, "Tensor::copy_from: expected a tensor ", shape_, ", got ", from.shape());
        detail::copy_bytes(mutable_data(), device_, from.data_, from.device_, bytes());
    }
    /// The same elements in memory of their own.
    Tensor clone() const { return copy_on(device_); }

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

    /// On that device; the same handle if it is there already. Waits for a GPU if it copies to or from one.
    /// @throws DeviceError if the device is not there
    Tensor to(Device device) const { return device == device_ || !defined() ? *this : copy_on(device); }

    /// All elements converted to another scalar type.
    template <class U> Tensor<U> cast() const {
        Tensor<U> converted(shape_, device_);
        dispatch(device_, [&](auto on) {
            kernels::cast(on, View<const T, 1>(data_, {size()}), View<U, 1>(converted.mutable_data(), {size()}));
        });
        return converted;
    }

private:
    std::size_t bytes() const { return static_cast<std::size_t>(size()) * sizeof(T); }
    T element(Index i) const {
        if (device_ == Device::cpu) return data_[i];
        T value;
        detail::copy_bytes(&value, Device::cpu, data_ + i, device_, sizeof(T));
        return value;
    }
    Tensor copy_on(Device device) const {
        Tensor copy(shape_, device);
        detail::copy_bytes(copy.data_, device, data_, device_, bytes());
        return copy;
    }
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
