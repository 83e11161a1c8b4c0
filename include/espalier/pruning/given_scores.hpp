#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/random.hpp>
#include <espalier/pruning/criterion.hpp>

#include <limits>
#include <map>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning::detail {

template <class T> Score<T> score_at_random(std::uint64_t seed) {
    return [seed](const Channel<T>& channel) {
        return combined(channel, {ChannelRole::makes}, Combine::first, [seed](ChannelSlice<T> slice) {
            return Random(seed, slice[0].name).uniform(static_cast<std::uint64_t>(slice[0].entry));
        });
    };
}

using ScoreTable = std::map<std::string, std::vector<double>>;

template <class T>
Score<T> score_by_table(const ChannelGraph<T>& graph, const std::shared_ptr<const ScoreTable>& table, Combine rule) {
    std::map<std::string, Index> filters; // of each weight that makes channels
    for (const ChannelGroup<T>& group : graph.groups())
        for (const auto& m : group.channels[0].members)
            if (m.role == ChannelRole::makes) filters.emplace(m.name, m.variable.size(m.axis));
    std::string known;
    for (const auto& [name, count] : filters) known += (known.empty() ? "" : ", ") + name;
    for (const auto& [name, scores] : *table) {
        const auto it = filters.find(name);
        expect<StateError>(it != filters.end(), "GivenScores: expected weights that make channels (", known, "), got ",
                           name);
        expect(static_cast<Index>(scores.size()) == it->second, "GivenScores: expected ", it->second, " scores for ",
               name, ", got ", scores.size());
    }
    return [table, rule](const Channel<T>& channel) {
        Combiner combiner(rule);
        each_slice(channel, {ChannelRole::makes}, [&](ChannelSlice<T> slice) {
            if (const auto it = table->find(slice[0].name); it != table->end())
                for (const auto& m : slice) combiner.add(it->second[static_cast<std::size_t>(m.entry)]);
        });
        return combiner.value();
    };
}

} // namespace pruning::detail

/// Random scores in [0, 1): the control that every criterion has to beat.
struct RandomScore {
    std::uint64_t seed = 1; ///< of the draws

    /// As of every criterion. One draw a channel, which depends on the seed and on name and entry of the first weight
    /// that makes it.
    /// @{
    std::string name() const { return "random"; }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>&) const {
        return pruning::detail::score_at_random<T>(seed);
    }
    /// @}
};

/// Scores that come from somewhere else: another tool, a file, a search.
struct GivenScores {
    std::map<std::string, std::vector<double>> scores = {}; ///< by the name of a weight, one for each of its filters
    Combine combine = Combine::mean;                        ///< of the filters of a channel that have scores
    std::string label = "given";                            ///< what plans call it

    /// As of every criterion. NaN for a channel none of whose weights is in the table.
    /// @throws StateError for a name that is no weight that makes channels; ShapeError if the number of scores is not
    /// that of its filters; when prepared
    /// @{
    std::string name() const { return label; }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return pruning::detail::score_by_table(graph, std::make_shared<const pruning::detail::ScoreTable>(scores),
                                               combine);
    }
    /// @}
};

ESPALIER_COMPILED_FUNCTION(pruning::detail::score_at_random);
ESPALIER_COMPILED_FUNCTION(pruning::detail::score_by_table);

} // namespace espalier::inline ESPALIER_BACKEND
