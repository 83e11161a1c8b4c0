#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/ops/join.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/place.cuda.cuh>
#endif

namespace espalier::inline ESPALIER_BACKEND {
namespace kernels {

// x, dx: [N,H,W,C]; y, dy: [N,P,Q,K] with P = ceil(H / stride), Q = ceil(W / stride); kept: [C].
// A thread takes ranges of image rows and writes each of their elements once.
inline constexpr Index place_grain = 16; ///< rows

/// y[n,p,q,kept[c]] = x[n,p*stride,q*stride,c], 0 in all other channels.
template <class T> void place(Cpu, View<const T, 4> x, const JoinChannels& channels, Index stride, View<T, 4> y) {
    const Index* const kept = channels.kept.data();
    const Index P = y.size(1), Q = y.size(2), K = y.size(3), C = x.size(3);
    parallel_ranges(y.size(0) * P, place_grain, [&](Index begin, Index end) {
        for (Index row = begin; row < end; ++row) {
            std::fill_n(y.at(row / P, row % P), Q * K, T(0));
            for (Index q = 0; q < Q; ++q) {
                const T* const from = x.at(row / P, row % P * stride, q * stride);
                T* const to = y.at(row / P, row % P, q);
                for (Index c = 0; c < C; ++c) to[kept[c]] = from[c];
            }
        }
    });
}

/// dx[n,p*stride,q*stride,c] = dy[n,p,q,kept[c]], 0 at pixels that the stride skips.
template <class T>
void place_gradient(Cpu, View<const T, 4> dy, const JoinChannels& channels, Index stride, View<T, 4> dx) {
    const Index* const kept = channels.kept.data();
    const Index H = dx.size(1), W = dx.size(2), C = dx.size(3);
    parallel_ranges(dx.size(0) * H, place_grain, [&](Index begin, Index end) {
        for (Index row = begin; row < end; ++row) {
            const Index n = row / H, h = row % H;
            std::fill_n(dx.at(n, h), W * C, T(0));
            if (h % stride != 0) continue;
            for (Index w = 0; w < W; w += stride) {
                const T* const from = dy.at(n, h / stride, w / stride);
                T* const to = dx.at(n, h, w);
                for (Index c = 0; c < C; ++c) to[c] = from[kept[c]];
            }
        }
    });
}

} // namespace kernels

/// Every `stride`-th pixel of x with its channels placed among zeros: the parameter-free shortcut of small ResNets.
///
/// x [N,H,W,C] -> y [N,ceil(H/stride),ceil(W/stride),width]: y[n,p,q,kept[c]] = x[n,p*stride,q*stride,c] with
/// `state->kept`, all other channels are 0. dx[n,p*stride,q*stride,c] = dy[n,p,q,kept[c]], 0 elsewhere.
/// It is an indexed join into a stream of zeros: recorded with the branch x as operand 1 and the state's empty constant
/// in the place of the stream. Channel rule: c of x is kept[c] of y; a cut of either renumbers `kept`.
/// @throws ShapeError  if x is not [N,H,W,C], stride < 1, or kept is not C ascending channels below width
/// Source: He et al. 2016, section 4.2, option A.
template <class T>
Var<T> place(const Var<T>& x, const std::shared_ptr<JoinState<T>>& state, Index width, Index stride = 1) {
    const std::vector<Index> kept = state->kept;
    expect(x.rank() == 4 && stride >= 1, "place: expected x [N,H,W,C] and a stride of at least 1, got ", x.shape(),
           " and ", stride);
    bool fits = static_cast<Index>(kept.size()) == x.size(3) && !state->indexed();
    for (std::size_t c = 0; fits && c < kept.size(); ++c)
        fits = kept[c] < width && kept[c] >= 0 && (c == 0 || kept[c - 1] < kept[c]);
    expect(fits, "place: expected ", x.size(3), " ascending channels below ", width, " for x ", x.shape(), ", got ",
           kept);

    const Shape from = x.shape();
    const JoinChannels channels = state->channels(width, x.device());
    Tensor<T> y({from[0], (from[1] + stride - 1) / stride, (from[2] + stride - 1) / stride, width}, x.device());
    dispatch(x.device(),
             [&](auto on) { kernels::place(on, view<4>(x.value()), channels, stride, mutable_view<4>(y)); });

    ChannelRule rule = ChannelRule::declared();
    for (std::size_t c = 0; c < kept.size(); ++c) rule = std::move(rule).pass(1, static_cast<Index>(c), kept[c], 1);
    Var<T> result = record<T>("place", y, {state->constant, x}, std::move(rule),
                              [from, channels, stride](const Tensor<T>& dy, const Inputs<T>& input) {
                                  if (!input[1].needs_grad()) return;
                                  Tensor<T> dx(from, dy.device());
                                  dispatch(dy.device(), [&](auto on) {
                                      kernels::place_gradient(on, view<4>(dy), channels, stride, mutable_view<4>(dx));
                                  });
                                  input[1].add_grad(std::move(dx));
                              },
                              {{"stride", stride}});
    if (result.needs_grad()) result.node()->join = state;
    return result;
}

ESPALIER_COMPILED_FUNCTION(place);

} // namespace espalier::inline ESPALIER_BACKEND
