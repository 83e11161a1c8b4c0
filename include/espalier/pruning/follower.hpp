#pragma once

#include <espalier/pruning/cut.hpp>

#include <concepts>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// The second half of following surgery: puts in place what `prepare` made ready. Called once, or dropped: then nothing
/// changes. It can't fail, so it is made from a function that is `noexcept`, or it does not compile.
class [[nodiscard]] Commit {
public:
    /// From what is to be done, such as a lambda that moves its captures.
    template <class F>
        requires std::is_nothrow_invocable_v<F&> Commit(F put) : put_(std::move(put)) {}
        /// Does it.
        void operator()() noexcept { put_(); }

    private:
        std::function<void()> put_;
};

/// What surgery takes along: optimizers, averages, and anything of yours that keeps something for a variable.
///
/// `prepare(cuts)` does all that can fail, allocation included, and changes nothing; the variables are already cut
/// then. Only when every follower is ready does surgery call the commits, which can't fail:
///
///     struct Importance { // a number for each entry of a variable
///         es::Var<float> of;
///         es::Tensor<float> scores;
///         es::Commit prepare(const std::vector<es::Cut<float>>& cuts) {
///             return [this, next = es::follow("Importance", cuts, "scores", of, scores)]() mutable noexcept {
///                 scores = std::move(next);
///             };
///         }
///     };
template <class F, class T>
concept Follower = requires(F& follower, const std::vector<Cut<T>>& cuts) {
    { follower.prepare(cuts) } -> std::convertible_to<Commit>;
};

/// What remains of a tensor, of any type, that somebody keeps for `of`, shaped as it was before the cuts: sliced by
/// each of its cuts. Undefined if the parameter was made anew.
/// @throws StateError, in the name of `who`, if the tensor does not fit the cuts, or the result not the variable
template <class T, class E>
Tensor<E> follow(const char* who, const std::vector<Cut<T>>& cuts, const std::string& name, const Var<T>& of,
                 Tensor<E> tensor) {
    for (const Cut<T>& cut : cuts) {
        if (cut.parameter.node() != of.node()) continue;
        if (cut.axis < 0) return {};
        expect<StateError>(cut.axis < tensor.rank() && tensor.size(cut.axis) == cut.extent, who,
                           ": expected state of extent ", cut.extent, " along axis ", cut.axis, " for '", cut.name,
                           "', got ", tensor.shape());
        tensor = take(tensor, cut.axis, cut.kept);
    }
    expect<StateError>(tensor.shape() == of.shape(), who, ": expected cuts to ", of.shape(), " for '", name, "', got ",
                       tensor.shape());
    return tensor;
}

} // namespace espalier::inline ESPALIER_BACKEND
