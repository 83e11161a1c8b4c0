#pragma once

#include <espalier/autograd/var.hpp>
#include <espalier/core/compiled.hpp>
#include <espalier/cpu/lanes.hpp>
#include <espalier/cpu/map_rows.hpp>
#include <espalier/ops/fused_activation.hpp>
#include <espalier/ops/join_channels.hpp>
#if ESPALIER_CUDA
#include <espalier/ops/join.cuda.cuh>
#endif

#include <memory>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// What a residual join remembers: which channels of the stream its branch is added into.
///
/// Dense (`constant` is empty): branch and stream have the same C channels. Indexed, after surgery removed filters from
/// the branch's end: branch channel j is added into stream channel `kept[j]`, and every other stream channel c gets
/// `constant[c]`, the value that the removed filter's batch-norm shift had added at every pixel. Shortcuts that place
/// channels among zeros and splits have a list, too, and no constant.
template <class T> struct JoinState {
    std::vector<Index> kept; ///< [J] channels of the stream, ascending
    Var<T> constant =
        parameter(Tensor<T>::zeros({0})); ///< [0], or [C] when indexed; entries of kept channels are unused

    /// Whether surgery has made it an indexed join.
    bool indexed() const { return constant.size() > 0; }
    /// `kept` for kernels of a device; its numbers are below `width`. Waits for a GPU, once for each list.
    JoinChannels channels(Index width, Device device) const;

private:
    struct Copy { // on a GPU
        std::vector<Index> kept;
        JoinChannels channels;
    };
    mutable Copy copy_;
};

template <class T> JoinChannels JoinState<T>::channels(Index width, Device device) const {
    const bool copies = device != Device::cpu;
    if (copies && copy_.channels.kept.defined() && copy_.kept == kept && copy_.channels.slots.size() == width)
        return copy_.channels;
    std::vector<Index> slots(static_cast<std::size_t>(width), -1);
    for (std::size_t j = 0; j < kept.size(); ++j) slots[static_cast<std::size_t>(kept[j])] = static_cast<Index>(j);
    JoinChannels made{Tensor<Index>::from({static_cast<Index>(kept.size())}, kept, device),
                      Tensor<Index>::from({width}, slots, device)};
    if (copies) copy_ = {kept, made};
    return made;
}

namespace kernels {

// stream, y, dy: [M,C] with M pixels; branch: [M,J]; kept: [J]; slots, constant: [C].  One range of pixels a thread.
inline constexpr Index join_grain = 512; ///< pixels

/// y = activation(a + b), `count` elements; NaN stays NaN.
template <class T> void join_row(Index count, const T* a, const T* b, Activation activation, T* y) {
    const auto add = [=](const auto& activate) {
        for_lanes<T>(count,
                     [=]<class S>(S, Index i) { S::store(y + i, activate(S{}, S::load(a + i) + S::load(b + i))); });
    };
    if (activation == Activation::relu)
        add([]<class S>(S, const auto& sum) { return sum < 0 ? S::zero() : sum; });
    else
        add([](auto, const auto& sum) { return sum; });
}

/// y = activation(stream + branch), with branch [M,C]
template <class T>
void join(Cpu, View<const T, 2> stream, View<const T, 2> branch, Activation activation, View<T, 2> y) {
    parallel_ranges(y.size(), elementwise_grain, [&](Index begin, Index end) {
        join_row(end - begin, stream.data() + begin, branch.data() + begin, activation, y.data() + begin);
    });
}

/// y = activation(stream + branch) for maps, where the branch's rows may be made while they are read; all dense.
template <class T>
void join_rows(Cpu, View<const T, 4> stream, const MapRows<T>& branch, Activation activation, View<T, 4> y) {
    parallel_for(branch.batch * branch.height, [&](Index line) {
        const Index n = line / branch.height, h = line % branch.height;
        T* const to = y.at(n, h);
        branch.read(n, h, to, branch.channels);
        join_row(branch.width * branch.channels, stream.at(n, h), to, activation, to);
    });
}

/// y = activation(stream + branch at kept, constant elsewhere)
template <class T>
void join_indexed(Cpu, View<const T, 2> stream, View<const T, 2> branch, const JoinChannels& channels,
                  View<const T, 1> constant, Activation activation, View<T, 2> y) {
    const Index* const kept = channels.kept.data();
    const Index J = channels.kept.size();
    parallel_ranges(stream.size(0), join_grain, [&](Index begin, Index end) {
        std::vector<T> added(constant.data(), constant.data() + constant.size()); // what a pixel gets, all C channels
        for (Index m = begin; m < end; ++m) {
            for (Index j = 0; j < J; ++j) added[static_cast<std::size_t>(kept[j])] = branch.at(m)[j];
            join_row(stream.size(1), stream.at(m), added.data(), activation, y.at(m));
        }
    });
}

/// ds = dy where y > 0, else 0: the gradient behind a fused relu. ds may be dy.
template <class T> void relu_gradient(Cpu, View<const T, 1> dy, View<const T, 1> y, View<T, 1> ds) {
    parallel_ranges(dy.size(), elementwise_grain, [&](Index begin, Index end) {
        const T *const from = dy.data() + begin, *const out = y.data() + begin;
        T* const to = ds.data() + begin;
        for_lanes<T>(end - begin, [=]<class S>(S, Index i) {
            S::store(to + i, S::load(out + i) > 0 ? S::load(from + i) : S::zero());
        });
    });
}

/// db[m,j] = ds[m,kept[j]]
template <class T> void join_gather(Cpu, View<const T, 2> ds, const JoinChannels& channels, View<T, 2> db) {
    const Index* const kept = channels.kept.data();
    parallel_ranges(ds.size(0), join_grain, [&](Index begin, Index end) {
        for (Index m = begin; m < end; ++m)
            for (Index j = 0; j < db.size(1); ++j) db(m, j) = ds(m, kept[j]);
    });
}

/// dk[c] = sum over m of ds[m,c] where slots[c] < 0, else 0; in double, pixel after pixel.
template <class T> void join_constant_gradient(Cpu, View<const T, 2> ds, const JoinChannels& channels, View<T, 1> dk) {
    const Index* const slots = channels.slots.data();
    parallel_for(ds.size(1), [&](Index c) {
        double sum = 0;
        if (slots[c] < 0)
            for (Index m = 0; m < ds.size(0); ++m) sum += static_cast<double>(ds(m, c));
        dk(c) = static_cast<T>(sum);
    });
}

} // namespace kernels

