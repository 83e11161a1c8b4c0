// Channel groups, kept channels and pruned networks beside Torch-Pruning. compare_pruning.py drives it.
//
//   {"do": "load", "model": "resnet20", "shortcut": "projection", "path": "..."}   -> weights, images, labels, scores
//   and
//                                                                                     logits at `path`
//   {"do": "groups"}                             -> the channels of all groups that may be cut, milliseconds
//   {"do": "prune", "criterion": "l1", "rule": "theirs", "ranking": "local", "ratio": 0.5, "path": "..."}
//                                                -> weights and logits of the pruned network at `path`, milliseconds
//
// `rule` says whose formula a criterion takes: "ours" is the library's, "theirs" that of Torch-Pruning, written here as
// a criterion of a user.

#include "server.hpp"

#include <espalier/core/steady_clock.hpp>
#include <espalier/io/module_state.hpp>
#include <espalier/io/safetensors.hpp>
#include <espalier/models/create.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/ops/cross_entropy.hpp>
#include <espalier/pruning/criteria.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/tensor/random.hpp>

#include <map>
#include <memory>
#include <optional>

namespace espalier::bench {
namespace {

using Graph = pruning::ChannelGraph<float>;

/// As Torch-Pruning calls them.
const std::map<std::string, pruning::Normalization> normalizations{{"none", pruning::Normalization::none},
                                                                   {"mean", pruning::Normalization::mean},
                                                                   {"max", pruning::Normalization::max},
                                                                   {"sum", pruning::Normalization::sum},
                                                                   {"standarization", pruning::Normalization::standard},
                                                                   {"gaussian", pruning::Normalization::gaussian}};

/// Torch-Pruning's criteria do not count depthwise filters.
bool is_depthwise(const Var<float>& w) { return w.rank() == 4 && w.size(3) == 1 && w.size(0) > 1; }

/// A criterion that does not see them.
struct WithoutDepthwise {
    pruning::Criterion<float> criterion;
    std::string name() const { return criterion.name(); }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        return [score = criterion.prepare(graph)](const pruning::Channel<T>& channel) {
            pruning::Channel<T> seen{{}, channel.id};
            for (const auto& m : channel.members)
                if (!is_depthwise(m.variable)) seen.members.push_back(m);
            return score(seen);
        };
    }
};

/// Torch-Pruning's FPGM: distances between the squares of weights, not between weights, and those of what eats the
/// channel as well.
struct SquaredMedian {
    std::string name() const { return "distances of squares"; }
    template <class T> pruning::Score<T> prepare(const pruning::ChannelGraph<T>& graph) const {
        const ChannelRoles roles{ChannelRole::makes, ChannelRole::eats};
        auto scores = std::make_shared<std::map<std::size_t, double>>();
        for (const auto& group : graph.groups()) {
            std::vector<std::vector<std::vector<double>>> points; // of each slice, for each channel its elements
            for (const auto& channel : group.channels) {
                std::size_t s = 0;
                each_slice(channel, roles, [&](pruning::ChannelSlice<T> slice) {
                    if (is_depthwise(slice[0].variable)) return;
                    if (s == points.size()) points.emplace_back();
                    auto& point = points[s++].emplace_back();
                    each_value(slice, [&](double v) { point.push_back(v * v); });
                });
            }
            for (const auto& of_slice : points) {
                const std::vector<double> sums = pruning::distance_sums(of_slice);
                for (std::size_t c = 0; c < sums.size(); ++c) (*scores)[group.channels[c].id] += sums[c];
            }
        }
        return [scores](const pruning::Channel<T>& channel) { return scores->at(channel.id); };
    }
};

/// A network with images, and its unpruned state to begin from again.
class Task {
public:
    explicit Task(const Json& request)
        : model_(request.at("model")),
          options_({.seed = 1,
                    .shortcut = request.value("shortcut", "padded") == "projection" ? models::Shortcut::projection
                                                                                    : models::Shortcut::padded}) {
        const auto net = models::create<float>(model_, options_);
        for (const auto& list : {net->parameters(), net->buffers()}) // as after training: nothing is one or zero
            for (const auto& [name, var] : list) {
                Var<float> variable = var;
                const bool positive = name.ends_with(".gamma") || name.ends_with(".running_var");
                if (var.rank() == 1 || name.starts_with("linear."))
                    variable.set_value(
                        uniform<float>(var.shape(), Random(2, name), positive ? 0.5 : -0.5, positive ? 1.5 : 0.5));
            }
        TensorFile file;
        images_ = normal<float>({16, 32, 32, 3}, Random(1, "images"));
        labels_ = Tensor<Index>({16});
        for (Index n = 0; n < 16; ++n) labels_.mutable_data()[n] = n % net->options().classes;
        file.add("images", images_);
        file.add("labels", labels_);
        const Graph graph = pruning::channel_graph(*net, image_);
        for (const auto& group : graph.groups())
            for (const auto& m : group.channels[0].members)
                if (m.role == ChannelRole::makes && given_.scores.count(m.name) == 0) {
                    const Tensor<float> scores = uniform<float>({m.variable.size(m.axis)}, Random(3, m.name));
                    given_.scores[m.name] = std::vector<double>(scores.begin(), scores.end());
                    file.add("scores:" + m.name, scores);
                }
        save_state(file, *net, "");
        file.add("logits", logits(*net));
        write_safetensors(file, request.at("path").get<std::string>());
        save_state(state_, *net, "");
    }

