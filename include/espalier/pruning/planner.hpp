#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/plan.hpp>
#include <espalier/pruning/plan_options.hpp>

#include <cmath>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

namespace detail {

/// Ranks once, then answers: what does the network look like when the lowest-ranked share is gone?
template <class T> class Planner {
public:
    Planner(const ChannelGraph<T>& graph, const Module<T>& model, const PlanOptions<T>& options)
        : graph_(graph), model_(model), options_(options),
          original_(options.original ? *options.original : original_of_graph(graph, model, options.latencies)) {
        const Score<T> score = options.criterion.prepare(graph);
        for (const ChannelGroup<T>& group : graph.groups()) rank(group, score);
        divide();
    }

    const Original& original() const { return original_; }
    /// Channels that take part, beside those of scopes with a ratio.
    Index candidates() const { return candidates_; }
    bool has_channels() const {
        return std::any_of(groups_.begin(), groups_.end(), [](const auto& g) { return !g.planned.blocked; });
    }
    /// Channels that are there and may be cut, as far as the graph is concerned.
    Index channels() const {
        Index n = 0;
        for (const ChannelGroup<T>& group : graph_.groups()) n += group.blocked.empty() ? group.width() : 0;
        return n;
    }

    /// The plan that asks for `count` of the candidates: the lowest of each pool, the same share of every pool.
    Plan cut(Index count, const Shape& image) const {
        std::vector<Index> asked(groups_.size(), 0);
        for (const Pool& pool : pools_) {
            const Index size = static_cast<Index>(pool.ranked.size());
            ask(pool, pool.ratio ? pool.fixed : size * count / std::max<Index>(1, candidates_), asked);
        }
        return plan_of(asked, image);
    }
    /// The plan that asks for every candidate below a threshold.
    Plan cut_below(double threshold, const Shape& image) const {
        std::vector<Index> asked(groups_.size(), 0);
        for (const Pool& pool : pools_) {
            const auto below = [&](const Candidate& c) { return c.score < threshold; };
            ask(pool, pool.ratio ? pool.fixed : std::count_if(pool.ranked.begin(), pool.ranked.end(), below), asked);
        }
        return plan_of(asked, image);
    }

private:
    struct Candidate {
        std::size_t group;
        double score;
    };
    /// Channels that compete with each other, lowest scores first.
    struct Pool {
        std::string name;
        std::optional<double> ratio; ///< share that goes whatever the target says
        Index fixed;                 ///< channels to ask for so that it does
        std::vector<Candidate> ranked;
    };
    struct Group {
        PlannedGroup planned;     ///< nothing cut yet
        std::vector<Index> order; ///< its channels, lowest scores first
        Index original;           ///< width before the first cut
        Index minimum;            ///< width to keep
        double maximum_ratio;     ///< of the original width
    };

    void rank(const ChannelGroup<T>& group, const Score<T>& score) {
        Group g{.planned = {.name = group.name,
                            .width = group.width(),
                            .kept = {},
                            .scores = {},
                            .note = group.blocked,
                            .blocked = !group.blocked.empty()},
                .order = {},
                .original = group.width(),
                .minimum = options_.minimum_width,
                .maximum_ratio = options_.maximum_ratio};
        for (Index c = 0; c < group.width(); ++c) g.planned.kept.push_back(c);
        g.order = g.planned.kept;
        if (!g.planned.blocked) {
            g.original = std::max(g.original, original_.width(group.name));
            std::vector<double>& scores = g.planned.scores;
            for (const Channel<T>& channel : group.channels) scores.push_back(score(channel));
            if (std::all_of(scores.begin(), scores.end(), [](double s) { return std::isfinite(s); })) {
                scores = normalized(std::move(scores), options_.normalization);
                std::stable_sort(g.order.begin(), g.order.end(), [&](Index a, Index b) {
                    return scores[static_cast<std::size_t>(a)] < scores[static_cast<std::size_t>(b)];
                });
            } else {
                g.planned.blocked = true;
                g.planned.note = "criterion " + options_.criterion.name() + " gives no score here";
                scores.clear();
            }
        }
        groups_.push_back(std::move(g));
    }

    void divide() {
        std::vector<const Scope*> scope_of(groups_.size(), nullptr);
        for (const Scope& scope : options_.scopes) {
            Pool pool{scope.groups, scope.ratio, 0, {}};
            bool any = false;
            for (std::size_t g = 0; g < groups_.size(); ++g) {
                const std::string& name = groups_[g].planned.name;
                if (!(scope.holds ? scope.holds(name) : matches(scope.groups, name))) continue;
                expect<StateError>(!scope_of[g], "plan: expected group '", name, "' in one scope, got it in '",
                                   scope_of[g] ? scope_of[g]->groups : "", "' and '", scope.groups, "'");
                scope_of[g] = &scope;
                any = true;
                groups_[g].minimum = scope.minimum_width.value_or(groups_[g].minimum);
                groups_[g].maximum_ratio = scope.maximum_ratio.value_or(groups_[g].maximum_ratio);
                add(pool, g, scope.ranking);
            }
            expect<StateError>(any, "plan: expected groups in scope '", scope.groups, "', got none of ", names());
            if (!pool.ranked.empty()) pools_.push_back(std::move(pool));
        }
        Pool rest{"", {}, 0, {}};
        for (std::size_t g = 0; g < groups_.size(); ++g)
            if (!scope_of[g]) add(rest, g, options_.ranking);
        if (!rest.ranked.empty()) pools_.push_back(std::move(rest));
        for (Pool& pool : pools_) {
            std::stable_sort(pool.ranked.begin(), pool.ranked.end(),
                             [](const Candidate& a, const Candidate& b) { return a.score < b.score; });
            if (pool.ratio)
                fix(pool);
            else
                candidates_ += static_cast<Index>(pool.ranked.size());
        }
    }
    /// Enters a group's channels: by score, or for a local ranking by their place among the group's own.
    void add(Pool& pool, std::size_t g, Ranking ranking) {
        const Group& group = groups_[g];
        if (group.planned.blocked) return;
        for (std::size_t i = 0; i < group.order.size(); ++i) {
            const double place = (static_cast<double>(i) + 1) / static_cast<double>(group.order.size());
            const auto channel = static_cast<std::size_t>(group.order[i]);
            pool.ranked.push_back({g, ranking == Ranking::global ? group.planned.scores[channel] : place});
        }
    }
    /// Finds how many channels a scope has to ask for so that its ratio goes although limits hold some back.
    void fix(Pool& pool) const {
        std::vector<Index> widths(groups_.size(), 0);
        Index before = 0;
        for (const Candidate& c : pool.ranked) widths[c.group] = groups_[c.group].original;
        for (const Index width : widths) before += width;
        // a ratio that means whole channels, such as 0.3 of 10, asks for no more because of rounding
        const auto wanted = static_cast<Index>(std::ceil(*pool.ratio * static_cast<double>(before) - 1e-9));
        const auto gone = [&](Index count) {
            std::vector<Index> asked(groups_.size(), 0);
            ask(pool, count, asked);
            Index n = 0;
            for (std::size_t g = 0; g < groups_.size(); ++g)
                if (widths[g] > 0) n += widths[g] - allowed_width(g, groups_[g].planned.width - asked[g]).first;
            return n;
        };
        Index low = 0, high = static_cast<Index>(pool.ranked.size());
        if (gone(high) < wanted) {
            std::string held;
            for (std::size_t g = 0; g < groups_.size(); ++g)
                if (widths[g] > 0)
                    held +=
                        join_text(held.empty() ? "" : "; ", groups_[g].planned.name, ": ", allowed_width(g, 0).second);
            throw StateError(join_text("plan: expected to cut ", *pool.ratio, " of the channels of scope '", pool.name,
                                       "', got ", static_cast<double>(gone(high)) / static_cast<double>(before),
                                       " at best (", held, ")"));
        }
        while (low < high) {
            const Index middle = (low + high) / 2;
            if (gone(middle) >= wanted)
                high = middle;
            else
                low = middle + 1;
        }
        pool.fixed = low;
    }
    static void ask(const Pool& pool, Index count, std::vector<Index>& asked) {
        for (Index i = 0; i < count; ++i) ++asked[pool.ranked[static_cast<std::size_t>(i)].group];
    }

    /// Width that a group keeps when the ranking would leave `wanted` channels, and what held it back.
    std::pair<Index, std::string> allowed_width(std::size_t g, Index wanted) const {
        const Group& group = groups_[g];
        const Index full = group.planned.width;
        const bool may_vanish = graph_.groups()[g].is_branch && wanted == 0;
        const Index least = may_vanish ? 0 : std::min(full, std::max<Index>(1, group.minimum));
        const auto most_gone = // 1e-9: 0.3 of 10 is 3, not 2.9999
            static_cast<Index>(std::floor(group.maximum_ratio * static_cast<double>(group.original) + 1e-9));
        const Index by_ratio = std::min(full, group.original - most_gone);
        const Index width = std::max({wanted, least, by_ratio});
        std::string note;
        if (width > wanted) note = by_ratio > least ? "maximum ratio" : "minimum width";
        const Index step = options_.round_to, rounded = std::min(full, (width + step - 1) / step * step);
        if (rounded > width) note += join_text(note.empty() ? "" : ", ", "rounded to ", step);
        return {rounded, note};
    }

    static bool all_equal(const std::vector<double>& scores) {
        return std::all_of(scores.begin(), scores.end(), [&](double s) { return s == scores.front(); });
    }
    /// Streams first: what goes of them takes channels of their branches along.
    Plan plan_of(const std::vector<Index>& asked, const Shape& image) const {
        const auto& groups = graph_.groups();
        Plan plan;
        plan.criterion = options_.criterion.name();
        plan.joins = options_.joins;
        plan.image = image;
        for (const Group& group : groups_) plan.groups.push_back(group.planned);
        Removal<T> streams(graph_);
        for (const bool branches : {false, true})
            for (std::size_t g = 0; g < groups.size(); ++g) {
                if (plan.groups[g].blocked || groups[g].is_branch != branches) continue;
                const std::vector<Index>& order = groups_[g].order;
                std::vector<Index> there;
                Index wanted = 0;
                for (std::size_t i = 0; i < order.size(); ++i)
                    if (!streams.removes(groups[g].channels[static_cast<std::size_t>(order[i])])) {
                        there.push_back(order[i]);
                        wanted += static_cast<Index>(i) >= asked[g] ? 1 : 0;
                    }
                const auto [allowed, note] = allowed_width(g, wanted);
                const Index most = static_cast<Index>(there.size()), step = options_.round_to;
                // where streams took more than rounding would keep, down to a multiple, if there is one
                const Index width = allowed <= most                            ? allowed
                                    : most == groups[g].width() || most < step ? most
                                                                               : most / step * step;
                std::vector<Index>& kept = plan.groups[g].kept;
                plan.groups[g].note = note;
                if (width > 0 && width < groups[g].width() && all_equal(plan.groups[g].scores))
                    plan.groups[g].note += join_text(note.empty() ? "" : ", ", "equal scores: the first go");
                kept.assign(there.end() - static_cast<std::ptrdiff_t>(width), there.end());
                std::sort(kept.begin(), kept.end());
                if (!branches)
                    for (Index c = 0; c < groups[g].width(); ++c)
                        if (!std::binary_search(kept.begin(), kept.end(), c))
                            streams.remove(groups[g].channels[static_cast<std::size_t>(c)]);
            }
        const Removal<T> gone = removal(plan, graph_);
        for (std::size_t g = 0; g < groups.size(); ++g) { // what died with a branch is part of what people read
            std::erase_if(plan.groups[g].kept,
                          [&](Index c) { return gone.removes(groups[g].channels[static_cast<std::size_t>(c)]); });
            if (!groups[g].is_branch && plan.groups[g].kept.empty()) plan.groups[g].note = "its branch is gone";
        }
        const auto before = [](const Var<T>& var) { return var.shape(); };
        const auto after = [&](const Var<T>& var) { return gone.shape_of(var); };
        plan.before = cost<T>(graph_.trace(), model_, before);
        plan.after = cost<T>(graph_.trace(), model_, after);
        if (options_.latencies) {
            plan.milliseconds_before = predicted_latency<T>(*options_.latencies, graph_.trace(), before);
            plan.milliseconds_after = predicted_latency<T>(*options_.latencies, graph_.trace(), after);
        }
        return plan;
    }

    std::string names() const {
        std::string all;
        for (const Group& g : groups_) all += (all.empty() ? "" : ", ") + g.planned.name;
        return all;
    }

    const ChannelGraph<T>& graph_;
    const Module<T>& model_;
    const PlanOptions<T>& options_;
    Original original_;
    std::vector<Group> groups_;
    std::vector<Pool> pools_;
    Index candidates_ = 0;
};

/// What a plan leaves of what its target is a share of.
template <class T> double share_left(const Plan& plan, const Planner<T>& planner, const PlanOptions<T>& o) {
    const Original& original = planner.original();
    if (o.keep_latency) return plan.milliseconds_after / original.milliseconds;
    const auto share = [](Index part, Index whole) { return static_cast<double>(part) / static_cast<double>(whole); };
    if (o.keep_macs) return share(plan.after.macs, original.cost.macs);
    if (o.keep_parameters) return share(plan.after.parameters, original.cost.parameters);
    return share(planner.channels() - plan.channels_cut(), original.channels);
}

template <class T> Plan choose(const Network<T>& net, const Shape& image, const PlanOptions<T>& options) {
    check_options(options);
    const DeviceScope<T> cpu(net.module, Device::cpu);
    const ChannelGraph<T> graph(trace_image(net, image), options.joins);
    const Planner<T> planner(graph, net.module, options);
    std::string blocked;
    const Plan most = planner.cut(planner.candidates(), image);
    for (const PlannedGroup& g : most.groups)
        if (!g.note.empty()) blocked += (blocked.empty() ? "" : "; ") + g.name + ": " + g.note;
    expect<StateError>(planner.has_channels(), "plan: expected channels that can be cut, got none (", blocked, ")");

    if (options.threshold) {
        Plan chosen = planner.cut_below(*options.threshold, image);
        expect<StateError>(chosen.channels_cut() > 0, "plan: expected scores below ", *options.threshold, ", got none");
        return chosen;
    }
    const auto [keep, what] = options.keep_macs         ? std::pair(options.keep_macs, "MACs")
                              : options.keep_parameters ? std::pair(options.keep_parameters, "parameters")
                              : options.keep_latency    ? std::pair(options.keep_latency, "predicted latency")
                                                        : std::pair(options.keep_channels, "channels");
    if (!keep) return planner.cut(0, image); // scopes say it all
    const double target = *keep;
    const auto left = [&](const Plan& plan) { return share_left(plan, planner, options); };
    const Plan none = planner.cut(0, image); // but what scopes fix
    expect<StateError>(none.channels_cut() > 0 || left(none) > target, "plan: expected to keep less of the ", what,
                       " than the ", left(none), " there is, got ", target, ": nothing to cut");
    // Cutting more never costs more, so bisection finds the fewest; but a measured latency may rise again where widths
    // become awkward, so there it only searches below the first of 64 even steps that reaches the target.
    const Index all = planner.candidates(), steps = options.keep_latency ? std::min<Index>(64, all) : 1;
    double best = left(none);
    Index low = 0, high = 0;
    for (Index step = 1; step <= steps && best > target; ++step) {
        low = high == 0 ? 0 : high + 1;
        high = all * step / steps;
        best = std::min(best, left(step == steps ? most : planner.cut(high, image)));
    }
    expect<StateError>(best <= target, "plan: expected to keep ", target, " of the ", what, ", got ", best,
                       " at best (", blocked, ")");
    while (low < high) {
        const Index middle = (low + high) / 2;
        if (left(planner.cut(middle, image)) <= target)
            high = middle;
        else
            low = middle + 1;
    }
    return planner.cut(low, image);
}

} // namespace detail

/// Ranks the channels of a model for images [H,W,C] and chooses the fewest that reach the target.
///
/// Minimum width, maximum ratio and rounding are solved together with the target: where they hold a group back, others
/// give more. The model is not changed; one on a GPU is planned on the CPU, so the batches of criteria that take some
/// are the CPU's, and it forgets its gradients. @throws ShapeError for options out of range; StateError if nothing can
/// be cut, if the target asks for no cut, or if it can't be met (the text says how close one can come and what is in
/// the way)
template <class M> Plan plan(M& model, const Shape& image, const PlanOptions<typename M::Scalar>& options) {
    return detail::choose(network(model), image, options);
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::choose);

} // namespace espalier::inline ESPALIER_BACKEND
