#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/steady_clock.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/train/captured_step.hpp>
#include <espalier/train/evaluate.hpp>
#include <espalier/train/optimizer.hpp>
#include <espalier/train/progress.hpp>
#include <espalier/train/schedule.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Something that a trainer calls: logs, checkpoints, masks, thresholds, stress. It may change parameters in place.
using Hook = std::function<void(const Progress&)>;

/// Who queues a step's kernels on a GPU: the host, each time; or a CUDA graph that was captured from one
/// (`CapturedStep`).
enum class Capture { none, steps };

/// How a `Trainer` trains.
template <class T> struct TrainerOptions {
    Index epochs = 1;              ///< of the whole run, those before a resume included
    Schedule schedule = {};        ///< of the learning rate, by step; none: the optimizer's own rate
    CrossEntropyOptions loss = {}; ///< of the cross-entropy
    /// On a GPU: the same bits with less work for the host. The CPU has no use for it. A regularizer that depends on
    /// the step must then say how long it stays the same (`holds_for`), as those of the library do.
    Capture capture = Capture::none;
    /// Added to the cross-entropy, if there is one; an undefined result adds nothing and costs nothing.
    std::function<Var<T>(const models::Output<T>&, Index step)> regularizer = {};
    std::vector<Hook> before_step = {};      ///< gradients are there, the update is not: clipping
    std::vector<Hook> after_step = {};       ///< averages, then the log; the position counts the step
    std::vector<Hook> after_epoch = {};      ///< as above; `position()` is already at the next epoch
    const std::atomic<bool>* stop = nullptr; ///< set by a signal handler, say: the run ends after the step it is in
};

/// How a run came to its end without an error.
enum class RunEnd { finished, stopped };

