#pragma once

#include <espalier/core/shape.hpp>

// Philox is integer arithmetic; Random123 would bring every intrinsic of the compiler with it, a second an object.
#ifndef R123_USE_SSE
#define R123_USE_SSE 0
#endif
#ifndef R123_USE_X86INTRIN_H
#define R123_USE_X86INTRIN_H 0
#endif
#include <Random123/philox.h>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Counter-based random numbers (Philox4x32-10; Salmon et al., SC 2011).
///
/// A draw depends on (seed, stream, index) alone: the same on every device, for every thread count, after every resume.
/// Draws of two streams are independent; `Random(seed, "dropout")` names a stream by text. Kernels may draw, too: bits
/// and uniform numbers are the same to the last bit, normal ones up to the device's logarithm and cosine.
class Random {
public:
    /// A stream of draws: by number, or by a name such as "dropout".
    /// @{
    ESPALIER_HD Random(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}
    Random(std::uint64_t seed, std::string_view stream) : Random(seed, hash(stream)) {}
    /// @}

    /// 64 random bits number `index` of this stream.
    ESPALIER_HD std::uint64_t bits(std::uint64_t index) const { return both(index).first; }
    /// Uniform in [0, 1), 53 bits.
    ESPALIER_HD double uniform(std::uint64_t index) const { return unit(bits(index)); }
    /// Uniform integer in [0, n), n >= 1. The bias is below n / 2^64.
    ESPALIER_HD Index below(Index n, std::uint64_t index) const {
        __extension__ using Wide = unsigned __int128;
        return static_cast<Index>((Wide(bits(index)) * static_cast<std::uint64_t>(n)) >> 64);
    }
    /// Standard normal, by Box and Muller.
    ESPALIER_HD double normal(std::uint64_t index) const {
        const auto [a, b] = both(index);
        const double radius = std::sqrt(-2 * std::log(1 - unit(a))); // 1 - u is in (0, 1]
        return radius * std::cos(2 * std::numbers::pi * unit(b));
    }
    /// A random order of 0 .. n-1 (Fisher and Yates).
    std::vector<Index> permutation(Index n) const {
        std::vector<Index> order(static_cast<std::size_t>(n));
        for (Index i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
        for (Index i = n - 1; i > 0; --i)
            std::swap(order[static_cast<std::size_t>(i)],
                      order[static_cast<std::size_t>(below(i + 1, static_cast<std::uint64_t>(i)))]);
        return order;
    }
    /// A stream derived from this one, for instance one an epoch or one a sample.
    ESPALIER_HD Random substream(std::uint64_t number) const {
        return {seed_, both(number).second ^ (stream_ * 0x9E3779B97F4A7C15u)};
    }

    /// FNV-1a of a text, used to name streams.
    static constexpr std::uint64_t hash(std::string_view text) {
        std::uint64_t h = 0xcbf29ce484222325u;
        for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
        return h;
    }

private:
    ESPALIER_HD static double unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }
    ESPALIER_HD std::pair<std::uint64_t, std::uint64_t> both(std::uint64_t index) const {
        const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
        const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
        const r123::Philox4x32::ctr_type counter{{low(index), high(index), low(stream_), high(stream_)}};
        const r123::Philox4x32::key_type key{{low(seed_), high(seed_)}};
        const auto r = r123::Philox4x32()(counter, key);
        return {std::uint64_t(r[0]) << 32 | r[1], std::uint64_t(r[2]) << 32 | r[3]};
    }

    std::uint64_t seed_, stream_;
};

} // namespace espalier::inline ESPALIER_BACKEND
