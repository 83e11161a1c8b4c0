#pragma once

#include <espalier/nn/module.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// The end of a residual block: adds a branch into the stream; surgery may turn it into an indexed join.
template <class T> class Join : public Module<T> {
public:
    Join() : state_(this->add_join(std::make_shared<JoinState<T>>())) {}

    /// stream [..,C] and branch [..,C], or [..,J] once indexed -> activation(stream + branch) [..,C]
    Var<T> forward(const Var<T>& stream, const Var<T>& branch, Activation activation = Activation::none) const {
        return join(stream, branch, state_, activation);
    }
    /// Channels of the stream that this branch is added into.
    Index width(const Var<T>& branch) const { return state_->indexed() ? state_->constant.size() : branch.size(-1); }

    /// The channel list and the constant, which surgery changes.
    const std::shared_ptr<JoinState<T>>& state() const { return state_; }

private:
    std::shared_ptr<JoinState<T>> state_;
};

} // namespace espalier::inline ESPALIER_BACKEND
