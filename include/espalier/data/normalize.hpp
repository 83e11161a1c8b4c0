#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/data/dataset.hpp>

#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {

/// Mean and standard deviation of each channel [C], in units of pixels from 0 to 1. Empty: nothing is normalised.
struct ChannelStatistics {
    std::vector<double> mean, deviation; ///< one a channel; deviations above 0

    /// Whether there are none.
    bool empty() const { return mean.empty() && deviation.empty(); }
    /// @throws ShapeError, in the name of `who`, unless there are none or one a channel, with positive deviations
    void check(const char* who, Index channels) const;
};

/// The statistics of all pixels of a set: measure the training set and use them for every split.
/// @throws ShapeError for a set without images
ChannelStatistics measure(const ImageSet& set);

/// What a pixel becomes: table[c,s] = (s / (255 B) - mean[c]) / deviation[c], rounded once.
///
/// s is the sum of the bytes of a block of B pixels, so the table is [C, 255 B + 1]. Without statistics it is s / (255
/// B).
/// @throws ShapeError unless the statistics have none or `channels` entries and positive deviations
template <class T> Tensor<T> colour_table(const ChannelStatistics& statistics, Index channels, Index block) {
    statistics.check("colour_table", channels);
    const Index levels = 255 * block + 1;
    Tensor<T> table({channels, levels});
    for (Index c = 0; c < channels; ++c) {
        const double mean = statistics.empty() ? 0 : statistics.mean[static_cast<std::size_t>(c)];
        const double deviation = statistics.empty() ? 1 : statistics.deviation[static_cast<std::size_t>(c)];
        for (Index s = 0; s < levels; ++s)
            table.mutable_data()[c * levels + s] =
                static_cast<T>((static_cast<double>(s) / static_cast<double>(levels - 1) - mean) / deviation);
    }
    return table;
}

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY void ChannelStatistics::check(const char* who, Index channels) const {
    const auto means = static_cast<Index>(mean.size()), deviations = static_cast<Index>(deviation.size());
    expect(empty() || (means == channels && deviations == channels), who, ": expected statistics of ", channels,
           " channels, got ", means, " means and ", deviations, " deviations");
    for (std::size_t c = 0; c < deviation.size(); ++c)
        expect(deviation[c] > 0, who, ": expected a positive deviation, got ", deviation[c], " for channel ", c);
}

ESPALIER_BODY ChannelStatistics measure(const ImageSet& set) {
    set.check("measure");
    expect(set.size() > 0, "measure: expected at least one image, got ", set.images.shape());
    const auto x = pixels(set.images); // [M,C]
    const Index C = x.size(1);
    std::vector<std::uint64_t> sum(static_cast<std::size_t>(C)), squares(static_cast<std::size_t>(C));
    const std::uint8_t* p = x.data();
    for (Index m = 0; m < x.size(0); ++m) {
        for (std::size_t c = 0; c < sum.size(); ++c, ++p) {
            sum[c] += *p;
            squares[c] += static_cast<std::uint64_t>(*p) * *p;
        }
    }
    ChannelStatistics statistics;
    __extension__ using Wide = unsigned __int128; // exact, so a channel of one colour has deviation 0
    const double M = static_cast<double>(x.size(0));
    for (std::size_t c = 0; c < sum.size(); ++c) {
        const Wide spread = Wide(squares[c]) * static_cast<std::uint64_t>(x.size(0)) - Wide(sum[c]) * sum[c];
        statistics.mean.push_back(static_cast<double>(sum[c]) / M / 255);
        statistics.deviation.push_back(std::sqrt(static_cast<double>(spread)) / M / 255);
    }
    return statistics;
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
