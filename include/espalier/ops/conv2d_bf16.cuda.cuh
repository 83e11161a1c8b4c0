#pragma once

#include <espalier/cuda/bf16_product.cuh>
#include <espalier/ops/conv2d_gather.cuda.cuh>

// Convolutions of floats that are rounded to bf16: each pass copies its operands, rounded and with channels padded
// group by group, and multiplies the copies. Copying reads each operand once; the product reads each a dozen times, in
// half the bytes.

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

/// Filters turned as the data's gradient reads them, [C,R,S,K/groups]: a row for each channel, a term for each tap of a
/// phase and each filter.
struct TurnedRows {
    static constexpr bool along_terms = true; ///< as memory runs
    const BFloat16* w;                        ///< first tap of the phase
    Divider line_taps, tap_filters;           ///< taps of a line of the phase, and filters of a tap
    int channel, tap_down, tap_across;        ///< elements from channel to channel and from tap to tap
    __device__ Index row(unsigned c) const { return Index(c) * channel; }
    __device__ int term(unsigned t) const {
        const auto [place, k] = tap_filters(t);
        const auto [i, j] = line_taps(place);
        return static_cast<int>(i) * tap_down + static_cast<int>(j) * tap_across + static_cast<int>(k);
    }
    __device__ const BFloat16* at(Index row, int term) const { return w + (row + term); }
};

/// As ConvProduct, of copies.
struct Bf16ConvProduct {
    static constexpr bool a_along_terms = true, b_along_terms = true; ///< of the operands
    const BFloat16 *x, *w;
    PixelGather gather;
    unsigned rows, channels, filters, terms; ///< outputs; channels, filters and terms of a group
    View<float, 3> moments;                  ///< as in ConvProduct
    Output<float> output;

    __device__ auto part(unsigned g) const {
        return Bf16Part<PixelRows<BFloat16, Bf16Chunk::size>, StridedRows<BFloat16, true, Bf16Chunk::size>, RowOffset,
                        ColumnOffset>{{x + g * channels, gather},
                                      {w + Index(g) * filters * terms, Index(terms), 1},
                                      rows,
                                      filters,
                                      terms,
                                      {Index(g) * filters, output.pitch},
                                      {},
                                      output.bias ? output.bias + g * filters : nullptr};
    }
};

/// As ConvDataProduct, of copies, filters turned.
struct Bf16ConvDataProduct {
    static constexpr bool a_along_terms = true, b_along_terms = true; ///< of the operands
    static constexpr int most_phases = 4;                             ///< of a launch: all of stride 2
    const BFloat16 *dy, *w;
    ConvPhase phases[most_phases];
    unsigned groups, channels, filters; ///< channels and filters of a group
    int height, width, stride, channel; ///< extents of dx; elements of a channel's filters
    Output<float> output;

    __device__ auto part(unsigned index) const {
        const unsigned g = index % groups;
        const ConvPhase& phase = phases[index / groups];
        const PixelGather& gather = phase.gather;
        return Bf16Part<PixelRows<BFloat16, Bf16Chunk::size>, TurnedRows, PhaseOffset, ColumnOffset>{
            {dy + g * filters, gather},
            {w + (Index(g) * channels * channel + phase.first_tap), gather.line_taps, gather.tap_channels, channel,
             phase.filter_down, phase.filter_across},
            phase.rows,
            channels,
            phase.terms,
            {gather.image_pixels, gather.line_pixels, height, width, stride, phase.down, phase.across,
             Index(g) * channels, output.pitch},
            {},
            nullptr};
    }
};

/// As ConvWeightProduct, of copies.
struct Bf16ConvWeightProduct {
    static constexpr bool a_along_terms = false, b_along_terms = false; ///< of the operands
    const BFloat16 *x, *dy;
    PixelGather gather;
    unsigned channels, padded_filters; ///< of a group, with padding
    unsigned filters, columns, terms;  ///< of a group; columns with padding
    PaddedColumns column;              ///< where columns are in dw
    Index pitch;                       ///< channels of dy
    Output<float> output;

    __device__ auto part(unsigned g) const {
        return Bf16Part<StridedRows<BFloat16, false, Bf16Chunk::size>, TapRows<BFloat16, Bf16Chunk::size>, RowOffset,
                        PaddedColumns>{{dy + g * padded_filters, 1, pitch},
                                       {x + g * channels, gather},
                                       filters,
                                       columns,
                                       terms,
                                       {Index(g) * filters * output.pitch, output.pitch},
                                       column,
                                       nullptr};
    }
};

/// A map [N,H,W,C] or filters [K,R,S,C] as rows of `channels` that are padded: extents of the copy.
inline View<const BFloat16, 4> bf16_copy(const BFloat16* data, View<const float, 4> x, Index channels) {
    const Index groups = channels ? x.size(3) / channels : 1;
    return {data, {x.size(0), x.size(1), x.size(2), groups * in_chunks(channels)}};
}
/// Rows of `channels` numbers that a map or filters have.
template <class T> Index rows_of(View<const T, 4> x, Index channels) { return channels ? x.size() / channels : 0; }
/// Floats that a copy of such rows takes.
template <class T> Index bf16_copies(View<const T, 4> x, Index channels) {
    return rows_of(x, channels) * in_chunks(channels) / 2;
}
/// Whether a plan's product is one of copies.
template <class T> bool in_bf16(const ProductPlan& plan) {
    return std::is_same_v<T, float> && plan.precision == MatmulPrecision::bf16;
}

