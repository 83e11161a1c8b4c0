// What a certificate says, without its help: each network is compared, bit for bit, with one that the test masks by
// hand.
#include <espalier/pruning/certificate.hpp>

#include "logits.hpp"

#include <espalier/pruning/planner.hpp>

#include <limits>
#include <numeric>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;

namespace {

/// Zeroes entry `entry` of the first axis of a variable of a model: the test's own mask.
template <class T> void zero(const Module<T>& model, const std::string& name, Index entry) {
    Var<T> v = model.find(name);
    const Index inner = v.size() / v.size(0);
    std::fill_n(v.mutable_value().mutable_data() + entry * inner, inner, T(0));
}
template <class T> void zero_conv_bn(const Module<T>& model, const std::string& prefix, Index entry) {
    zero(model, prefix + ".conv.weight", entry);
    for (const char* name : {".bn.gamma", ".bn.beta", ".bn.running_mean"}) zero(model, prefix + name, entry);
}

} // namespace

TEST_CASE("surgery 1: concat of a tensor with itself, of concats, then batch norm") {
    Concats<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, small_image, {.keep_channels = 0.99});
    for (auto& g : plan.groups)
        if (!g.blocked) g.kept = {0, 2, 3};
    CHECK(plan.group("a.conv").width == 5);
    CHECK(plan.group("b.conv").width == 4);
    pruning::apply(plan, model);
    CHECK(model.bn.gamma.shape() == Shape{9});
    CHECK(model.c.conv.weight.shape() == Shape{3, 3, 3, 9});
    for (const Index gone : {1, 4}) {
        zero_conv_bn<float>(masked, "a", gone);
        for (const Index copy : {0, 5})
            for (const char* name : {"bn.gamma", "bn.beta", "bn.running_mean"}) zero<float>(masked, name, gone + copy);
    }
    zero_conv_bn<float>(masked, "b", 1);
    for (const char* name : {"bn.gamma", "bn.beta", "bn.running_mean"}) zero<float>(masked, name, 11);
    for (const Index gone : {1, 4, 5}) zero_conv_bn<float>(masked, "c", gone);
    CHECK(same_bits(logits(model), logits(masked)));
}

TEST_CASE("surgery 3: a group convolution loses the same channels and filters in each group") {
    Grouped<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, small_image, {.keep_channels = 0.99});
    CHECK(plan.group("stem.conv").width == 2);    // channels 0 and 2, 1 and 3
    CHECK(plan.group("grouped.conv").width == 3); // filters 0 and 3, 1 and 4, 2 and 5
    plan.group("stem.conv").kept = {0, 1};
    plan.group("grouped.conv").kept = {0, 2};
    plan.group("last.conv").kept = {0, 1, 2, 3, 4};
    pruning::apply(plan, model);
    CHECK(model.grouped.conv.weight.shape() == Shape{4, 3, 3, 2});
    CHECK(model.last.conv.weight.size(3) == 4);
    for (const Index gone : {1, 4}) zero_conv_bn<float>(masked, "grouped", gone);
    CHECK(same_bits(logits(model), logits(masked)));

    // The stem as well: one channel a group is left, and a group is then what a channel takes along.
    auto second = pruning::plan(model, small_image, {.keep_channels = 0.99});
    second.group("stem.conv").kept = {0};
    second.group("grouped.conv").kept = {0, 1};
    second.group("last.conv").kept = {0, 1, 2, 3, 4};
    pruning::apply(second, model);
    CHECK(model.grouped.conv.weight.shape() == Shape{4, 3, 3, 1});
    for (const Index gone : {1, 3}) zero_conv_bn<float>(masked, "stem", gone);
    CHECK(same_bits(logits(model), logits(masked)));
    auto third = pruning::plan(model, small_image, {.keep_channels = 0.99});
    CHECK(third.groups.size() == 3); // the stem's two channels, each with two filters of the group convolution
    third.group("stem.conv").kept = {1};
    third.group("last.conv").kept = {0, 1, 2, 3, 4};
    pruning::apply(third, model);
    CHECK(model.grouped.conv.weight.shape() == Shape{2, 3, 3, 1});
    zero_conv_bn<float>(masked, "stem", 0);
    for (const Index gone : {0, 1, 2}) zero_conv_bn<float>(masked, "grouped", gone);
    CHECK(same_bits(logits(model), logits(masked)));
}

TEST_CASE("surgery 6: a flattened channel takes all its columns along") {
    Flattened<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, small_image, {.keep_channels = 0.99});
    for (auto& g : plan.groups)
        if (!g.blocked) g.kept = {1, 2, 4};
    pruning::apply(plan, model);
    CHECK(model.hidden.weight.shape() == Shape{3, 48});
    for (const Index gone : {0, 3, 5}) zero_conv_bn<float>(masked, "a", gone);
    for (const Index gone : {0, 3, 5, 6, 7, 8, 9}) {
        zero<float>(masked, "hidden.weight", gone);
        zero<float>(masked, "hidden.bias", gone);
    }
    CHECK(same_bits(logits(model), logits(masked)));
}

