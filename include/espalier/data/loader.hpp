#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/data/augment.hpp>
#include <espalier/data/dataset.hpp>
#include <espalier/data/normalize.hpp>

#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

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

    /// The same pixels in the set's order, not augmented, none left out.
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
/// prefetching, for every thread count and after every resume.
///
///     for (auto& [images, labels] : loader.epoch(e)) ...
template <class T> class Loader {
public:
    class Epoch;

    /// @throws ShapeError if the set is not consistent or an option does not fit it
    Loader(ImageSet set, LoaderOptions options);

    /// What it was made from.
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
    Batch<T> make(Index b, const std::vector<Index>& order, const Random& random) const;

    ImageSet set_;
    LoaderOptions options_;
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
    table_ = colour_table<T>(options_.normalize, set_.images.size(3), block * block);
}

template <class T> typename Loader<T>::Epoch Loader<T>::epoch(Index number, Index first_batch) const {
    expect(number >= 0 && first_batch >= 0 && first_batch <= batches(),
           "Loader::epoch: expected an epoch of at least 0 and a first batch of at most ", batches(), ", got ", number,
           " and ", first_batch);
    const auto stream = static_cast<std::uint64_t>(number);
    std::vector<Index> order;
    if (options_.shuffle == Shuffle::each_epoch)
        order = Random(options_.seed, "shuffle").substream(stream).permutation(set_.size());
    const Random random = Random(options_.seed, "augment").substream(stream);
    return Epoch(first_batch, batches(), options_.prefetch,
                 [loader = *this, order = std::move(order), random](Index b) { return loader.make(b, order, random); });
}

template <class T> Batch<T> Loader<T>::make(Index b, const std::vector<Index>& order, const Random& random) const {
    const Index first = b * options_.size, count = std::min(options_.size, set_.size() - first);
    const Index H = set_.images.size(1), W = set_.images.size(2), C = set_.images.size(3);
    const Index P = H / options_.downscale, Q = W / options_.downscale;
    Batch<T> batch{Tensor<T>({count, P, Q, C}), Tensor<Index>({count})};
    for (Index i = 0; i < count; ++i) {
        const Index from = order.empty() ? first + i : order[static_cast<std::size_t>(first + i)];
        batch.labels.mutable_data()[i] = set_.labels.data()[from];
        kernels::place_image(Cpu{}, View<const std::uint8_t, 3>(set_.images.data() + from * H * W * C, {H, W, C}),
                             view<2>(table_), draw(options_.augment, random, first + i, P, Q),
                             View<T, 3>(batch.images.mutable_data() + i * P * Q * C, {P, Q, C}));
    }
    return batch;
}

template <class T>
Loader<T>::Epoch::Epoch(Index first, Index last, Index depth, std::function<Batch<T>(Index)> make)
    : ahead_(std::make_unique<Prefetch<Batch<T>>>(first, last, depth, std::move(make))) {}

template <class T> Loader<T>::Epoch::~Epoch() = default;

template <class T> void Loader<T>::Epoch::advance() { current_ = ahead_->next(); }

ESPALIER_COMPILED_CLASS(Loader);

} // namespace espalier::inline ESPALIER_BACKEND
