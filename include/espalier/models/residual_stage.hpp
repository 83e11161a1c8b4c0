#pragma once

#include <espalier/models/residual_block.hpp>

#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// Residual blocks of one width and resolution, one after the other; the first may begin with another width and
/// resolution. Children are named by their number: `0`, `1`.
template <class Block> class ResidualStage : public Module<typename Block::Scalar> {
    using T = typename Block::Scalar;

public:
    /// Without blocks yet.
    explicit ResidualStage(Taps taps) : taps_(taps) {}

    /// Adds a block behind the others, as a child.
    void append(Block block) {
        const std::string number = std::to_string(blocks_.size());
        blocks_.push_back(this->child(number, std::move(block)));
    }

    /// Adds a stage to the flow and returns the last block's output.
    ///
    /// The maps are the blocks' outputs. Before them comes x, where the first block's shortcut is the identity; else
    /// the stage's entry is what that shortcut made of x. So consecutive differences are what the blocks add. Branches
    /// are what goes into the joins; the flow has them with `Taps::branches` only.
    Var<T> forward(const Var<T>& x, Flow<T>& flow) {
        FlowStage<T>& taps = flow.stages.emplace_back();
        if (taps_ == Taps::branches) flow.branches.emplace_back();
        Var<T> y = x;
        for (Block& block : blocks_) {
            const BlockResult<T> result = block.forward(y);
            if (&block == blocks_.data()) {
                if (result.stream.node() == x.node())
                    taps.maps.push_back(x);
                else
                    taps.entry = result.stream;
            }
            y = result.y;
            taps.maps.push_back(y);
            if (taps_ == Taps::branches) flow.branches.back().push_back(result.branch);
        }
        return y;
    }

private:
    Taps taps_;
    std::vector<Block> blocks_;
};

} // namespace models
} // namespace espalier::inline ESPALIER_BACKEND