/// The epoch loop: forward, loss and regularizer, backward, update, hooks.
///
/// All that changes from step to step is the module, the optimizer and the position. A run that is resumed from these
/// three has the same bits as one that was never interrupted.
template <class T> class Trainer {
public:
    /// `net` is a module whose `forward` takes Var<T> and returns a `models::Output<T>` or logits. Net and optimizer
    /// must outlive the trainer.
    template <class Net>
    Trainer(Net& net, Optimizer<T>& optimizer, TrainerOptions<T> options)
        : module_(net), forward_([&net](const Var<T>& x) { return forward_output(net, x); }), optimizer_(optimizer),
          options_(std::move(options)) {
        expect(options_.epochs >= 0, "Trainer: expected epochs of at least 0, got ", options_.epochs);
    }

    /// What comes next; after an error, the step that failed.
    const Position& position() const { return position_; }
    /// Continues from there at the next `run`; module and optimizer have been restored by the caller.
    void resume(const Position& position) { position_ = position; }

    /// Trains, in training mode, from the position to the end of the last epoch or until told to stop.
    /// @throws StateError if a loss is not finite, before the update: parameters are those of the step before
    RunEnd run(const Loader<T>& loader) {
        expect<StateError>(position_.batch <= loader.batches(), "Trainer: expected a position within ",
                           loader.batches(), " batches an epoch, got batch ", position_.batch, " of epoch ",
                           position_.epoch);
        start_ = steady_seconds();
        images_ = 0;
        first_step_ = position_.step;
        module_.train();
        while (position_.epoch < options_.epochs) {
            auto epoch = loader.epoch(position_.epoch, position_.batch);
            Progress progress = progress_of(loader, {});
            for (const Batch<T>& batch : epoch) {
                progress = step(batch, loader);
                if (options_.stop && options_.stop->load()) return RunEnd::stopped;
            }
            position_ = {.epoch = position_.epoch + 1, .batch = 0, .step = position_.step};
            call(options_.after_epoch, progress);
            if (options_.stop && options_.stop->load()) return RunEnd::stopped;
        }
        return RunEnd::finished;
    }

private:
    Progress step(const Batch<T>& batch, const Loader<T>& loader) {
        if (options_.schedule) optimizer_.set_learning_rate(options_.schedule(position_.step));
        EpochTotals totals = position_.totals;
        const Losses losses = gradients(batch, loader.options().size, totals);
        call(options_.before_step, progress_of(loader, losses));
        update();
        position_.totals = totals;
        ++position_.batch;
        ++position_.step;
        images_ += batch.labels.size();
        const Progress progress = progress_of(loader, losses);
        call(options_.after_step, progress);
        return progress;
    }

    /// Leaves the gradients of one batch in the parameters and adds the batch to the totals.
    Losses gradients(const Batch<T>& batch, Index full_size, EpochTotals& totals) {
        const Device device = module_.device();
        replays_ = options_.capture == Capture::steps && device != Device::cpu && batch.labels.size() == full_size;
        Tensor<Index> labels;
        if (replays_) {
            if (!captured_ || captured_->images.shape() != batch.images.shape())
                captured_.emplace(*this, batch.images.shape(), device);
            captured_->images.copy_from(batch.images);
            captured_->labels.copy_from(batch.labels);
            captured_->gradients();
            labels = captured_->labels;
        } else {
            labels = batch.labels.to(device);
            queue_gradients(batch.images.to(device), labels);
        }
        Losses parts{.cross_entropy = static_cast<double>(results_.cross_entropy.item())};
        if (results_.regularizer.defined()) parts.regularizer = static_cast<double>(results_.regularizer.item());
        parts.total = static_cast<double>(static_cast<T>(parts.cross_entropy) + static_cast<T>(parts.regularizer));
        expect<StateError>(std::isfinite(parts.total), "Trainer: expected a finite loss, got ", parts.total,
                           " in step ", position_.step, " (epoch ", position_.epoch, ", batch ", position_.batch,
                           ") with learning rate ", optimizer_.learning_rate(), ": cross-entropy ", parts.cross_entropy,
                           ", regularizer ", parts.regularizer);

        const auto size = static_cast<double>(batch.labels.size());
        totals.loss += parts.total * size;
        totals.cross_entropy += parts.cross_entropy * size;
        totals.regularizer += parts.regularizer * size;
        totals.correct += correct(results_.logits, labels);
        totals.images += batch.labels.size();
        return parts;
    }

    /// Forward and backward, which wait for nothing: the part of a step that can be captured.
    void queue_gradients(const Tensor<T>& images, const Tensor<Index>& labels) {
        const models::Output<T> out = forward_(Var<T>(images));
        Var<T> loss = cross_entropy(out.logits, labels, options_.loss);
        results_ = {.logits = out.logits.value(), .cross_entropy = loss.value(), .regularizer = {}};
        if (options_.regularizer)
            if (const Var<T> extra = options_.regularizer(out, position_.step); extra.defined()) {
                results_.regularizer = extra.value();
                loss = loss + extra;
            }
        on_replay([this, results = results_] { results_ = results; }); // after a batch of another size
        module_.clear_grad();
        loss.backward();
    }
    /// A captured update knows gradients by address, so it is for those that were captured, and that no hook has
    /// replaced.
    void update() {
        if (!replays_ || !options_.before_step.empty()) return optimizer_.step();
        if (captured_->gradients.is_captured()) return captured_->update();
        captured_->update.reset();
        optimizer_.step();
    }

    Progress progress_of(const Loader<T>& loader, const Losses& last) const {
        const EpochTotals& totals = position_.totals;
        const double images = static_cast<double>(std::max<Index>(1, totals.images));
        const double seconds = steady_seconds() - start_;
        const Index steps = options_.epochs * loader.batches(), done = position_.step - first_step_;
        return {.at = position_,
                .epochs = options_.epochs,
                .batches = loader.batches(),
                .steps = steps,
                .last = last,
                .mean = {totals.loss / images, totals.cross_entropy / images, totals.regularizer / images},
                .accuracy = static_cast<double>(totals.correct) / images,
                .learning_rate = optimizer_.learning_rate(),
                .seconds = seconds,
                .seconds_left =
                    done > 0 ? seconds / static_cast<double>(done) * static_cast<double>(steps - position_.step) : 0,
                .images_per_second = seconds > 0 ? static_cast<double>(images_) / seconds : 0};
    }

    static void call(const std::vector<Hook>& hooks, const Progress& progress) {
        for (const Hook& hook : hooks) hook(progress);
    }

    struct Results {
        Tensor<T> logits, cross_entropy, regularizer; // the last undefined without one
    };
    struct Captured {
        Captured(Trainer& trainer, const Shape& shape, Device device)
            : images(shape, device), labels({shape[0]}, device),
              gradients(device, [this, &trainer] { trainer.queue_gradients(images, labels); }),
              update(device, [&trainer] { trainer.optimizer_.step(); }) {}

        Tensor<T> images;
        Tensor<Index> labels;
        CapturedStep gradients, update; // apart, because a loss that is not finite stops the run between them
    };

    Module<T> module_;
    std::function<models::Output<T>(const Var<T>&)> forward_;
    Optimizer<T>& optimizer_;
    TrainerOptions<T> options_;
    Position position_;
    Results results_; // of the last batch
    std::optional<Captured> captured_;
    bool replays_ = false;              // whether the last batch went through it
    double start_ = 0;                  // of this call of `run`
    Index images_ = 0, first_step_ = 0; // of this run
};

ESPALIER_COMPILED_CLASS(Trainer);

} // namespace espalier::inline ESPALIER_BACKEND
