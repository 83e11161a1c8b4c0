#include "planning.hpp"

#include <espalier/pruning/planner.hpp>

namespace espalier::programs {

pruning::Plan make_plan(models::Model<float>& net, const Shape& image, const Settings& settings,
                        const std::function<Tensor<float>()>& batch) {
    const auto plan = [&](pruning::Criterion<float> criterion) {
        return pruning::plan(net, image,
                             {.criterion = std::move(criterion),
                              .keep_channels = settings.keep_channels,
                              .keep_parameters = settings.keep_parameters,
                              .keep_macs = settings.keep_macs,
                              .threshold = settings.threshold,
                              .ranking = settings.ranking,
                              .normalization = settings.normalization,
                              .joins = settings.joins,
                              .minimum_width = settings.minimum_width,
                              .maximum_ratio = settings.maximum_ratio,
                              .round_to = settings.round_to});
    };
    if (settings.criterion == "l1") return plan(FilterNorm{1});
    if (settings.criterion == "l2") return plan(FilterNorm{2});
    if (settings.criterion == "batch-norm") return plan(BatchNormScale{});
    if (settings.criterion == "random") return plan(RandomScore{settings.seed});
    if (settings.criterion == "folded") return plan(FoldedNorm{});
    return plan(ActivationPeak{net, batch()}); // dead
}

} // namespace espalier::programs
