#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/io/tensor_file.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/pruning/follower.hpp>
#if ESPALIER_CUDA
#include <espalier/cuda/for_each.cuh>
#endif

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// How the first averages are taken.
enum class EmaStart {
    full,   ///< every update with the full decay
    ramped, ///< update n = 0, 1, ... with a decay of at most (1 + n) / (10 + n), so that early weights are soon
            ///< forgotten
};

/// Options of `Ema`.
struct EmaOptions {
    double decay = 0.999;            ///< weight of the past, in [0, 1)
    EmaStart start = EmaStart::full; ///< how the first averages are taken
};

namespace kernels {

/// A value and its average.
template <class T> struct AveragedValue {
    View<const T, 1> x; ///< [N], the value
    View<T, 1> a;       ///< [N], the average
};
/// a += weight * (x - a) for each of them. One range of elements a thread.
template <class T> void move_towards(Cpu, T weight, const std::vector<AveragedValue<T>>& all) {
    constexpr Index grain = 16384;
    for (const auto& [x, a] : all)
        parallel_ranges(a.size(), grain, [&, from = x.data(), to = a.data()](Index begin, Index end) {
            for (Index i = begin; i < end; ++i) to[i] += weight * (from[i] - to[i]);
        });
}

#if ESPALIER_CUDA
// Element i of the above.
template <class T> struct MoveElement {
    T weight;
    const T* x;
    T* a;

    __device__ void operator()(Index i) const { a[i] += weight * (x[i] - a[i]); }
};
/// As on the CPU.
template <class T> void move_towards(Cuda on, T weight, const std::vector<AveragedValue<T>>& all) {
    std::vector<std::pair<Index, MoveElement<T>>> elements;
    for (const auto& [x, a] : all) elements.push_back({a.size(), {weight, x.data(), a.data()}});
    for_each_of(on, elements);
}
#endif

} // namespace kernels

