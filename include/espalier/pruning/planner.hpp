#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/criteria.hpp>
#include <espalier/pruning/plan.hpp>

#include <cmath>
#include <optional>

namespace espalier::inline ESPALIER_BACKEND {
namespace pruning {

/// Whether channels compete with those of all groups or each group loses the same share.
enum class Ranking { global, local };

/// How scores of different groups are made comparable for a global ranking.
enum class Normalization {
    none, ///< as they are
    mean, ///< divided by the group's mean
    max,  ///< divided by the group's maximum: a threshold of 0.01 is then 1 % of the layer's largest
};

/// What to cut. Exactly one target is set; every `keep_...` is a share in [0, 1] of what the network has now.
template <class T> struct PlanOptions {
    Criterion<T> criterion = FilterNorm{};             ///< what a channel is worth
    std::optional<double> keep_channels = {};          ///< of all channels that may be cut
    std::optional<double> keep_parameters = {};        ///< of the network's parameters
    std::optional<double> keep_macs = {};              ///< of the network's multiply-adds
    std::optional<double> threshold = {};              ///< cut every channel whose (normalized) score is below
    Ranking ranking = Ranking::global;                 ///< who competes with whom
    Normalization normalization = Normalization::mean; ///< of the scores of each group
    Joins joins = Joins::coupled;                      ///< how residual joins couple channels
    Index minimum_width = 1;  ///< channels that every group keeps; ends of indexed branches may lose all
    double maximum_ratio = 1; ///< largest share of a group that may go, in [0, 1]
    Index round_to = 1;       ///< widths are rounded up to a multiple, never beyond what is there and never to 0
};

namespace detail {

struct Candidate {
    std::size_t group;
    Index channel;
    double score;
};

/// Ranks once, then answers: what does the network look like when the lowest-ranked share is gone?
template <class T> class Planner {
public:
    Planner(const ChannelGraph<T>& graph, const Module<T>& model, const PlanOptions<T>& options)
        : graph_(graph), model_(model), options_(options) {
        const Score<T> score = options.criterion.prepare(graph);
        for (std::size_t g = 0; g < graph.groups().size(); ++g) rank(g, score);
        std::stable_sort(ranked_.begin(), ranked_.end(),
                         [](const auto& a, const auto& b) { return a.score < b.score; });
    }

    Index candidates() const { return static_cast<Index>(ranked_.size()); }

    /// The plan that asks for `count` channels: the lowest `count` of all, or that share of each group.
    Plan cut(Index count, const Shape& image) const {
        const auto& groups = graph_.groups();
        std::vector<Index> asked(groups.size(), 0);
        if (options_.ranking == Ranking::global) {
            for (Index i = 0; i < count; ++i) ++asked[ranked_[static_cast<std::size_t>(i)].group];
        } else {
            for (std::size_t g = 0; g < groups.size(); ++g)
                if (!planned_[g].blocked) asked[g] = groups[g].width() * count / std::max<Index>(1, candidates());
        }
        Plan plan;
        plan.criterion = options_.criterion.name();
        plan.joins = options_.joins;
        plan.image = image;
        plan.groups = planned_;
        for (std::size_t g = 0; g < groups.size(); ++g) {
            if (planned_[g].blocked) continue;
            const auto [width, note] = allowed_width(groups[g], asked[g]);
            plan.groups[g].note = note;
            plan.groups[g].kept.assign(order_[g].end() - static_cast<std::ptrdiff_t>(width), order_[g].end());
            std::sort(plan.groups[g].kept.begin(), plan.groups[g].kept.end());
        }
        const Removal<T> gone = removal(plan, graph_);
        for (std::size_t g = 0; g < groups.size();
             ++g) { // what died with a branch is part of the plan that people read
            std::erase_if(plan.groups[g].kept,
                          [&](Index c) { return gone.removes(groups[g].channels[static_cast<std::size_t>(c)]); });
            if (!groups[g].is_branch && plan.groups[g].kept.empty()) plan.groups[g].note = "its branch is gone";
        }
        plan.before = cost<T>(graph_.trace(), model_, [](const Var<T>& var) { return var.shape(); });
        plan.after = cost<T>(graph_.trace(), model_, [&](const Var<T>& var) { return gone.shape_of(var); });
        return plan;
    }
    /// Number of candidates whose score is below a threshold.
    Index below(double threshold) const {
        return std::count_if(ranked_.begin(), ranked_.end(), [&](const auto& c) { return c.score < threshold; });
    }

private:
    void rank(std::size_t g, const Score<T>& score) {
        const ChannelGroup<T>& group = graph_.groups()[g];
        PlannedGroup planned{.name = group.name,
                             .width = group.width(),
                             .kept = {},
                             .scores = {},
                             .note = group.blocked,
                             .blocked = !group.blocked.empty()};
        for (Index c = 0; c < group.width(); ++c) planned.kept.push_back(c);
        if (!planned.blocked) {
            double sum = 0, largest = 0;
            for (const Channel<T>& channel : group.channels) {
                planned.scores.push_back(score(channel));
                sum += planned.scores.back();
                largest = std::max(largest, planned.scores.back());
            }
            if (!std::isfinite(sum)) {
                planned.blocked = true;
                planned.note = "criterion " + options_.criterion.name() + " gives no score here";
                planned.scores.clear();
            } else {
                double unit =
                    options_.normalization == Normalization::mean ? sum / static_cast<double>(group.width()) : largest;
                if (options_.normalization == Normalization::none || unit <= 0) unit = 1;
                for (double& s : planned.scores) s /= unit;
            }
        }
        std::vector<Index> order = planned.kept;
        if (!planned.blocked) {
            std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
                return planned.scores[static_cast<std::size_t>(a)] < planned.scores[static_cast<std::size_t>(b)];
            });
            for (const Index c : order) ranked_.push_back({g, c, planned.scores[static_cast<std::size_t>(c)]});
        }
        order_.push_back(std::move(order));
        planned_.push_back(std::move(planned));
    }

