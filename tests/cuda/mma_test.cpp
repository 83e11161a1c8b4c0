#include <espalier/cuda/mma.cuh>

#include "support/check.hpp"

#include <bit>

using namespace espalier;
using namespace espalier::test;

namespace {

/// Rounds to `bits` bits of mantissa, to nearest; ties away from zero, or to even.
double rounded(float x, int bits, bool ties_to_even) {
    int exponent = 0;
    const double m = std::ldexp(std::frexp(static_cast<double>(x), &exponent), bits + 1); // |m| in [2^bits, 2^(bits+1))
    return std::ldexp(ties_to_even ? std::nearbyint(m) : std::round(m), exponent - bits - 1);
}

// One warp: y [16,8] = c + a [16,n] b [8,n] transposed, n the terms of one instruction.
template <class Format> __global__ void mma_kernel(const float* a, const float* b, const float* c, float* y) {
    constexpr unsigned n = 8 * Format::per_word;
    const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
    std::uint32_t u[4], v[2];
    for (unsigned i = 0; i < 4; ++i) u[i] = Format::pack(a + (g + i % 2 * 8) * n + (t + i / 2 * 4) * Format::per_word);
    for (unsigned i = 0; i < 2; ++i) v[i] = Format::pack(b + g * n + (t + i * 4) * Format::per_word);
    float sums[4];
    for (unsigned i = 0; i < 4; ++i) sums[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
    kernels::mma(Format(), sums, u, v);
    for (unsigned i = 0; i < 4; ++i) y[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

template <class Format> __global__ void pack_kernel(const float* x, std::uint32_t* words, Index count) {
    if (const Index i = kernels::global_thread(); i < count) words[i] = Format::pack(x + i * Format::per_word);
}

} // namespace

TEST_CASE_TEMPLATE("mma: a product of rounded operands", Format, kernels::Tf32Words, kernels::Bf16Words) {
    if (device_under_test() == Device::cpu) return;
    constexpr Index n = 8 * Format::per_word;
    const bool bf16 = Format::per_word == 2;
    const auto a = random_tensor<float>({16, n}, "a"), b = random_tensor<float>({8, n}, "b");
    const auto c = random_tensor<float>({16, 8}, "c");
    Tensor<double> expected({16, 8}), scale({16, 8});
    for (Index i = 0; i < 16; ++i)
        for (Index j = 0; j < 8; ++j) {
            double sum = static_cast<double>(c.at(i, j)), size = std::abs(sum);
            for (Index t = 0; t < n; ++t) {
                const double term = rounded(a.at(i, t), bf16 ? 7 : 10, bf16) * rounded(b.at(j, t), bf16 ? 7 : 10, bf16);
                sum += term;
                size += std::abs(term);
            }
            expected.set(sum, i, j);
            scale.set(size, i, j);
        }
    const auto ad = to_device(a), bd = to_device(b), cd = to_device(c);
    Tensor<float> y({16, 8}, Device::cuda);
    kernels::launch(current_stream(), {1, 32}, mma_kernel<Format>, ad.data(), bd.data(), cd.data(), y.mutable_data());
    check_close(y, expected, 4, scale); // products are exact; tensor cores cut their sums' last bits off
}

TEST_CASE_TEMPLATE("mma: numbers are rounded as they should be", Format, kernels::Tf32Words, kernels::Bf16Words) {
    if (device_under_test() == Device::cpu) return;
    const bool bf16 = Format::per_word == 2;
    const float most = std::numeric_limits<float>::max(), infinity = std::numeric_limits<float>::infinity();
    // Halfway to the next number of each format, from even and odd ones, and just beside.
    std::vector<float> values{0, -0.0f, 1, -1, 1.5f, most, -most, infinity, -infinity, 0x1p-126f, 0x1p-133f};
    for (const float half : {0x1p-11f, 0x1p-8f})
        for (const float times : {1.0f, 3.0f, 5.0f, -7.0f})
            for (const float beside : {-0x1p-22f, 0.0f, 0x1p-22f}) values.push_back(1 + half * times + beside);
    if (values.size() % 2) values.push_back(3);
    const auto count = static_cast<Index>(values.size()) / Format::per_word;
    const auto x = to_device(Tensor<float>::from({static_cast<Index>(values.size())}, values));
    Tensor<std::uint32_t> words({count}, Device::cuda);
    kernels::launch(current_stream(), kernels::elements(count), pack_kernel<Format>, x.data(), words.mutable_data(),
                    count);
    const auto packed = words.to_vector();
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint32_t word = packed[i / Format::per_word];
        const float got =
            std::bit_cast<float>(bf16 ? (i % 2 ? word & 0xFFFF0000 : word << 16) : word & ~std::uint32_t(0x1FFF));
        CAPTURE(values[i]);
        if (std::isinf(values[i]) || std::abs(values[i]) == most)
            CHECK(got == std::copysign(infinity, values[i]));
        else if (std::abs(values[i]) >= 0x1p-126f || values[i] == 0)
            CHECK(static_cast<double>(got) == (values[i] == 0 ? 0 : rounded(values[i], bf16 ? 7 : 10, bf16)));
        CHECK(std::signbit(got) == std::signbit(values[i]));
    }
}
