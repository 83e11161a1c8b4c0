#include "training.hpp"

#include <espalier/pruning/coupled_channels.hpp>
#include <espalier/regularizers/feature_flow.hpp>
#include <espalier/regularizers/group_sparsity.hpp>
#include <espalier/regularizers/penalties.hpp>
#include <espalier/train/adam.hpp>
#include <espalier/train/sgd.hpp>

#include <algorithm>

namespace espalier::programs {

Schedule schedule_of(const Settings& s, double lr, Index steps) {
    if (s.schedule == "cosine") return schedules::cosine({.learning_rate = lr, .steps = steps});
    if (s.schedule == "multi-step")
        return schedules::multi_step({.learning_rate = lr, .milestones = {steps / 2, steps * 3 / 4}});
    if (s.schedule == "constant") return schedules::constant(lr);
    const Index whole = std::max<Index>(2, steps);
    const double rising = whole > 5 ? 0.2 : 1.5 / static_cast<double>(whole); // beyond the first step in any case
    return schedules::one_cycle({.learning_rate = lr, .steps = whole, .rising = rising});
}

std::unique_ptr<Optimizer<float>> optimizer_of(const Settings& s, const models::Model<float>& net, double lr) {
    if (s.optimizer == "sgd")
        return std::make_unique<Sgd<float>>(
            net, SgdOptions{.learning_rate = lr,
                            .momentum = s.momentum,
                            .form = s.momentum > 0 ? Momentum::nesterov : Momentum::classical,
                            .weight_decay = s.weight_decay});
    const DecayForm form = s.optimizer == "adamw" ? DecayForm::decoupled : DecayForm::gradient;
    return std::make_unique<Adam<float>>(
        net, AdamOptions{.learning_rate = lr, .form = form, .weight_decay = s.weight_decay});
}

Regularizer regularizer_of(const Settings& s, models::Model<float>& net, const Shape& image) {
    CoupledChannels<float> channels;
    if (s.group_sparsity > 0) channels = pruning::coupled_channels(pruning::channel_graph(net, image, s.joins));
    return
        [&s, &net, flow = FeatureFlow(s.ffr, s.ffr_warm_up), channels](const models::Output<float>& out, Index step) {
            Var<float> sum;
            const auto add_term = [&](double weight, const auto& term) {
                if (weight <= 0) return;
                const Var<float> weighted = scale(term(), weight);
                sum = sum.defined() ? sum + weighted : weighted;
            };
            if (s.ffr.gradient > 0 || s.ffr.curvature > 0) sum = flow(out.flow, step);
            add_term(s.l1, [&] { return l1_penalty(weights_of(net)); });
            add_term(s.l2, [&] { return squared_l2_penalty(weights_of(net)); });
            add_term(s.batch_norm_l1, [&] { return batch_norm_scale_penalty(net); });
            add_term(s.group_lasso, [&] { return group_lasso(net); });
            add_term(channels.axes.empty() ? 0 : s.group_sparsity, [&] { return group_sparsity(channels); });
            return sum;
        };
}

} // namespace espalier::programs
