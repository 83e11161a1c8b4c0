#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/core/random.hpp>
#include <espalier/cpu/elementwise.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/dropout.cuda.cuh>
#endif

namespace espalier::inline ESPALIER_BACKEND {

namespace kernels {

/// mask[i] = whether draw i of `random`, or with a `call` [1] of its substream of that number, is at least
/// `probability`.
template <class T>
void keep_mask(Cpu, double probability, const Random& random, View<const T, 1> call, View<std::uint8_t, 1> mask) {
    const Random draws = call.size() == 0 ? random : random.substream(static_cast<std::uint64_t>(call(0)));
    parallel_ranges(mask.size(), elementwise_grain / 8, [&](Index begin, Index end) { // a draw costs many additions
        for (Index i = begin; i < end; ++i) mask(i) = draws.uniform(static_cast<std::uint64_t>(i)) >= probability;
    });
}

} // namespace kernels

namespace detail {
// As in ops/math.hpp.
template <class T> struct KeepScaled {
    T factor;
    ESPALIER_HD T operator()(T v, std::uint8_t keep) const { return keep ? v * factor : T(0); }
};
} // namespace detail

/// Inverted dropout: y[i] = 0 with the given probability, else x[i] / (1 - probability); dx the same of dy.
///
/// Element i is decided by draw i of `random`: pass another stream for each call (`random.substream(step)`). Or pass
/// the number of the substream as `call`, one element on x's device: if it is counted up there, each replay of a
/// captured step (`CapturedStep`) draws anew. Probability 0 gives x itself. Whether a network trains or is evaluated is
/// for the layer to know.
/// @throws ShapeError unless 0 <= probability < 1 and `call` has one element; DeviceError for one elsewhere
/// Source: Srivastava et al. 2014.
template <class T>
Var<T> dropout(const Var<T>& x, double probability, const Random& random, const Tensor<T>& call = {}) {
    expect(probability >= 0 && probability < 1, "dropout: expected a probability in [0, 1), got ", probability);
    if (call.defined()) {
        expect(call.size() == 1, "dropout: expected one number of a call, got ", call.shape());
        expect_same_device("dropout", x, call);
    }
    const View<const T, 1> number = call.defined() ? flat(call) : View<const T, 1>(nullptr, {0});
    if (probability == 0) return x;
    Tensor<std::uint8_t> mask(x.shape(), x.device());
    dispatch(x.device(), [&](auto on) { kernels::keep_mask(on, probability, random, number, mutable_flat(mask)); });
    const auto masked = [mask, factor = static_cast<T>(1 / (1 - probability))](const Tensor<T>& from) {
        Tensor<T> to = empty_like(from);
        dispatch(from.device(), [&](auto on) {
            kernels::elementwise(on, detail::KeepScaled<T>{factor}, mutable_strided(to), strided(from), strided(mask));
        });
        return to;
    };
    return record<T>("dropout", masked(x.value()), {x}, ChannelRule::same(),
                     [masked](const Tensor<T>& dy, const Inputs<T>& input) { input[0].add_grad(masked(dy)); });
}

ESPALIER_COMPILED_FUNCTION(dropout);

} // namespace espalier::inline ESPALIER_BACKEND
