#pragma once

#include <espalier/core/error.hpp>

#include <string>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// What an axis of a parameter does to the channel it is indexed by.
enum class ChannelRole {
    makes,    ///< its slices produce the channel: the filter axis of a convolution's weight
    scales,   ///< batch norm's gamma
    shifts,   ///< batch norm's beta, a bias: added to the channel
    mean,     ///< running mean
    variance, ///< running variance
    rides,    ///< anything else that is one entry a channel
    eats,     ///< its slices consume the channel: the input axis of the next weight
};

/// One statement of a channel rule: entries of an axis of one operand are the same channels as entries of another's.
///
/// Entry `begin + i` of `axis` of `operand` is entry `other_begin + i % period` of `other_axis` of `other`, for i in
/// [0, count). Operands are numbered as in `record`; `ChannelRule::output` is the result. Axes may be negative.
struct ChannelLink {
    int operand, axis;                     ///< the operand that says it, and its axis
    int other, other_axis;                 ///< what the entries are the same as
    Index begin = 0, other_begin = 0;      ///< first entries on either side
    Index count = -1;                      ///< -1: all entries of the operand's axis
    Index period = -1;                     ///< -1: no repetition
    ChannelRole role = ChannelRole::rides; ///< of the operand's axis, where the operand is a parameter
    bool joined = false;                   ///< a residual join: an indexed join may break this link (see ops/join.hpp)
};

/// One statement of a channel rule: these entries of the last axis of an operand (or of the result) have to stay.
struct BlockedChannels {
    int operand;        ///< numbered as in `record`
    Index begin, count; ///< first entry, and how many: -1 for all behind it
    std::string reason; ///< why they have to stay
};

/// How channels pass through an op: the fourth thing that every op states, beside contract, forward and backward.
///
/// The channel axis of an activation is its last. Pruning reads these rules off the recorded graph
/// (`pruning/groups.hpp`) and needs to know nothing else about ops. A default-constructed rule says nothing: channels
/// that reach such an op are blocked, and the reason names it. Each statement takes the rule before it and returns it
/// by value, so that `rule = std::move(rule).pass(0)` is safe: a reference to itself would be emptied by its own move.
class ChannelRule {
public:
    static constexpr int output = -1; ///< the op's result, where an operand is asked for

    /// A rule that says nothing: channels are blocked.
    ChannelRule() = default;
    /// A rule that holds no statement yet: the op mixes or ends all channels unless told otherwise.
    static ChannelRule declared() {
        ChannelRule rule;
        rule.declared_ = true;
        return rule;
    }
    /// Channels of an operand are the channels of the output, one to one.
    static ChannelRule same(int operand = 0) { return declared().pass(operand); }

    /// Channels of the operand go to the output one to one. An extent of 1 that is broadcast couples nothing.
    ChannelRule pass(int operand, Index begin = 0, Index output_begin = 0, Index count = -1) && {
        links_.push_back({operand, -1, output, -1, begin, output_begin, count});
        return std::move(*this);
    }
    /// As `pass`, where an indexed join may let the operand keep fewer channels than the output.
    ChannelRule join(int operand) && {
        ChannelLink link{operand, -1, output, -1};
        link.joined = true;
        links_.push_back(link);
        return std::move(*this);
    }
    /// Each channel of the operand becomes every `period`-th entry of the output (flattening: period = C).
    ChannelRule spread(int operand, Index period) && {
        ChannelLink link{output, -1, operand, -1};
        link.period = period;
        links_.push_back(link);
        return std::move(*this);
    }
    /// Every `period`-th entry of the operand is one channel of the output (the reverse of `spread`).
    ChannelRule gather(int operand, Index period) && {
        ChannelLink link{operand, -1, output, -1};
        link.period = period;
        links_.push_back(link);
        return std::move(*this);
    }
    /// A parameter's axis makes the channels of the output.
    ChannelRule make(int operand, int axis) && {
        ChannelLink link{operand, axis, output, -1};
        link.role = ChannelRole::makes;
        links_.push_back(link);
        return std::move(*this);
    }
    /// A parameter's axis rides along with the channels of the output.
    ChannelRule ride(int operand, int axis = 0, ChannelRole role = ChannelRole::rides) && {
        ChannelLink link{operand, axis, output, -1};
        link.role = role;
        links_.push_back(link);
        return std::move(*this);
    }
    /// A parameter's axis eats the channels of another operand.
    ChannelRule eat(int operand, int axis, int input) && {
        ChannelLink link{operand, axis, input, -1};
        link.role = ChannelRole::eats;
        links_.push_back(link);
        return std::move(*this);
    }
    /// Any statement, for those that the functions above have no word for.
    ChannelRule link(const ChannelLink& link) && {
        links_.push_back(link);
        return std::move(*this);
    }
    /// Channels of this operand (or of `output`) can't be cut, and why: "group convolution". All, or `count` of them.
    ChannelRule block(int operand, std::string reason, Index begin = 0, Index count = -1) && {
        blocked_.push_back({operand, begin, count, std::move(reason)});
        return std::move(*this);
    }
    /// The op multiplies: each element of the weight operand takes part in `positions` multiply-adds.
    ChannelRule multiply(int weight, Index positions) && {
        weight_ = weight;
        positions_ = positions;
        return std::move(*this);
    }
    /// f(0) != 0: a channel that is zero before the op is not zero after it.
    ChannelRule moves_zero() && {
        moves_zero_ = true;
        return std::move(*this);
    }

    /// Whether the op said anything at all; the channels of one that did not are blocked.
    bool is_declared() const { return declared_; }
    /// All statements, in the order in which they were made.
    const std::vector<ChannelLink>& links() const { return links_; }
    /// Channels that can't be cut, with the reason of each.
    const std::vector<BlockedChannels>& blocked() const { return blocked_; }
    /// Operand that is the weight of a product, or -1.
    int weight() const { return weight_; }
    /// Multiply-adds that each element of the weight takes part in, for one batch; 0 without a weight.
    Index positions() const { return positions_; }
    /// Whether f(0) = 0, so that a masked channel stays silent behind the op.
    bool keeps_zero() const { return !moves_zero_; }

private:
    bool declared_ = false, moves_zero_ = false;
    int weight_ = -1;
    Index positions_ = 0;
    std::vector<ChannelLink> links_;
    std::vector<BlockedChannels> blocked_;
};

} // namespace espalier::inline ESPALIER_BACKEND
