#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/data/augment.hpp>
#include <espalier/data/dataset.hpp>
#include <espalier/data/normalize.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

namespace espalier::inline ESPALIER_BACKEND {

template <class V> class Prefetch; // data/prefetch.hpp

/// Images as a network takes them, with their classes.
template <class T> struct Batch {
    Tensor<T> images;     ///< [N,H,W,C]
    Tensor<Index> labels; ///< [N]
};

/// Whether each epoch has an order of its own or all have the set's.
enum class Shuffle { none, each_epoch };
/// What becomes of a last batch that is smaller than the others.
enum class LastBatch { keep, drop };

/// How a set becomes batches.
struct LoaderOptions {
    Index size = 128;                      ///< images a batch
    Shuffle shuffle = Shuffle::each_epoch; ///< the order is drawn from (seed, epoch)
    LastBatch last = LastBatch::keep;      ///< what becomes of a smaller last batch
    Augment augment = {};                  ///< random crop and flip; none for evaluation
    ChannelStatistics normalize = {};      ///< of the training set: `measure(train)`; without them pixels are 0 to 1
    Index downscale = 1;                   ///< side of the blocks of pixels that are averaged into one
    Index prefetch = 2;                    ///< batches made ahead by a thread; 0: made when asked for
    std::uint64_t seed = 0;                ///< of order and augmentation
    /// Where batches are made, with the same bits. A GPU gets a copy of the set once, when the loader is made, and then
    /// the order of each epoch. Its batches are queued in the order of its stream by the thread that asks for them, so
    /// none is made ahead there, whatever `prefetch` says.
    Device device = Device::cpu;