    Json groups() const {
        const auto net = dense();
        const double start = steady_seconds();
        const Graph graph = pruning::channel_graph(*net, image_);
        const double passed = steady_seconds() - start;
        Json channels = Json::array();
        Index groups = 0;
        for (const auto& group : graph.groups()) {
            if (!group.blocked.empty()) continue;
            ++groups;
            for (const auto& channel : group.channels) {
                Json members = Json::array();
                for (const auto& m : channel.members) members.push_back({m.name, m.axis, m.entry});
                channels.push_back(std::move(members));
            }
        }
        return {{"channels", std::move(channels)}, {"groups", groups}, {"ms", 1e3 * passed}};
    }

    Json prune(const Json& request) const {
        const auto net = dense();
        const double ratio = request.at("ratio").get<double>();
        pruning::PlanOptions<float> options{.criterion = criterion(request.at("criterion"), request.at("rule"), *net)};
        options.normalization = normalizations.at(request.value("normalization", "mean"));
        // Winograd's larger rounding takes some rectifiers across zero, and each switches a whole gradient.
        auto path = std::make_optional<PathScope>(Path::precise);
        const double start = steady_seconds();
        if (request.at("ranking") == "global") {
            options.keep_channels = 1 - ratio;
        } else { // each group for itself
            const Graph graph = pruning::channel_graph(*net, image_);
            for (const auto& group : graph.groups())
                if (group.blocked.empty()) options.scopes.push_back({.groups = group.name, .ratio = ratio});
        }
        const pruning::Plan plan = pruning::plan(*net, image_, options);
        const double planned = steady_seconds();
        path.reset();
        const auto cut = pruning::apply(plan, *net);
        const double applied = steady_seconds();
        TensorFile file;
        save_state(file, *net, "");
        file.add("logits", logits(*net));
        write_safetensors(file, request.at("path").get<std::string>());
        return {{"parameters", net->parameter_count()},
                {"channels", plan.channels_cut()},
                {"certificate", cut.certificate.holds()},
                {"plan_ms", 1e3 * (planned - start)},
                {"apply_ms", 1e3 * (applied - planned)}};
    }

private:
    std::shared_ptr<models::Model<float>> dense() const {
        const auto net = models::create<float>(model_, options_);
        load_state(state_, *net, "");
        net->eval();
        return net;
    }
    Tensor<float> logits(models::Model<float>& net) const {
        const NoGrad no_grad;
        const ModeScope<float> scope(net, Mode::inference);
        return net.forward(Var<float>(images_)).logits.value();
    }
    /// A criterion by the library's formula, or by the one that Torch-Pruning's class of that purpose has: there,
    /// layers that eat the channel and batch norms count as well, and the norm is not taken to the root. It takes the
    /// mean over layers where this takes the sum, which is the same once the scores of a group are divided by their
    /// mean.
    pruning::Criterion<float> criterion(const std::string& name, const std::string& rule,
                                        models::Model<float>& net) const {
        const ChannelRoles linked{ChannelRole::makes, ChannelRole::eats};
        const ChannelRoles all{ChannelRole::makes, ChannelRole::eats, ChannelRole::scales};
        const bool theirs = rule == "theirs";
        if (name == "given") return given_;
        if (name == "bn scale") return BatchNormScale{};
        if (name == "fpgm" && theirs) return SquaredMedian{};
        if (name == "fpgm") return GeometricMedian{};
        if (name == "taylor") {
            const auto loss = [labels = labels_](const Var<float>& logits, Index) {
                return cross_entropy(logits, labels);
            };
            WeightTaylor<float> taylor{network(net), {images_}, loss};
            if (theirs) taylor.sum = TaylorSum::absolute, taylor.roles = linked, taylor.combine = Combine::sum;
            return taylor;
        }
        expect(name == "l1" || name == "l2", "pruning: expected a criterion of this program, got ", name);
        if (!theirs) return FilterNorm{name == "l1" ? SliceNorm::l1 : SliceNorm::l2};
        return WithoutDepthwise{FilterNorm{name == "l1" ? SliceNorm::l1 : SliceNorm::squared_l2, all, Combine::sum}};
    }

    std::string model_;
    models::Options options_;
    Shape image_{32, 32, 3};
    Tensor<float> images_;
    Tensor<Index> labels_;
    TensorFile state_;  ///< not pruned
    GivenScores given_; ///< drawn at random
};

} // namespace
} // namespace espalier::bench

int main() {
    using namespace espalier::bench;
    std::unique_ptr<Task> task;
    const auto load = [&](const Json& request) {
        task = std::make_unique<Task>(request);
        return Json::object();
    };
    const auto groups = [&](const Json&) { return task->groups(); };
    const auto prune = [&](const Json& request) { return task->prune(request); };
    return serve({{"load", load}, {"groups", groups}, {"prune", prune}});
}
