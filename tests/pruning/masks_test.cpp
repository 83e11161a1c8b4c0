#include "networks.hpp"

#include <espalier/pruning/masks.hpp>
#include <espalier/pruning/planner.hpp>

#include <numeric>

using namespace espalier;
using namespace espalier::test;
using pruning::magnitude_masks;
using pruning::MaskScope;

namespace {

/// Two weights of different size, and a vector that is none.
template <class T> struct Two : Module<T> {
    Var<T> a = this->add_parameter("a", Tensor<T>::from({2, 4}, {1, -2, 3, -4, 5, -6, 7, -8}));
    Var<T> b = this->add_parameter("b", Tensor<T>::from({2, 2}, {T(0.5), T(-0.25), T(10), T(0)}));
    Var<T> bias = this->add_parameter("bias", Tensor<T>::from({2}, {0, 0}));
};
template <class T> Index kept(const Mask<T>& mask) {
    return std::accumulate(mask.kept.begin(), mask.kept.end(), Index(0));
}
using Bits = std::vector<std::uint8_t>;
const Shape image{4, 4, 3};

} // namespace

TEST_CASE_TEMPLATE("magnitude_masks: the largest stay, of all or of each weight", T, float, double) {
    const Two<T> net;
    auto masks = magnitude_masks(net, {.keep = 0.5});
    REQUIRE(masks.size() == 2); // not the vector
    CHECK(masks[0].of.name == "a");
    CHECK(masks[0].kept.to_vector() == Bits{0, 0, 0, 1, 1, 1, 1, 1}); // 6 of 12
    CHECK(masks[1].kept.to_vector() == Bits{0, 0, 1, 0});
    masks = magnitude_masks(net, {.keep = 0.5, .scope = MaskScope::local});
    CHECK(masks[0].kept.to_vector() == Bits{0, 0, 0, 0, 1, 1, 1, 1});
    CHECK(masks[1].kept.to_vector() == Bits{1, 0, 1, 0});
}

TEST_CASE("magnitude_masks: no weight is emptied, and a least share of each is kept") {
    Two<float> net;
    net.b.set_value(Tensor<float>::from({2, 2}, {0.4f, 0.3f, 0.2f, 0.1f}));
    CHECK(magnitude_masks(net, {.keep = 0.5})[1].kept.to_vector() == Bits{1, 0, 0, 0}); // one in any case
    const auto masks = magnitude_masks(net, {.keep = 0.5, .keep_of_each = 0.5});
    CHECK(masks[1].kept.to_vector() == Bits{1, 1, 0, 0});
    CHECK(kept(masks[0]) == 4); // others give way: 6 of 12 as asked
    for (const MaskScope scope : {MaskScope::global, MaskScope::local})
        for (const auto& mask : magnitude_masks(net, {.keep = 0, .scope = scope})) CHECK(kept(mask) == 1);
}

TEST_CASE("magnitude_masks: exact counts, ties included, and the same every time") {
    for (const double keep : {0.0, 0.013, 0.1, 0.5, 0.99, 1.0}) {
        Chain<float> model;
        for (auto& [name, var] : model.parameters()) // eleven different magnitudes only
            for (Index i = 0; i < var.size(); ++i) var.mutable_value().mutable_data()[i] = float(i * 7 % 11 - 5);
        Index all = 0, stay = 0, again = 0;
        for (const auto& mask : magnitude_masks(model, {.keep = keep})) {
            all += mask.kept.size();
            stay += kept(mask);
        }
        CHECK(stay == std::max<Index>(3, std::llround(keep * double(all)))); // one of each of three weights at least
        const auto one = magnitude_masks(model, {.keep = keep}), two = magnitude_masks(model, {.keep = keep});
        for (std::size_t i = 0; i < one.size(); ++i) again += same_bits(one[i].kept, two[i].kept);
        CHECK(again == 3);
    }
}

TEST_CASE("magnitude_masks: shares of what was masked already do not compound") {
    Chain<float> model;
    shake(model);
    const auto once = magnitude_masks(model, {.keep = 0.2});
    for (const double keep : {0.6, 0.4, 0.2})
        for (auto& mask : magnitude_masks(model, {.keep = keep})) {
            Tensor<float>& x = Var<float>(mask.of.var).mutable_value();
            for (Index i = 0; i < x.size(); ++i)
                if (!mask.kept.data()[i]) x.mutable_data()[i] = 0;
        }
    const auto last = magnitude_masks(model, {.keep = 0.2});
    for (std::size_t i = 0; i < once.size(); ++i) CHECK(same_bits(once[i].kept, last[i].kept));
}

TEST_CASE("magnitude_masks: errors, and nothing to mask") {
    Two<float> net;
    CHECK_THROWS_WITH_AS(magnitude_masks(net, {.keep = 1.5}),
                         "magnitude_masks: expected a share to keep in [0,1], got 1.5", ShapeError);
    CHECK_THROWS_WITH_AS(magnitude_masks(net, {.keep = 0.5, .keep_of_each = 0.6}),
                         "magnitude_masks: expected keep_of_each in [0,0.5], got 0.6", ShapeError);
    net.b.mutable_value().set(std::numeric_limits<float>::quiet_NaN(), 1, 1);
    CHECK_THROWS_WITH_AS(magnitude_masks(net, {}), "magnitude_masks: expected finite weights, got nan in 'b'",
                         StateError);
    CHECK(magnitude_masks(BatchNorm<float>({.channels = 3}), {}).empty());
    net.a.set_value(Tensor<float>({0, 4})); // pruned away
    net.b.set_value(Tensor<float>({0, 2}));
    CHECK(magnitude_masks(net, {}).empty());
}

TEST_CASE_TEMPLATE("channel_masks: all that makes, scales, shifts or describes a channel", T, float, double) {
    Chain<T> model;
    const auto plan = pruning::plan(model, image, {.keep_channels = 0.5});
    const auto masks = pruning::channel_masks(plan, model);
    const auto find = [&](const std::string& name) -> const Tensor<std::uint8_t>& {
        for (const auto& mask : masks)
            if (mask.of.name == name) return mask.kept;
        throw StateError("no mask of " + name);
    };
    Bits expected(8, 0);
    for (const Index k : plan.group("a.conv").kept) expected[std::size_t(k)] = 1;
    for (const char* vector : {"a.bn.gamma", "a.bn.beta", "a.bn.running_mean"})
        CHECK(find(vector).to_vector() == expected);
    const auto filters = find("a.conv.weight");
    for (Index i = 0; i < filters.size(); ++i) CHECK(filters.data()[i] == expected[std::size_t(i / 27)]);
    CHECK_THROWS(find("a.bn.running_var")); // dividing by it must stay possible
    CHECK(find("b.bias").size() == 6);
    for (const auto& mask : masks) CHECK(model.find(mask.of.name).node() == mask.of.var.node());
}
