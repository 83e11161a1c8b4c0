#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/io/tensor_file.hpp>
#include <espalier/pruning/masks.hpp>
#include <espalier/train/optimizer.hpp>
#if ESPALIER_CUDA
#include <espalier/cuda/for_each.cuh>
#endif

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

namespace kernels {

/// Values and their mask.
template <class T> struct MaskedValues {
    View<const std::uint8_t, 1> kept; ///< [N], 0: masked
    View<T, 1> x;                     ///< [N]
};
/// x = 0 where kept = 0, whatever x was, NaN included, of each of them. One range of elements a thread.
template <class T> void zero_masked(Cpu, const std::vector<MaskedValues<T>>& all) {
    for (const auto& [kept, x] : all)
        parallel_ranges(x.size(), update_grain, [mask = kept.data(), to = x.data()](Index begin, Index end) {
            for (Index i = begin; i < end; ++i)
                if (mask[i] == 0) to[i] = T(0);
        });
}

#if ESPALIER_CUDA
// Element i of the above.
template <class T> struct ZeroMasked {
    const std::uint8_t* kept;
    T* x;

    __device__ void operator()(Index i) const {
        if (kept[i] == 0) x[i] = T(0);
    }
};
/// As on the CPU.
template <class T> void zero_masked(Cuda on, const std::vector<MaskedValues<T>>& all) {
    std::vector<std::pair<Index, ZeroMasked<T>>> elements;
    for (const auto& [kept, x] : all) elements.push_back({x.size(), {kept.data(), x.data()}});
    for_each_of(on, elements);
}
#endif

} // namespace kernels