/// As `conv2d`, in a plan with room for the copies.
inline void conv2d_bf16(Cuda on, ProductPlan plan, View<const float, 4> x, View<const float, 4> w,
                        View<const float, 1> b, const Conv2dOptions& o, View<float, 3> moments, View<float, 1> scratch,
                        View<float, 4> y) {
    const Index channels = w.size(3), padded = in_chunks(channels), rows = rows_of(x, channels);
    BFloat16* const copies = reinterpret_cast<BFloat16*>(scratch.data());
    round_rows(on, x.data(), rows, channels, copies);
    round_rows(on, w.data(), rows_of(w, channels), channels, copies + rows * padded);
    const auto from = bf16_copy(copies, x, channels), taps = bf16_copy(copies + rows * padded, w, channels);
    const Bf16ConvProduct product{from.data(),
                                  taps.data(),
                                  detail::conv_gather(from, taps, o, y),
                                  static_cast<unsigned>(plan.rows),
                                  static_cast<unsigned>(padded),
                                  static_cast<unsigned>(plan.columns),
                                  static_cast<unsigned>(w.size(1) * w.size(2) * padded),
                                  moments,
                                  {}};
    multiply_bf16(on, plan, product, y.data(), y.size(3), y.size(3), b.size() ? b.data() : nullptr, false,
                  scratch.data() + plan.copies);
}

/// As `conv2d_data_gradient`, in a plan with room for the copies.
inline void conv2d_bf16_data_gradient(Cuda on, const ProductPlan& plan, View<const float, 4> dy, View<const float, 4> w,
                                      const Conv2dOptions& o, bool adds, View<float, 1> scratch, View<float, 4> dx) {
    const Index filters = w.size(0) / o.groups, padded = in_chunks(filters), rows = rows_of(dy, filters);
    BFloat16* const copies = reinterpret_cast<BFloat16*>(scratch.data());
    round_rows(on, dy.data(), rows, filters, copies);
    turn_filters(on, {w.data(), {o.groups, filters, w.size(1) * w.size(2), w.size(3)}}, copies + rows * padded);
    const auto from = bf16_copy(copies, dy, filters);
    const View<const BFloat16, 4> turned(copies + rows * padded, {dx.size(3), w.size(1), w.size(2), padded});
    Bf16ConvDataProduct product{from.data(),
                                turned.data(),
                                {},
                                static_cast<unsigned>(o.groups),
                                static_cast<unsigned>(w.size(3)),
                                static_cast<unsigned>(padded),
                                static_cast<int>(dx.size(1)),
                                static_cast<int>(dx.size(2)),
                                static_cast<int>(o.stride),
                                static_cast<int>(turned.stride(0)),
                                {}};
    detail::each_phases(product, from, turned, dx, o, [&](Index phases) {
        ProductPlan some = plan;
        some.parts = phases * o.groups;
        multiply_bf16(on, some, product, dx.data(), dx.size(3), dx.size(3), nullptr, adds,
                      scratch.data() + plan.copies);
    });
}

/// As `conv2d_weight_gradient`, in a plan with room for the copies.
inline void conv2d_bf16_weight_gradient(Cuda on, ProductPlan plan, View<const float, 4> x, View<const float, 4> dy,
                                        const Conv2dOptions& o, View<float, 1> scratch, View<float, 4> dw) {
    const Index channels = dw.size(3), padded = in_chunks(channels), filters = dw.size(0) / o.groups;
    const Index rows = rows_of(x, channels), taps = dw.size(1) * dw.size(2);
    BFloat16* const copies = reinterpret_cast<BFloat16*>(scratch.data());
    round_rows(on, x.data(), rows, channels, copies);
    round_rows(on, dy.data(), rows_of(dy, filters), filters, copies + rows * padded);
    const auto from = bf16_copy(copies, x, channels), to = bf16_copy(copies + rows * padded, dy, filters);
    const View<const float, 4> padded_filters(nullptr, {dw.size(0), dw.size(1), dw.size(2), padded});
    const Index pitch = plan.columns;
    plan.columns = taps * padded;
    const Bf16ConvWeightProduct product{from.data(),
                                        to.data(),
                                        detail::conv_gather(from, padded_filters, o, to),
                                        static_cast<unsigned>(padded),
                                        static_cast<unsigned>(in_chunks(filters)),
                                        static_cast<unsigned>(filters),
                                        static_cast<unsigned>(plan.columns),
                                        static_cast<unsigned>(dy.size(0) * dy.size(1) * dy.size(2)),
                                        {Divider(std::max<Index>(1, padded)), static_cast<unsigned>(channels)},
                                        to.size(3),
                                        {}};
    multiply_bf16(on, plan, product, dw.data(), pitch, pitch, nullptr, false, scratch.data() + plan.copies);
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
