#pragma once

#include <espalier/core/shape.hpp>

#include <cstdint>

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Division of numbers below 2^31 by one divisor, as a product and a shift: GPUs have no instruction for it.
/// Source: Granlund & Montgomery 1994, "Division by invariant integers using multiplication", figure 4.1.
class Divider {
public:
    /// By 1.
    Divider() = default;
    /// @param divisor  in [1, 2^31)
    explicit Divider(Index divisor) : divisor_(static_cast<std::uint32_t>(divisor)) {
        const auto d = static_cast<std::uint64_t>(divisor);
        while ((std::uint64_t(1) << shift_) < d) ++shift_;
        multiplier_ = static_cast<std::uint32_t>(((std::uint64_t(1) << shift_) - d) * (std::uint64_t(1) << 32) / d + 1);
    }
    /// The quotient, and what is left.
    struct Result {
        unsigned quotient, rest; ///< n / divisor, n % divisor
    };
    /// Of n < 2^31.
    ESPALIER_HD Result operator()(unsigned n) const {
        const auto high = static_cast<unsigned>(std::uint64_t(n) * multiplier_ >> 32);
        const unsigned quotient = (high + n) >> shift_;
        return {quotient, n - quotient * divisor_};
    }

private:
    std::uint32_t divisor_ = 1, multiplier_ = 1, shift_ = 0;
};

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