/// Masks that survive training: after each step, entries that are masked are exactly zero again, and so is what the
/// optimizer keeps for them, whichever optimizer it is.
///
///     es::Masks<float> masks(model);
///     masks.set(es::pruning::magnitude_masks(model, {.keep = 0.1}));
///     options.after_step.push_back([&](const es::Progress&) { masks.apply(optimizer); }); // first of the hooks
///
/// They follow surgery, given to `pruning::apply` beside the optimizer, and are saved as its state is, in
/// `Checkpoint::extra`. Averages (`Ema`) that are made after the first `apply` keep the zeros.
template <class T> class Masks {
public:
    /// No masks yet. @param model  whose variables will be masked
    explicit Masks(const Module<T>& model) : model_(model) {}
    Masks(const Masks&) = delete;
    Masks& operator=(const Masks&) = delete;

    /// These and no others. Values change with the next `apply`.
    /// @throws StateError, with nothing changed, if a mask is none of this model's variables or has another shape
    void set(const std::vector<Mask<T>>& masks) {
        check_ours("Masks::set", masks);
        masks_.clear();
        merge(masks);
    }
    /// These as well: what either masks is masked. @throws StateError as `set`
    void add(const std::vector<Mask<T>>& masks) {
        check_ours("Masks::add", masks);
        merge(masks);
    }
    /// What is masked now.
    const std::vector<Mask<T>>& all() const { return masks_; }

    /// Sets masked entries of the model to zero; or of a model and an optimizer of it, after each step.
    /// @throws StateError, with nothing changed, if surgery changed a variable and its cuts were not applied
    /// @{
    void apply() { zero(of_model()); }
    void apply(Optimizer<T>& optimizer) {
        auto all = of_model();
        optimizer.each_state([&](const Var<T>& var, Tensor<T>& state) {
            for (std::size_t i = 0; i < masks_.size(); ++i)
                if (masks_[i].of.var.node() == var.node())
                    all.push_back({flat(kept_on(state.device(), i)), mutable_flat(state)});
        });
        zero(all);
    }
    /// @}

    /// Follows surgery (`Follower`): each mask is sliced as its variable is. A parameter made anew loses its mask.
    /// @throws StateError if masks and variables would not fit each other afterwards
    Commit prepare(const std::vector<Cut<T>>& cuts) {
        std::vector<Mask<T>> next;
        for (const Mask<T>& mask : masks_)
            if (auto kept = follow("Masks::prepare", cuts, mask.of.name, mask.of.var, mask.kept); kept.defined())
                next.push_back({mask.of, kept});
        return [this, next = std::move(next)]() mutable noexcept { replace(std::move(next)); };
    }

    /// Adds each mask, of type U8, as `prefix` and the name of its variable; the tensors share memory with this object.
    void save(TensorFile& file, const std::string& prefix) const {
        for (const Mask<T>& mask : masks_) file.add(prefix + mask.of.name, mask.kept);
    }
    /// These masks and no others: all tensors of a file whose names start with `prefix`.
    /// @throws StateError, with nothing changed, if one is no mask of a variable of this model
    void load(const TensorFile& file, const std::string& prefix) {
        std::vector<Mask<T>> loaded;
        for (const auto& entry : file.entries()) {
            if (!entry.name.starts_with(prefix)) continue;
            const std::string name = entry.name.substr(prefix.size());
            loaded.push_back({{name, model_.find(name)}, file.get<std::uint8_t>(entry.name).clone()});
        }
        check_shapes("Masks::load", loaded);
        replace(std::move(loaded));
    }

private:
    std::vector<kernels::MaskedValues<T>> of_model() {
        check_shapes("Masks::apply", masks_);
        std::vector<kernels::MaskedValues<T>> all;
        for (std::size_t i = 0; i < masks_.size(); ++i) {
            Tensor<T>& x = masks_[i].of.var.mutable_value();
            all.push_back({flat(kept_on(x.device(), i)), mutable_flat(x)});
        }
        return all;
    }
    const Tensor<std::uint8_t>& kept_on(Device device, std::size_t i) {
        Tensor<std::uint8_t>& kept = applied_[i];
        if (!kept.defined() || kept.device() != device) kept = masks_[i].kept.to(device);
        return kept;
    }
    void zero(const std::vector<kernels::MaskedValues<T>>& all) {
        if (!all.empty()) dispatch(masks_[0].of.var.device(), [&](auto on) { kernels::zero_masked(on, all); });
    }
    void replace(std::vector<Mask<T>> masks) {
        masks_ = std::move(masks);
        changed();
    }
    void changed() { // fewer masks than before take no memory, so that surgery can't fail here
        applied_.assign(masks_.size(), {});
        detail::memory_moved();
    }
    void merge(const std::vector<Mask<T>>& masks) {
        for (const Mask<T>& more : masks) {
            const auto mine = std::find_if(masks_.begin(), masks_.end(), [&](const Mask<T>& mask) {
                return mask.of.var.node() == more.of.var.node();
            });
            if (mine == masks_.end()) {
                masks_.push_back({more.of, more.kept.clone()}); // whoever gave it may go on to change his
                continue;
            }
            for (Index i = 0; i < mine->kept.size(); ++i)
                if (more.kept.data()[i] == 0) mine->kept.mutable_data()[i] = 0;
        }
        changed();
    }
    void check_ours(const char* who, const std::vector<Mask<T>>& masks) const {
        for (const auto& [of, kept] : masks)
            expect<StateError>(model_.find(of.name).node() == of.var.node(), who,
                               ": expected masks of this model's variables, got one of another '", of.name, "'");
        check_shapes(who, masks);
    }
    static void check_shapes(const char* who, const std::vector<Mask<T>>& masks) {
        for (const auto& [of, kept] : masks)
            expect<StateError>(kept.shape() == of.var.shape(), who, ": expected a mask ", of.var.shape(), " for '",
                               of.name, "', got ", kept.shape(), "; apply the cuts of surgery first");
    }

    Module<T> model_;
    std::vector<Mask<T>> masks_;
    std::vector<Tensor<std::uint8_t>> applied_; // the same where their variables are, from the first `apply` on
};

ESPALIER_COMPILED_CLASS(Masks);

} // namespace espalier::inline ESPALIER_BACKEND
