#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/cpu/map_rows.hpp>
#include <espalier/tensor/tensor.hpp>

#include <memory>
#include <utility>

namespace espalier::inline ESPALIER_BACKEND {

/// A tensor that lies in memory, or a map [N,H,W,C] that is made only when it is read.
///
/// What an elementwise op makes of a large map is often read once, by an op that takes it row by row: then the map is
/// never written. Who needs all of it calls `value()`, which makes it once, under every copy of the handle. Either way
/// each element has the same bits.
template <class T> class Deferred {
public:
    /// Undefined.
    Deferred() = default;
    /// A tensor in memory.
    Deferred(Tensor<T> value) : value_(std::move(value)) {}
    /// A map that `rows` makes, with what it reads; may be called from several threads at once. A map of the CPU: on a
    /// GPU, kernels fuse otherwise.
    Deferred(kernels::MapRows<T> rows) : source_(std::make_shared<Source>(Source{std::move(rows), {}})) {}

    /// Whether it is a tensor or a map at all.
    bool defined() const { return source_ || value_.defined(); }
    /// The elements; of an undefined one the undefined tensor.
    const Tensor<T>& value() const {
        if (source_) {
            if (!source_->made.defined()) make(*source_);
            value_ = source_->made;
            source_ = nullptr;
        }
        return value_;
    }
    /// As `value()`, to be changed or replaced; copies made before keep what they have.
    Tensor<T>& mutable_value() {
        value();
        return value_;
    }
    /// Gives `value()` away: whoever takes a tensor may be given an rvalue of this.
    operator Tensor<T>() && {
        value();
        return std::exchange(value_, {});
    }
    /// Whether nobody has asked for all of it yet.
    bool pending() const { return source_ && !source_->made.defined(); }
    /// Its rows, made while they are read or out of memory, which the handle keeps. A defined map only.
    kernels::MapRows<T> rows() const { return pending() ? source_->rows : kernels::map_rows(view<4>(value())); }

    /// As of the value.
    /// @{
    Shape shape() const {
        if (!pending()) return value().shape();
        const auto& rows = source_->rows;
        return {rows.batch, rows.height, rows.width, rows.channels};
    }
    Device device() const { return pending() ? Device::cpu : value().device(); }
    /// @}

private:
    struct Source {
        kernels::MapRows<T> rows;
        Tensor<T> made;
    };

    static void make(Source& source) {
        const auto& rows = source.rows;
        Tensor<T> made({rows.batch, rows.height, rows.width, rows.channels});
        kernels::write_map(Cpu(), rows, mutable_view<4>(made));
        source = {{}, std::move(made)}; // what the rows were made of may go
    }

    mutable Tensor<T> value_;
    mutable std::shared_ptr<Source> source_;
};

} // namespace espalier::inline ESPALIER_BACKEND