    /// Width a group keeps when `asked` channels should go, and what held it back.
    std::pair<Index, std::string> allowed_width(const ChannelGroup<T>& group, Index asked) const {
        const Index full = group.width(), wanted = full - asked;
        const Index least = std::min(full, group.is_branch ? Index(0) : std::max<Index>(1, options_.minimum_width));
        const Index by_ratio =
            full - static_cast<Index>(std::floor(options_.maximum_ratio * static_cast<double>(full) + 1e-9));
        Index width = std::max({wanted, least, by_ratio});
        std::string note;
        if (width > wanted) note = by_ratio > least ? "maximum ratio" : "minimum width";
        const Index rounded = std::min(full, (width + options_.round_to - 1) / options_.round_to * options_.round_to);
        if (rounded > width) note = join_text("rounded to ", options_.round_to);
        return {rounded, note};
    }

    const ChannelGraph<T>& graph_;
    const Module<T>& model_;
    const PlanOptions<T>& options_;
    std::vector<PlannedGroup> planned_;
    std::vector<std::vector<Index>> order_; // channels of each group, least important first
    std::vector<Candidate> ranked_;         // all of them, likewise
};

template <class T> void check_options(const PlanOptions<T>& o) {
    const int targets = int(o.keep_channels.has_value()) + int(o.keep_parameters.has_value()) +
                        int(o.keep_macs.has_value()) + int(o.threshold.has_value());
    expect(targets == 1, "plan: expected exactly one of keep_channels, keep_parameters, keep_macs, threshold; got ",
           targets);
    for (const auto& keep : {o.keep_channels, o.keep_parameters, o.keep_macs})
        expect(!keep || (*keep >= 0 && *keep <= 1), "plan: expected a share to keep in [0,1], got ", keep.value_or(0));
    expect(o.maximum_ratio >= 0 && o.maximum_ratio <= 1, "plan: expected maximum_ratio in [0,1], got ",
           o.maximum_ratio);
    expect(o.minimum_width >= 1, "plan: expected minimum_width of at least 1, got ", o.minimum_width);
    expect(o.round_to >= 1, "plan: expected round_to of at least 1, got ", o.round_to);
}

template <class T> Plan choose(const Network<T>& net, const Shape& image, const PlanOptions<T>& options) {
    check_options(options);
    const ChannelGraph<T> graph(trace_image(net, image), options.joins);
    const Planner<T> planner(graph, net.module, options);
    std::string blocked;
    const Plan most = planner.cut(planner.candidates(), image);
    for (const PlannedGroup& g : most.groups)
        if (g.blocked || !g.note.empty()) blocked += (blocked.empty() ? "" : "; ") + g.name + ": " + g.note;
    expect<StateError>(planner.candidates() > 0, "plan: expected channels that can be cut, got none (", blocked, ")");

    Plan chosen;
    if (options.threshold) {
        expect(options.ranking == Ranking::global, "plan: expected a global ranking with a threshold, got a local one");
        chosen = planner.cut(planner.below(*options.threshold), image);
        expect<StateError>(chosen.channels_cut() > 0, "plan: expected scores below ", *options.threshold, ", got none");
        return chosen;
    }
    const auto left = [&](const Plan& p) {
        const auto share = [](Index part, Index whole) {
            return static_cast<double>(part) / static_cast<double>(whole);
        };
        if (options.keep_macs) return share(p.after.macs, p.before.macs);
        if (options.keep_parameters) return share(p.after.parameters, p.before.parameters);
        return share(planner.candidates() - p.channels_cut(), planner.candidates());
    };
    const double target = options.keep_macs         ? *options.keep_macs
                          : options.keep_parameters ? *options.keep_parameters
                                                    : *options.keep_channels;
    const std::string what = options.keep_macs ? "MACs" : options.keep_parameters ? "parameters" : "channels";
    expect<StateError>(target < 1, "plan: expected a share of ", what, " below 1 to keep, got ", target,
                       ": nothing to cut");
    expect<StateError>(left(most) <= target, "plan: expected to keep ", target, " of the ", what, ", got ", left(most),
                       " at best (", blocked, ")");
    Index low = 0, high = planner.candidates(); // cutting more never costs more, so bisection finds the fewest
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
/// give more. The model is not changed. @throws ShapeError for options out of range; StateError if nothing can be cut,
/// if the target asks for no cut, or if it can't be met (the text says how close one can come and what is in the way)
template <class M> Plan plan(M& model, const Shape& image, const PlanOptions<typename M::Scalar>& options) {
    return detail::choose(network(model), image, options);
}

} // namespace pruning

ESPALIER_COMPILED_FUNCTION(pruning::detail::choose);

} // namespace espalier::inline ESPALIER_BACKEND
