#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/groups.hpp>

#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {

/// How the scores of several parts of one channel become its score: of the filters that make a residual stream, say.
enum class Combine {
    mean,    ///< as important as its parts are on average
    sum,     ///< all of them together: what many layers make or eat counts more
    max,     ///< as important as its most important part
    product, ///< unimportant if any part is
    first,   ///< that of the part that the network uses first: of a stream, the layer that starts it
};
/// `mean`, `sum`, `max`, `product` or `first`.
inline std::string to_text(Combine rule) {
    constexpr const char* names[] = {"mean", "sum", "max", "product", "first"};
    return names[static_cast<int>(rule)];
}

/// Takes scores one by one and gives what a rule makes of them. A score that is NaN makes the result NaN.
class Combiner {
public:
    /// No score yet.
    explicit Combiner(Combine rule = Combine::mean) : rule_(rule) {}
    /// The next one.
    void add(double score) {
        if (++count_ == 1)
            value_ = score;
        else if (rule_ == Combine::mean || rule_ == Combine::sum)
            value_ += score;
        else if (rule_ == Combine::product)
            value_ *= score;
        else if (rule_ == Combine::max && (score > value_ || score != score))
            value_ = score;
    }
    /// NaN if there was none.
    double value() const {
        return rule_ == Combine::mean && count_ > 0 ? value_ / static_cast<double>(count_) : value_;
    }

private:
    Combine rule_;
    Index count_ = 0;
    double value_ = std::numeric_limits<double>::quiet_NaN();
};

/// A set of roles: which entries of a channel a criterion counts.
class ChannelRoles {
public:
    /// `{ChannelRole::makes, ChannelRole::eats}`, say.
    constexpr ChannelRoles(std::initializer_list<ChannelRole> roles) {
        for (const ChannelRole role : roles) bits_ |= bit(role);
    }
    /// Whether a role is in the set.
    constexpr bool has(ChannelRole role) const { return (bits_ & bit(role)) != 0; }
    /// Whether both have the same roles.
    constexpr bool operator==(const ChannelRoles&) const = default;

private:
    static constexpr unsigned bit(ChannelRole role) { return 1u << static_cast<unsigned>(role); }
    unsigned bits_ = 0;
};
/// Their names: `makes+eats`.
inline std::string to_text(ChannelRoles roles) {
    constexpr const char* names[] = {"makes", "scales", "shifts", "mean", "variance", "rides", "eats"};
    std::string text;
    for (int role = 0; role < 7; ++role)
        if (roles.has(static_cast<ChannelRole>(role))) text += (text.empty() ? "" : "+") + std::string(names[role]);
    return text;
}

namespace pruning {

/// Importance of one channel: higher stays longer. NaN means that the criterion has nothing to say of this channel; its
/// group is then not cut.
template <class T> using Score = std::function<double(const Channel<T>&)>;

/// Any type with `std::string name() const` and `Score<T> prepare(const ChannelGraph<T>&) const` is a criterion:
/// `prepare` looks at the network once, the score it returns is asked for every channel.
template <class T> class Criterion {
public:
    /// Keeps a copy of a criterion of any type.
    template <class C>
    Criterion(const C& criterion) // NOLINT: a criterion is given by its own type
        : name_(criterion.name()),
          prepare_([criterion](const ChannelGraph<T>& graph) { return criterion.prepare(graph); }) {}

    /// What plans and error texts call it.
    const std::string& name() const { return name_; }
    /// Looks at a network; the score that it returns is valid while the graph and its parameters are.
    Score<T> prepare(const ChannelGraph<T>& graph) const { return prepare_(graph); }

private:
    std::string name_;
    std::function<Score<T>(const ChannelGraph<T>&)> prepare_;
};

/// The entries of a channel on one axis of one variable, at least one: a filter, a batch norm's scale, an input channel
/// of the next weight. Behind a flatten those are many columns; where a map is concatenated with itself, two.
template <class T> using ChannelSlice = std::span<const ChannelMember<T>>;

/// Calls f(slice) for each slice of a channel whose role is in the set, in the order in which the network uses them.
template <class T, class F> void each_slice(const Channel<T>& channel, ChannelRoles roles, const F& f) {
    const auto& all = channel.members; // those of one axis lie side by side
    for (std::size_t begin = 0, end = 0; begin < all.size(); begin = end) {
        const auto same_axis = [&](const ChannelMember<T>& m) {
            return m.axis == all[begin].axis && m.variable.node() == all[begin].variable.node();
        };
        while (end < all.size() && same_axis(all[end])) ++end;
        if (roles.has(all[begin].role)) f(ChannelSlice<T>(all.data() + begin, end - begin));
    }
}

/// Calls f(offset) for each element of a slice: its place in the memory of the variable, and of its gradient.
template <class T, class F> void each_offset(ChannelSlice<T> slice, const F& f) {
    const int axis = slice[0].axis;
    const Shape& shape = slice[0].variable.shape();
    const Index outer = shape.product(0, axis), inner = shape.product(axis + 1, shape.rank());
    for (const ChannelMember<T>& m : slice)
        for (Index o = 0; o < outer; ++o)
            for (Index i = 0; i < inner; ++i) f((o * shape[axis] + m.entry) * inner + i);
}

/// Calls f(value), in double, for each element of a slice.
template <class T, class F> void each_value(ChannelSlice<T> slice, const F& f) {
    const T* const data = slice[0].variable.value().data();
    each_offset(slice, [&](Index offset) { f(static_cast<double>(data[offset])); });
}

/// What the rule makes of score(slice) of the channel's slices in these roles; NaN if there are none.
template <class T, class F>
double combined(const Channel<T>& channel, ChannelRoles roles, Combine rule, const F& score) {
    Combiner combiner(rule);
    each_slice(channel, roles, [&](ChannelSlice<T> slice) { combiner.add(score(slice)); });
    return combiner.value();
}

/// A score that is worked out at once, group by group, for criteria that compare channels or look at data:
/// `scores(group)` gives one number for each channel of the group, as a `std::vector<double>`.
/// @throws StateError, when asked for a channel of another graph
template <class T, class F> Score<T> score_groups(const ChannelGraph<T>& graph, const F& scores) {
    auto table = std::make_shared<std::unordered_map<std::size_t, double>>();
    for (const ChannelGroup<T>& group : graph.groups()) {
        const std::vector<double> of = scores(group);
        for (std::size_t c = 0; c < group.channels.size(); ++c) table->emplace(group.channels[c].id, of[c]);
    }
    return [table](const Channel<T>& channel) {
        const auto it = table->find(channel.id);
        expect<StateError>(it != table->end(), "Score: expected a channel of the graph that was prepared for, got ",
                           channel.members.empty() ? std::string("none") : channel.members[0].name);
        return it->second;
    };
}

namespace detail {

/// `name`, and what a criterion counts where that is not what it counts by default.
inline std::string criterion_name(std::string name, bool is_default, ChannelRoles roles, Combine rule) {
    return is_default ? std::move(name) : join_text(name, " of ", roles, ", ", rule);
}

} // namespace detail
} // namespace pruning

ESPALIER_COMPILED_CLASS(pruning::Criterion);

} // namespace espalier::inline ESPALIER_BACKEND
