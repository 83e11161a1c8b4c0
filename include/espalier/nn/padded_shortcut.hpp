#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/ops/place.hpp>

#include <numeric>

namespace espalier::inline ESPALIER_BACKEND {

/// What a new parameter-free shortcut looks like.
struct PaddedShortcutSpec {
    Index in, out;    ///< channels; in <= out
    Index stride = 1; ///< pixels from one that is kept to the next
};

/// Shortcut from `in` to `out` channels without parameters: every `stride`-th pixel, (out - in) / 2 zero channels in
/// front and the rest behind (He et al. 2016, option A). The places are the list `kept`, which surgery renumbers.
template <class T> class PaddedShortcut : public Module<T> {
public:
    /// Its channel list starts as the middle `in` of `out` channels. @throws ShapeError unless 1 <= in <= out, stride
    /// >= 1
    explicit PaddedShortcut(const PaddedShortcutSpec& spec) : stride_(spec.stride) {
        expect(spec.in >= 1 && spec.in <= spec.out && spec.stride >= 1,
               "PaddedShortcut: expected 1 <= in <= out and a stride of at least 1, got ", spec.in, ", ", spec.out,
               " and ", spec.stride);
        state_ = this->add_join(std::make_shared<JoinState<T>>());
        state_->kept.resize(static_cast<std::size_t>(spec.in));
        std::iota(state_->kept.begin(), state_->kept.end(), (spec.out - spec.in) / 2);
    }

    /// x [N,H,W,C] -> [N,ceil(H/stride),ceil(W/stride),width]; `width` is that of the stream that it is joined with.
    Var<T> forward(const Var<T>& x, Index width) const { return place(x, state_, width, stride_); }

private:
    Index stride_;
    std::shared_ptr<JoinState<T>> state_;
};

ESPALIER_COMPILED_CLASS(PaddedShortcut);

} // namespace espalier::inline ESPALIER_BACKEND
