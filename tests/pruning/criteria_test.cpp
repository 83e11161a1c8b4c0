#include "scores.hpp"

#include <espalier/ops/cross_entropy.hpp>
#include <espalier/pruning/criteria.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("criteria: each one plans, and its cut is certified", T, float, double) {
    const auto images = random_tensor<T>({8, 4, 4, 3});
    const pruning::BatchLoss<T> loss = [](const Var<T>& logits, Index) {
        return cross_entropy(logits, Tensor<Index>::from({8}, {0, 1, 2, 3, 0, 1, 2, 3}));
    };
    const GivenScores given{.scores = {{"one.a.conv.weight", {3, 1, 2, 6, 5, 4}}}};
    for (const pruning::Joins joins : {pruning::Joins::coupled, pruning::Joins::indexed})
        for (int number = 0; number < 12; ++number) {
            Residual<T> model;
            shake(model);
            const auto net = network(model);
            const std::vector<pruning::Criterion<T>> all{FilterNorm{.norm = SliceNorm::linf},
                                                         BatchNormScale{},
                                                         FoldedNorm{},
                                                         GeometricMedian{},
                                                         Lamp{},
                                                         RandomScore{},
                                                         given,
                                                         ActivationPeak<T>{net, {images}},
                                                         Apoz<T>{net, {images}},
                                                         ActivationRank<T>{net, {images}},
                                                         WeightTaylor<T>{net, {images}, loss},
                                                         ActivationTaylor<T>{net, {images}, loss}};
            const auto& criterion = all[static_cast<std::size_t>(number)];
            const double keep = criterion.name() == "given" ? 0.9 : 0.7; // a table for one layer of four
            const auto plan =
                pruning::plan(model, {4, 4, 3}, {.criterion = criterion, .keep_channels = keep, .joins = joins});
            CHECK(plan.criterion == criterion.name());
            for (const auto& group : plan.groups) // one whose scores a table has, or one that is never blocked
                if (group.name == "one.a.conv") CHECK_MESSAGE(group.scores.size() == 6, criterion.name());
            const auto certificate = pruning::apply(plan, model).certificate;
            CHECK_MESSAGE(certificate.holds(), criterion.name(), ": ", to_text(certificate));
        }
}