    /// The same pixels in the set's order, not augmented, none left out, on the same device.
    LoaderOptions for_evaluation() const {
        LoaderOptions options = *this;
        options.shuffle = Shuffle::none;
        options.last = LastBatch::keep;
        options.augment = {};
        return options;
    }
};

/// Makes the batches of a set: order, block means, normalisation, crop, flip and cutout, ahead of their use.
///
/// A batch depends on the set, the options, the epoch and its number alone: it has the same bits with and without
/// prefetching, for every thread count, after every resume and on every device. Copies of a loader share its memory.
///
///     for (auto& [images, labels] : loader.epoch(e)) ...
template <class T> class Loader {
public:
    class Epoch;

    /// @throws ShapeError if the set is not consistent or an option does not fit it; for a GPU, DeviceError if there is
    /// none that works, and Error if the set does not fit into its memory
    Loader(ImageSet set, LoaderOptions options);

    /// What it was made from; the set is the CPU's.
    /// @{
    const ImageSet& set() const { return set_; }
    const LoaderOptions& options() const { return options_; }
    /// @}
    /// Batches of an epoch.
    Index batches() const {
        const Index rest = options_.last == LastBatch::keep ? options_.size - 1 : 0;
        return (set_.size() + rest) / options_.size;
    }
    /// Batches `first_batch`, ... of epoch `number`, to be iterated over once; it may outlive the loader.
    /// @throws ShapeError unless number >= 0 and 0 <= first_batch <= batches()
    Epoch epoch(Index number, Index first_batch = 0) const;

private:
    Batch<T> make(Index b, const Tensor<Index>& order, const Random& random) const;

    ImageSet set_;
    LoaderOptions options_;
    Tensor<std::uint8_t> images_; // the set's and the colours of its pixels, on the device
    Tensor<Index> labels_;
    Tensor<T> table_;
};

/// The batches of one epoch, an input range.
template <class T> class Loader<T>::Epoch {
public:
    /// An input iterator: each batch is there once, and `++` makes the next.
    class Iterator {
    public:
        /// As the standard library asks of an iterator.
        /// @{
        using value_type = Batch<T>;
        using difference_type = std::ptrdiff_t;
        /// @}

        /// At the epoch's current batch.
        explicit Iterator(Epoch& epoch) : epoch_(&epoch) {}
        /// The current batch, which may be moved from.
        /// @{
        Batch<T>& operator*() const { return *epoch_->current_; }
        Batch<T>* operator->() const { return &*epoch_->current_; }
        /// @}
        /// Waits for the next batch.
        Iterator& operator++() {
            epoch_->advance();
            return *this;
        }
        /// Likewise.
        void operator++(int) { ++*this; }
        /// Whether no batch is left.
        bool operator==(std::default_sentinel_t) const { return !epoch_->current_; }

    private:
        Epoch* epoch_;
    };

    /// Batches `first` to `last` - 1 of an epoch, by `make`, up to `depth` of them ahead.
    Epoch(Index first, Index last, Index depth, std::function<Batch<T>(Index)> make);
    ~Epoch();
    /// At the first batch, which this waits for.
    Iterator begin() {
        advance();
        return Iterator(*this);
    }
    /// The end, for range-based loops.
    std::default_sentinel_t end() const { return {}; }

private:
    void advance();

    std::optional<Batch<T>> current_;
    std::unique_ptr<Prefetch<Batch<T>>> ahead_;
};

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/data/prefetch.hpp>
#endif

namespace espalier::inline ESPALIER_BACKEND {

template <class T>
Loader<T>::Loader(ImageSet set, LoaderOptions options) : set_(std::move(set)), options_(std::move(options)) {
    set_.check("Loader");
    const Index block = options_.downscale;
    expect(options_.size >= 1, "Loader: expected a batch size of at least 1, got ", options_.size);
    expect(options_.augment.crop >= 0, "Loader: expected a crop of at least 0, got ", options_.augment.crop);
    expect(options_.augment.cutout >= 0, "Loader: expected a cutout of at least 0, got ", options_.augment.cutout);
    expect(options_.prefetch >= 0, "Loader: expected a prefetch of at least 0, got ", options_.prefetch);
    expect(block >= 1 && set_.images.size(1) % block == 0 && set_.images.size(2) % block == 0,
           "Loader: expected a downscale that divides height and width of ", set_.images.shape(), ", got ", block);
    table_ = colour_table<T>(options_.normalize, set_.images.size(3), block * block).to(options_.device);
    images_ = set_.images.to(options_.device);
    labels_ = set_.labels.to(options_.device);
}

template <class T> typename Loader<T>::Epoch Loader<T>::epoch(Index number, Index first_batch) const {
    expect(number >= 0 && first_batch >= 0 && first_batch <= batches(),
           "Loader::epoch: expected an epoch of at least 0 and a first batch of at most ", batches(), ", got ", number,
           " and ", first_batch);
    const auto stream = static_cast<std::uint64_t>(number);
    Tensor<Index> order({options_.shuffle == Shuffle::each_epoch ? set_.size() : 0}); // empty: the set's
    if (options_.shuffle == Shuffle::each_epoch)
        std::ranges::copy(Random(options_.seed, "shuffle").substream(stream).permutation(set_.size()),
                          order.mutable_data());
    order = order.to(options_.device);
    const Random random = Random(options_.seed, "augment").substream(stream);
    // What another thread queued for a GPU could come in between two kernels of a step that is being recorded.
    const Index ahead = options_.device == Device::cpu ? options_.prefetch : 0;
    return Epoch(first_batch, batches(), ahead,
                 [loader = *this, order, random](Index b) { return loader.make(b, order, random); });
}

template <class T> Batch<T> Loader<T>::make(Index b, const Tensor<Index>& order, const Random& random) const {
    const Index first = b * options_.size, count = std::min(options_.size, set_.size() - first);
    const Index P = images_.size(1) / options_.downscale, Q = images_.size(2) / options_.downscale;
    Batch<T> batch{Tensor<T>({count, P, Q, images_.size(3)}, options_.device), Tensor<Index>({count}, options_.device)};
    const kernels::Samples<T> samples{view<4>(images_), flat(labels_), view<2>(table_), flat(order), options_.augment,
                                      random,           first};
    dispatch(options_.device, [&](auto on) {
        kernels::place_images(on, samples, mutable_view<4>(batch.images), mutable_flat(batch.labels));
    });
    return batch;
}

template <class T>
Loader<T>::Epoch::Epoch(Index first, Index last, Index depth, std::function<Batch<T>(Index)> make)
    : ahead_(std::make_unique<Prefetch<Batch<T>>>(first, last, depth, std::move(make))) {}

template <class T> Loader<T>::Epoch::~Epoch() = default;

template <class T> void Loader<T>::Epoch::advance() { current_ = ahead_->next(); }

ESPALIER_COMPILED_CLASS(Loader);

} // namespace espalier::inline ESPALIER_BACKEND
