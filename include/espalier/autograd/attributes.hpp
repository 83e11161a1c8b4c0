#pragma once

#include <espalier/core/error.hpp>

#include <array>
#include <string_view>

namespace espalier::inline ESPALIER_BACKEND {

/// The numbers an op was called with, by name: a convolution's stride, the axis of a concat.
///
/// An op states them when it records, and exporters read them; training only carries them along, so they take no memory
/// of their own. A name given several times is a list, in order.
class Attributes {
public:
    /// One number and what it is called.
    struct Entry {
        Entry() = default;
        /// Of a number or an enumerator.
        template <class N> Entry(const char* n, N v) : name(n), value(static_cast<double>(v)) {}
        const char* name = nullptr; ///< a literal: not copied
        double value = 0;           ///< enumerators as their number
    };
    /// Numbers that an op can state: one for each of six axes, and two more.
    static constexpr std::size_t capacity = 8;

    Attributes() = default;
    /// @throws std::length_error beyond the capacity
    Attributes(std::initializer_list<Entry> entries) {
        for (const Entry& entry : entries) add(entry);
    }
    /// @throws std::length_error beyond the capacity
    void add(const Entry& entry) {
        if (count_ == capacity) throw std::length_error("Attributes: expected at most 8 numbers, got 9");
        entries_[count_++] = entry;
    }

    /// The numbers, in the order in which they were stated.
    /// @{
    const Entry* begin() const { return entries_.data(); }
    const Entry* end() const { return begin() + count_; }
    /// @}

    /// The first number of that name. @throws StateError if there is none
    double number(std::string_view name) const {
        for (const Entry& entry : *this)
            if (entry.name == name) return entry.value;
        throw StateError("Attributes: expected a number named " + std::string(name) + ", got none");
    }
    /// As `number`, for counts, axes and enumerators.
    Index index(std::string_view name) const { return static_cast<Index>(number(name)); }
    /// All numbers of that name, possibly none.
    std::vector<Index> list(std::string_view name) const {
        std::vector<Index> values;
        for (const Entry& entry : *this)
            if (entry.name == name) values.push_back(static_cast<Index>(entry.value));
        return values;
    }

private:
    std::array<Entry, capacity> entries_;
    std::size_t count_ = 0;
};

} // namespace espalier::inline ESPALIER_BACKEND
