#include "planning.hpp"

#include <espalier/ops/cross_entropy.hpp>
#include <espalier/pruning/criteria.hpp>

namespace espalier::programs {

namespace {

pruning::Criterion<float> criterion_of(models::Model<float>& net, const Settings& settings,
                                       const std::function<Batch<float>()>& batch) {
    const std::string& name = settings.criterion;
    if (name == "l1") return FilterNorm{};
    if (name == "l2") return FilterNorm{.norm = SliceNorm::l2};
    if (name == "linf") return FilterNorm{.norm = SliceNorm::linf};
    if (name == "batch-norm") return BatchNormScale{};
    if (name == "folded") return FoldedNorm{};
    if (name == "geometric-median") return GeometricMedian{};
    if (name == "lamp") return Lamp{};
    if (name == "random") return RandomScore{settings.seed};

    const auto seen = network(net);
    const Batch<float> shown = batch();
    if (name == "dead") return ActivationPeak<float>{seen, {shown.images}};
    if (name == "apoz") return Apoz<float>{seen, {shown.images}};
    if (name == "rank") return ActivationRank<float>{seen, {shown.images}};
    const pruning::BatchLoss<float> loss = [labels = shown.labels](const Var<float>& logits, Index) {
        return cross_entropy(logits, labels);
    };
    if (name == "activation-taylor") return ActivationTaylor<float>{seen, {shown.images}, loss};
    return WeightTaylor<float>{seen, {shown.images}, loss}; // taylor
}

} // namespace

pruning::PlanOptions<float> plan_options(models::Model<float>& net, const Settings& settings,
                                         const std::function<Batch<float>()>& batch) {
    return {.criterion = criterion_of(net, settings, batch),
            .keep_channels = settings.keep_channels,
            .keep_parameters = settings.keep_parameters,
            .keep_macs = settings.keep_macs,
            .keep_latency = settings.keep_latency,
            .threshold = settings.threshold,
            .ranking = settings.ranking,
            .normalization = settings.normalization,
            .joins = settings.joins,
            .minimum_width = settings.minimum_width,
            .maximum_ratio = settings.maximum_ratio,
            .round_to = settings.round_to};
}

} // namespace espalier::programs