/// Exponential moving averages of a module's parameters and buffers: average = decay * average + (1 - decay) * value.
///
/// They start at the values that the module has then. Call `update` after each step; `swap`, or an `EmaScope` around an
/// evaluation, puts them into the module and back. Averages follow surgery and are saved as an optimizer's state is:
///
///     es::Ema<float> averages(model, {.decay = 0.999});
///     options.after_step.push_back([&](const es::Progress&) { averages.update(); });
///
/// @throws ShapeError for a decay out of range
/// Source: Polyak & Juditsky 1992 (averages of the iterates); the ramp is that of
/// tf.train.ExponentialMovingAverage(num_updates).
template <class T> class Ema {
public:
    /// Of a module as it is now. @throws ShapeError for a decay out of range
    Ema(const Module<T>& module, const EmaOptions& options) : options_(options) {
        expect(options.decay >= 0 && options.decay < 1, "Ema: expected a decay in [0, 1), got ", options.decay);
        for (const auto& list : {module.parameters(), module.buffers()})
            for (const NamedVar<T>& of : list) slots_.push_back({of, of.var.value().clone()});
    }
    Ema(const Ema&) = delete;
    Ema& operator=(const Ema&) = delete;

    /// Moves each average towards the value that its variable has now.
    /// @throws StateError, with nothing changed, while the averages are in the module, or if surgery changed a variable
    /// and its cuts were not applied; DeviceError, likewise, if the variables moved to another device since this was
    /// made
    void update() {
        expect_outside("Ema::update");
        expect_fit("Ema::update");
        const double n = static_cast<double>(updates_), ramp = (1 + n) / (10 + n);
        every_call([this] { ++updates_; });
        const bool ramps = options_.start == EmaStart::ramped && ramp < options_.decay;
        if (ramps) holds_for(1);
        const double decay = ramps ? ramp : options_.decay;
        if (slots_.empty()) return;
        std::vector<kernels::AveragedValue<T>> all;
        for (Slot& slot : slots_) all.push_back({flat(slot.of.var.value()), mutable_flat(slot.average)});
        dispatch(slots_[0].average.device(),
                 [&](auto on) { kernels::move_towards(on, static_cast<T>(1 - decay), all); });
    }
    /// Updates made so far.
    Index updates() const { return updates_; }

    /// Exchanges averages and module: what was in the module is kept here until the next call puts it back. Surgery
    /// waits until then.
    /// @throws StateError, with nothing changed, if surgery changed a variable and its cuts were not applied;
    /// DeviceError, likewise, if the variables moved to another device since this was made
    void swap() {
        if (where_ == Where::outside) expect_fit("Ema::swap");
        for (Slot& slot : slots_) std::swap(slot.of.var.mutable_value(), slot.average);
        detail::memory_moved();
        where_ = where_ == Where::outside ? Where::inside : Where::outside;
    }

    /// Follows surgery, as `Optimizer::prepare`; the average of a parameter made anew starts at its value.
    /// @throws StateError while the averages are in the module, or if averages and variables would not fit each other
    /// afterwards
    Commit prepare(const std::vector<Cut<T>>& cuts) {
        expect_outside("Ema::prepare");
        std::vector<Tensor<T>> next;
        for (const auto& [of, average] : slots_) {
            Tensor<T>& tensor = next.emplace_back(follow("Ema::prepare", cuts, of.name, of.var, average));
            if (!tensor.defined()) tensor = of.var.value().clone().to(average.device());
        }
        return [this, next = std::move(next)]() mutable noexcept {
            for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].average = std::move(next[i]);
            detail::memory_moved();
        };
    }

    /// Adds averages and number of updates under `prefix`; the tensors share memory with this object.
    /// @throws StateError while the averages are in the module
    void save(TensorFile& file, const std::string& prefix) const {
        expect_outside("Ema::save");
        file.add(prefix + "updates", Tensor<Index>::scalar(updates_));
        for (const auto& [of, average] : slots_) file.add(prefix + average_name(of), average);
    }
    /// Takes back what `save` added; the variables must have the shapes that they had then.
    /// @throws StateError, with nothing changed, if names, types or shapes differ
    void load(const TensorFile& file, const std::string& prefix) {
        expect_outside("Ema::load");
        std::vector<std::string> names{"updates"};
        for (const Slot& slot : slots_) names.push_back(average_name(slot.of));
        file.expect_names("Ema::load", prefix, names);
        std::vector<Tensor<T>> loaded;
        for (const auto& [of, average] : slots_) {
            const std::string name = prefix + average_name(of);
            const Shape& shape = loaded.emplace_back(file.get<T>(name).clone().to(average.device())).shape();
            expect<StateError>(shape == of.var.shape(), "Ema::load: expected '", name, "' ", of.var.shape(), ", got ",
                               shape, " in ", file.source());
        }
        updates_ = file.get<Index>(prefix + "updates").item();
        for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].average = std::move(loaded[i]);
        detail::memory_moved();
    }

private:
    enum class Where { outside, inside }; // of the module
    struct Slot {
        NamedVar<T> of;
        Tensor<T> average;
    };

    static std::string average_name(const NamedVar<T>& of) { return "average." + of.name; }
    void expect_outside(const char* who) const {
        expect<StateError>(where_ == Where::outside, who, ": expected the averages beside the module, got them in it");
    }
    void expect_fit(const char* who) const {
        for (const auto& [of, average] : slots_) {
            expect_same_device(who, of.var, average);
            expect<StateError>(average.shape() == of.var.shape(), who, ": expected an average ", of.var.shape(),
                               " for '", of.name, "', got ", average.shape(), "; apply the cuts of surgery first");
        }
    }

    EmaOptions options_;
    std::vector<Slot> slots_;
    Index updates_ = 0;
    Where where_ = Where::outside;
};

/// The averages are in their module until the end of the scope: for evaluation.
template <class T> class EmaScope {
public:
    /// Swaps the averages in.
    explicit EmaScope(Ema<T>& averages) : averages_(averages) { averages_.swap(); }
    ~EmaScope() { averages_.swap(); }
    EmaScope(const EmaScope&) = delete;
    EmaScope& operator=(const EmaScope&) = delete;

private:
    Ema<T>& averages_;
};

ESPALIER_COMPILED_CLASS(Ema);

} // namespace espalier::inline ESPALIER_BACKEND
