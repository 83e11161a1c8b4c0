#include "support/check.hpp"

#include <espalier/io/name_map.hpp>

using namespace espalier;

namespace {

/// The foreign name of ours, or what else the map says of it.
std::string theirs(const NameMap& map, const char* ours) {
    const NameRule rule = detail::rule_for(map, ours);
    return rule.ours.empty() ? "no rule" : rule.theirs.empty() ? "kept" : rule.theirs;
}

} // namespace

TEST_CASE("name_map: a star is any text, as short as possible, and keeps its place in the other name") {
    NameMap map;
    map.add({.theirs = "layer*.*.conv*.weight", .ours = "stage*.*.conv*.weight"});
    map.add({.theirs = "*", .ours = "plain*"});
    map.add({.theirs = "b", .ours = "a"});
    CHECK(theirs(map, "stage1.0.conv2.weight") == "layer1.0.conv2.weight");
    CHECK(theirs(map, "stage1.0.extra.conv2.weight") == "layer1.0.extra.conv2.weight");
    CHECK(theirs(map, "stage10.20.conv30.weight") == "layer10.20.conv30.weight");
    CHECK(theirs(map, "plainx.y") == "x.y");
    CHECK(theirs(map, "plain") == "no rule"); // a star is not empty
    CHECK(theirs(map, "a") == "b");
    CHECK(theirs(map, "aa") == "no rule");
    CHECK(theirs(map, "stage1.0.conv2.weight.more") == "no rule");
    CHECK(theirs(map, "xstage1.0.conv2.weight") == "no rule");
    CHECK(theirs(map, "") == "no rule");
}

TEST_CASE("name_map: a later rule goes before an earlier one") {
    NameMap map;
    map.linear("fc", "linear").keep("linear.*").linear("head", "linear");
    CHECK(theirs(map, "linear.weight") == "head.weight");
    map.keep("*.weight");
    CHECK(theirs(map, "linear.weight") == "kept");
    CHECK(theirs(map, "linear.bias") == "head.bias");
}

TEST_CASE("name_map: what layers have in PyTorch") {
    NameMap map;
    map.convolution("features.*", "conv*").batch_norm("features.b*", "bn*", "features.*.bias");
    map.linear("fc*", "linear*").linear("first", "hidden", 49);
    CHECK(detail::rule_for(map, "conv3.weight").layout == ForeignLayout::filters);
    CHECK(detail::rule_for(map, "conv3.bias").layout == ForeignLayout::same);
    CHECK(theirs(map, "bn3.gamma") == "features.b3.weight");
    CHECK(theirs(map, "bn3.beta") == "features.b3.bias");
    CHECK(theirs(map, "bn3.running_mean") == "features.b3.running_mean");
    CHECK(theirs(map, "bn3.running_var") == "features.b3.running_var");
    CHECK(detail::rule_for(map, "bn3.running_mean").subtract == "features.3.bias");
    CHECK(detail::rule_for(map, "bn3.running_var").subtract.empty());
    CHECK(detail::is_passed_over(map, "features.b3.num_batches_tracked"));
    CHECK_FALSE(detail::is_passed_over(map, "features.b3.weight"));
    CHECK(detail::rule_for(map, "linear1.weight").layout == ForeignLayout::same);
    CHECK(detail::rule_for(map, "hidden.weight").layout == ForeignLayout::flattened);
    CHECK(detail::rule_for(map, "hidden.weight").pixels == 49);
    CHECK(detail::rule_for(map, "hidden.bias").layout == ForeignLayout::same);
}

TEST_CASE("name_map: a foreign name with more stars than ours is an error") {
    NameMap map;
    map.add({.theirs = "a*.*", .ours = "b*"});
    CHECK_THROWS_WITH_AS(theirs(map, "b1"), "NameMap: expected at most 1 * in 'a*.*', as in the name of ours, got more",
                         StateError);
    NameMap other;
    other.batch_norm("bn", "norm", "conv*.bias");
    CHECK_THROWS_WITH_AS(theirs(other, "norm.running_mean"), doctest::Contains("in 'conv*.bias'"), StateError);
}
