#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/ops/slice.hpp>

#include <numeric>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// Channels in ranges, one behind the other, each for a way of its own (ShuffleNetV2, gates, cross stage partial
/// blocks): PyTorch's `split` along channels. A layer, because surgery has to change its numbers when channels go.
template <class T> class ChannelSplit : public Module<T> {
public:
    /// @param sizes channels of each range  @throws ShapeError unless there are some, and each is at least 1
    explicit ChannelSplit(const std::vector<Index>& sizes) {
        bool fits = !sizes.empty();
        for (const Index size : sizes) fits = fits && size >= 1;
        expect(fits, "ChannelSplit: expected ranges of at least one channel, got ", sizes);
        Index begin = 0;
        for (const Index size : sizes) {
            parts_.push_back(this->child(std::to_string(parts_.size()), Part()));
            std::vector<Index>& kept = parts_.back().state->kept;
            kept.resize(static_cast<std::size_t>(size));
            std::iota(kept.begin(), kept.end(), begin);
            begin += size;
        }
    }

    /// x [..,C] -> [..,J] for each range. @throws ShapeError if the ranges are not those of C channels
    std::vector<Var<T>> forward(const Var<T>& x) const {
        Index channels = 0;
        for (const Part& part : parts_) channels += static_cast<Index>(part.state->kept.size());
        expect(x.rank() >= 1 && x.size(-1) == channels, "ChannelSplit: expected x [..,", channels, "], got ",
               x.shape());
        std::vector<Var<T>> parts;
        for (const Part& part : parts_) parts.push_back(slice(x, part.state));
        return parts;
    }

private:
    struct Part : Module<T> {
        std::shared_ptr<JoinState<T>> state = this->add_join(std::make_shared<JoinState<T>>());
    };
    std::vector<Part> parts_;
};

ESPALIER_COMPILED_CLASS(ChannelSplit);

} // namespace espalier::inline ESPALIER_BACKEND