TEST_CASE("surgery: a split follows the channels of its ranges; sliced by numbers they stay") {
    Divided<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, small_image, {.keep_channels = 0.99});
    REQUIRE(plan.group("stem.conv").width == 4);   // eaten by a
    REQUIRE(plan.group("stem.conv#2").width == 4); // map and gate: one product
    plan.group("stem.conv").kept = {0, 3};
    plan.group("stem.conv#2").kept = {1, 2, 3};
    for (const char* const name : {"a.conv", "b.conv"}) {
        auto& kept = plan.group(name).kept;
        kept.resize(static_cast<std::size_t>(plan.group(name).width));
        std::iota(kept.begin(), kept.end(), Index(0));
    }
    const auto result = pruning::apply(plan, model);
    CHECK_MESSAGE(result.certificate.holds(), to_text(result.certificate));
    std::vector<std::vector<Index>> kept;
    for (const auto& [name, join] : model.joins()) kept.push_back(join->kept);
    CHECK(kept == std::vector<std::vector<Index>>{{0, 1}, {2, 3, 4, 5, 6, 7}, {0, 1, 2}, {3, 4, 5}});
    CHECK(model.stem.conv.weight.size(0) == 8);
    for (const Index gone : {1, 2, 4, 8}) zero_conv_bn<float>(masked, "stem", gone);
    CHECK(same_bits(logits(model), logits(masked)));

    struct Sliced : Module<float> {
        ConvBn<float> a = child("a", ConvBn<float>(3, 6)), b = child("b", ConvBn<float>(3, 5));
        Linear<float> head = child("head", Linear<float>({.in = 5, .out = 4}));
        Var<float> forward(const Var<float>& x) {
            return head.forward(global_avg_pool(b.forward(slice(a.forward(x), -1, 0, 3))));
        }
    } sliced;
    const auto most = pruning::plan(sliced, small_image, {.keep_channels = 0.9});
    CHECK(most.group("a.conv").note == "slice of channels by fixed numbers (es::ChannelSplit follows a cut)");
    CHECK(most.group("b.conv").cut() > 0);
}

TEST_CASE("surgery 14: masked and pruned agree bit for bit, and do not when batch norm's shift is left out") {
    Chain<float> model, masked;
    shake(model);
    shake(masked);
    auto plan = pruning::plan(model, small_image, {.keep_channels = 0.99});
    plan.group("a.conv").kept = {1, 4};
    plan.group("b").kept = {0, 1, 2, 3, 4, 5};
    const auto result = pruning::apply(plan, model);
    CHECK(result.certificate.reference_path_bit_equal);
    CHECK(result.certificate.fast_path_max_relative_error <= 1e-5);
    for (const Index gone : {0, 2, 3, 5, 6, 7}) zero<float>(masked, "a.conv.weight", gone);
    CHECK_FALSE(same_bits(logits(model), logits(masked))); // the filters alone are not enough
    for (const Index gone : {0, 2, 3, 5, 6, 7}) zero_conv_bn<float>(masked, "a", gone);
    CHECK(same_bits(logits(model), logits(masked)));
    CHECK(pruning::detail::relative_error(logits(model, Path::fast), logits(masked, Path::fast)) <= 1e-5);

    Certificate wrong = result.certificate;
    wrong.reference_path_bit_equal = false;
    CHECK_FALSE(wrong.holds());
    wrong = result.certificate;
    wrong.fast_path_max_relative_error = std::numeric_limits<double>::quiet_NaN();
    CHECK_FALSE(wrong.holds());
    wrong = result.certificate;
    wrong.counted_macs += 1;
    CHECK_FALSE(wrong.holds());
}

TEST_CASE_TEMPLATE("surgery 16: the indexed join", T, float, double) {
    Residual<T> model, masked;
    shake(model);
    shake(masked);
    auto plan =
        pruning::plan(model, small_image, {.criterion = RandomScore{}, .keep_channels = 0.99, .joins = Joins::indexed});
    CHECK(plan.group("stem.conv").note == "residual stream of indexed joins");
    for (auto& g : plan.groups) {
        g.kept.clear();
        for (Index c = 0; c < g.width; ++c) g.kept.push_back(c);
    }
    plan.group("one.b.conv").kept = {1, 2, 6};
    plan.group("two.b.conv").kept = {};
    const auto surgery = pruning::apply(plan, model);
    CHECK(surgery.certificate.holds());

    // Forward: the removed filters are zero, their shift stays.
    const auto remove = [&](const std::string& prefix, Index entry) {
        zero<T>(masked, prefix + ".conv.weight", entry);
        zero<T>(masked, prefix + ".bn.gamma", entry);
        zero<T>(masked, prefix + ".bn.running_mean", entry);
    };
    for (const Index gone : {0, 3, 4, 5, 7}) remove("one.b", gone);
    for (Index gone = 0; gone < 8; ++gone) remove("two.b", gone);
    CHECK(same_bits(logits(model), logits(masked)));
    CHECK(model.one.join.state()->kept == std::vector<Index>{1, 2, 6});
    for (const Index gone : {0, 3, 4, 5, 7}) zero<T>(masked, "one.b.bn.beta", gone);
    CHECK_FALSE(same_bits(logits(model), logits(masked))); // dropping the shift is not exact

    // The branch with nothing left is gone whole, its inner convolution included.
    CHECK(model.two.b.conv.weight.shape() == Shape{0, 3, 3, 0});
    CHECK(model.two.a.conv.weight.shape() == Shape{0, 3, 3, 8});
    CHECK(model.stem.conv.weight.size(0) == 8);
    CHECK(model.three.b.conv.weight.size(0) == 8);
    CHECK(cost(model, small_image).macs == 4 * 4 * 9 * (3 * 8 + (8 * 6 + 6 * 3) + 2 * 8 * 6) + 8 * 4);

    // Backward: it trains.
    const auto y = model.forward(Var<T>(random_tensor<T>({2, 4, 4, 3})));
    y.backward(random_tensor<T>(y.shape(), "dy"));
    CHECK(model.one.b.conv.weight.grad().shape() == Shape{3, 3, 3, 6});
    double moved = 0;
    for (const T g : model.two.join.state()->constant.grad()) moved += std::abs(static_cast<double>(g));
    CHECK(moved > 0);
}
