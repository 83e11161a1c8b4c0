#include "networks.hpp"

#include <espalier/ops/math.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/soft_pruning.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/train/sgd.hpp>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;
using pruning::Zeroing;

namespace {
const Shape image{4, 4, 3};

template <class M> Tensor<float> logits(M& model) {
    const NoGrad no_grad;
    const ModeScope<float> scope(model, Mode::inference);
    return model.forward(Var<float>(random_tensor<float>({2, 4, 4, 3}, "images"))).value();
}
template <class M> void train(M& model, Optimizer<float>& optimizer) {
    model.clear_grad();
    const auto y = model.forward(Var<float>(random_tensor<float>({4, 4, 4, 3}, "images")));
    y.backward(random_tensor<float>(y.shape(), "dy"));
    optimizer.step();
}
double filter_norm(const Var<float>& weight, Index k) {
    double sum = 0;
    for (const float v : weight.value().rows(k, k + 1)) sum += std::abs(static_cast<double>(v));
    return sum;
}
} // namespace

TEST_CASE_TEMPLATE("soft_prune: the network answers as if it had been cut", M, Chain<float>, Residual<float>,
                   Concats<float>, Flattened<float>) {
    for (const Joins joins : {Joins::coupled, Joins::indexed}) {
        M model, cut;
        shake(model);
        shake(cut);
        const auto plan = pruning::plan(model, image, {.keep_channels = 0.6, .joins = joins});
        pruning::soft_prune(plan, model);
        pruning::apply(plan, cut);
        const PathScope path(Path::fixed_order); // where zeros change no bit
        CHECK(same_bits(logits(model), logits(cut)));
        CHECK(model.parameter_count() > cut.parameter_count());
    }
}

TEST_CASE("soft_prune: zeroed channels regrow from momentum, and a later plan may choose others") {
    Chain<float> model;
    shake(model);
    Sgd<float> optimizer(model, {.learning_rate = 0.1, .momentum = 0.9});
    train(model, optimizer);
    const auto plan = pruning::plan(model, image, {.keep_channels = 0.5});
    pruning::soft_prune(plan, model);
    const auto& kept = plan.group("a.conv").kept;
    for (Index k = 0; k < 8; ++k)
        CHECK((filter_norm(model.a.conv.weight, k) == 0) == !std::binary_search(kept.begin(), kept.end(), k));
    train(model, optimizer);
    for (Index k = 0; k < 8; ++k) CHECK(filter_norm(model.a.conv.weight, k) > 0);
}

TEST_CASE("soft_prune: without momentum only channels whose filter alone was zeroed regrow behind relu") {
    for (const Zeroing what : {Zeroing::channels, Zeroing::filters}) {
        Chain<float> model;
        shake(model);
        model.a.bn.beta.set_value(Tensor<float>::full({8}, 0.5f)); // a dead channel's relu is open
        Sgd<float> optimizer(model, {.learning_rate = 0.1});
        const auto plan = pruning::plan(model, image, {.keep_channels = 0.5});
        pruning::soft_prune(plan, model, what);
        const auto& kept = plan.group("a.conv").kept;
        train(model, optimizer);
        for (Index k = 0; k < 8; ++k)
            if (!std::binary_search(kept.begin(), kept.end(), k))
                CHECK((filter_norm(model.a.conv.weight, k) > 0) == (what == Zeroing::filters));
    }
}

TEST_CASE("soft_prune: bad plans change nothing") {
    Chain<float> model;
    Residual<float> other;
    const auto plan = pruning::plan(other, image, {.keep_channels = 0.5});
    const Tensor<float> before = model.a.conv.weight.value().clone();
    CHECK_THROWS_WITH_AS(pruning::soft_prune(plan, model), doctest::Contains("expected groups of this network"),
                         StateError);
    auto whole = pruning::plan(model, image, {.keep_channels = 0.5});
    for (auto& g : whole.groups)
        for (g.kept.clear(); Index(g.kept.size()) < g.width;) g.kept.push_back(Index(g.kept.size()));
    CHECK_THROWS_WITH_AS(pruning::soft_prune(whole, model),
                         "soft_prune: expected a plan that cuts channels, got one that keeps all", StateError);
    CHECK(same_bits(model.a.conv.weight.value(), before));
}