namespace detail {
template <class T>
void dense_join(Cpu on, const Tensor<T>& stream, const Deferred<T>& branch, Activation activation, Tensor<T>& y) {
    if (branch.pending())
        kernels::join_rows(on, view<4>(stream), branch.rows(), activation, mutable_view<4>(y));
    else
        kernels::join(on, pixels(stream), pixels(branch.value()), activation, mutable_pixels(y));
}
#if ESPALIER_CUDA
template <class T>
void dense_join(Cuda on, const Tensor<T>& stream, const Deferred<T>& branch, Activation activation, Tensor<T>& y) {
    kernels::join(on, flat(stream), flat(branch.value()), activation, mutable_flat(y));
}
#endif
} // namespace detail

/// The end of a residual block: y = activation(stream + branch), where an indexed branch may have fewer channels.
///
/// stream, y [..,C]; branch [..,C], or [..,J] added into channels `state->kept` of an indexed join, whose other
/// channels get `state->constant`. ds = dy * (y > 0) with relu, else dy; dbranch[..,j] = ds[..,kept[j]]; dconstant[c] =
/// sum of ds over pixels for absent channels. Channel rule: a joined link, which surgery may break (docs/surgery.md).
/// @throws ShapeError  if the shapes do not fit each other or the state
template <class T>
Var<T> join(const Var<T>& stream, const Var<T>& branch, const std::shared_ptr<JoinState<T>>& state,
            Activation activation = Activation::none) {
    const Index C = stream.size(-1), J = branch.size(-1);
    const bool indexed = state->indexed();
    const std::vector<Index> kept = indexed ? state->kept : std::vector<Index>{};
    Shape leading = branch.shape();
    leading[-1] = C;
    expect(leading == stream.shape(), "join: expected a branch ", stream.shape(), " in all axes but the last, got ",
           branch.shape());
    expect(indexed ? static_cast<Index>(kept.size()) == J && state->constant.size() == C : J == C,
           "join: expected a branch of ", indexed ? static_cast<Index>(kept.size()) : C, " channels and a stream of ",
           indexed ? state->constant.size() : C, ", got ", J, " and ", C);
    for (const Index c : kept) expect(0 <= c && c < C, "join: expected kept channels below ", C, ", got ", c);
    expect_same_device("join", stream, branch);
    if (indexed) expect_same_device("join", stream, state->constant);
    const JoinChannels channels = indexed ? state->channels(C, stream.device()) : JoinChannels();

    Tensor<T> y = empty_like(stream.value());
    dispatch(stream.device(), [&](auto on) {
        if (indexed)
            kernels::join_indexed(on, pixels(stream.value()), pixels(branch.value()), channels,
                                  flat(state->constant.value()), activation, mutable_pixels(y));
        else
            detail::dense_join(on, stream.value(), branch.deferred(), activation, y);
    });

    ChannelRule rule = ChannelRule::declared().pass(0).ride(2, 0, ChannelRole::shifts);
    if (!indexed) rule = std::move(rule).join(1);
    for (Index j = 0; j < static_cast<Index>(kept.size()); ++j)
        rule = std::move(rule).link({.operand = 1,
                                     .axis = -1,
                                     .other = ChannelRule::output,
                                     .other_axis = -1,
                                     .begin = j,
                                     .other_begin = kept[static_cast<std::size_t>(j)],
                                     .count = 1,
                                     .joined = true});
    const Tensor<T> output = activation == Activation::relu ? y : Tensor<T>();
    Var<T> result = record<T>(
        "join", y, {stream, branch, state->constant}, std::move(rule),
        [output, channels, indexed, J](Tensor<T> dy, const Inputs<T>& input) {
            Tensor<T> ds = output.defined() && dy.is_shared() ? empty_like(dy) : dy;
            if (output.defined())
                dispatch(dy.device(),
                         [&](auto on) { kernels::relu_gradient(on, flat(dy), flat(output), mutable_flat(ds)); });
            dy = {}; // so that an input may take ds over
            input[0].add_grad(ds);
            if (!indexed) return input[1].add_grad(std::move(ds));
            if (input[1].needs_grad()) {
                Shape shape = ds.shape();
                shape[-1] = J;
                Tensor<T> db(shape, ds.device());
                dispatch(ds.device(),
                         [&](auto on) { kernels::join_gather(on, pixels(ds), channels, mutable_pixels(db)); });
                input[1].add_grad(std::move(db));
            }
            if (input[2].needs_grad()) {
                Tensor<T> dk({ds.size(-1)}, ds.device());
                dispatch(ds.device(), [&](auto on) {
                    kernels::join_constant_gradient(on, pixels(ds), channels, mutable_view<1>(dk));
                });
                input[2].add_grad(std::move(dk));
            }
        },
        {{"activation", activation}});
    if (result.needs_grad()) result.node()->join = state;
    return result;
}

ESPALIER_COMPILED_FUNCTION(join);

} // namespace espalier::inline ESPALIER_BACKEND
