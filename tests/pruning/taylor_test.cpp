#include "scores.hpp"

#include <espalier/ops/cross_entropy.hpp>
#include <espalier/ops/slice.hpp>
#include <espalier/pruning/taylor.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {
using Numbers = std::vector<double>;

/// Sum of the first logit over a batch: its gradient is 1 there.
template <class T> Var<T> first_logit(const Var<T>& logits, Index) { return sum(slice(logits, 1, 0, 1)); }

template <class T> pruning::BatchLoss<T> classes(Index count) {
    return [count](const Var<T>& logits, Index) {
        Tensor<Index> labels({count});
        for (Index n = 0; n < count; ++n) labels.mutable_data()[n] = n % logits.size(1);
        return cross_entropy(logits, labels);
    };
}
} // namespace

TEST_CASE_TEMPLATE("taylor: of weights, by hand", T, float, double) {
    // d loss / d a[c] = b[0,c] / 4 times the sum of x over pixels where a[c] x > 0:
    //   image 1: 2/4 * 8 = 4, -3/4 * -2 = 1.5, nothing is above 0;  image 2: 2/4 * 4 = 2, 0, 0
    // times a: image 1: 4, -1.5, 0; image 2: 2, 0, 0
    ByHand<T> model;
    const auto net = network(model);
    const auto of_a = [&](const std::vector<Tensor<T>>& batches, TaylorSum sum) {
        return scores(model, WeightTaylor<T>{net, batches, first_logit<T>, sum}, "a", 1);
    };
    for (const TaylorSum sum : {TaylorSum::absolute, TaylorSum::joint_absolute}) { // of one element: no difference
        CHECK(of_a({image_1<T>}, sum) == Numbers{4, 1.5, 0});
        CHECK(of_a({both_images<T>}, sum) == Numbers{6, 1.5, 0});
        CHECK(of_a({image_1<T>, image_2<T>}, sum) == Numbers{3, 0.75, 0}); // the mean over batches
    }
    for (const TaylorSum sum : {TaylorSum::squared, TaylorSum::joint_squared}) {
        CHECK(of_a({both_images<T>}, sum) == Numbers{36, 2.25, 0});
        CHECK(of_a({image_1<T>, image_2<T>}, sum) == Numbers{10, 1.125, 0});
    }
    // What eats channel 0, weights 2 and 0: gradient of the first is the mean of its map, 8/4 + 4/4.
    CHECK(scores(model,
                 WeightTaylor<T>{net, {both_images<T>}, first_logit<T>, TaylorSum::absolute, {ChannelRole::eats}}, "a",
                 1)[0] == 6);
}

TEST_CASE_TEMPLATE("taylor: of activations, by hand", T, float, double) {
    // d loss / d map[c] = b[0,c] / 4 on every pixel. |sum of it times the map| / 4 pixels:
    //   image 1: 2/4 * 8 / 4 = 1, 3/4 * 2 / 4 = 0.375, 0;  image 2: 2/4 * 4 / 4 = 0.5, 0, 0
    ByHand<T> model;
    for (const auto& batches : {std::vector<Tensor<T>>{both_images<T>}, {image_1<T>, image_2<T>}})
        CHECK(scores(model, ActivationTaylor<T>{network(model), batches, first_logit<T>}, "a", 1) ==
              Numbers{0.75, 0.1875, 0});
}

TEST_CASE_TEMPLATE("taylor: sums of a filter's products, and of all that a channel has", T, float, double) {
    Chain<T> model;
    shake(model);
    const auto images = random_tensor<T>({6, 4, 4, 3});
    const auto net = network(model);
    const ChannelRoles all{ChannelRole::makes, ChannelRole::scales, ChannelRole::eats};
    Numbers got[4];
    for (const TaylorSum sum :
         {TaylorSum::absolute, TaylorSum::squared, TaylorSum::joint_absolute, TaylorSum::joint_squared})
        got[static_cast<int>(sum)] =
            scores(model, WeightTaylor<T>{net, {images}, classes<T>(6), sum, all, Combine::sum}, "a.conv");
    model.eval();
    model.clear_grad();
    classes<T>(6)(model.forward(Var<T>(images)), 0).backward();
    for (Index c = 0; c < 8; ++c) {
        double expected[4] = {0, 0, 0, 0};
        const auto add = [&](const Var<T>& w, Index outer, Index inner) { // entry c of [outer, 8, inner]
            double joint = 0;
            for (Index o = 0; o < outer; ++o)
                for (Index i = 0; i < inner; ++i) {
                    const Index at = (o * 8 + c) * inner + i;
                    const double p =
                        static_cast<double>(w.value().data()[at]) * static_cast<double>(w.grad().data()[at]);
                    expected[0] += std::abs(p);
                    expected[1] += p * p;
                    joint += p;
                }
            expected[2] += std::abs(joint);
            expected[3] += joint * joint;
        };
        add(model.a.conv.weight, 1, 27);
        add(model.a.bn.gamma, 1, 1);
        add(model.b.weight, 54, 1);
        for (int sum = 0; sum < 4; ++sum)
            CHECK(got[sum][static_cast<std::size_t>(c)] == doctest::Approx(expected[sum])); // 1e-5: gradients of float
    }
}

TEST_CASE("taylor: activations of any network by gradients with respect to the map") {
    // A gate on the map, y * gate [N,1,1,C]: d loss / d gate is the sum over pixels of gradient times activation.
    Flattened<double> model;
    shake(model);
    const auto images = random_tensor<double>({3, 4, 4, 3});
    const auto got = scores(model, ActivationTaylor<double>{network(model), {images}, classes<double>(3)}, "a.conv");
    model.eval();
    const Var<double> gate = parameter(Tensor<double>::ones({3, 1, 1, 6}));
    const auto y = flatten(mul(model.a.forward(Var<double>(images)), gate));
    classes<double>(3)(model.head.forward(relu(model.hidden.forward(y))), 0).backward();
    for (Index c = 0; c < 6; ++c) {
        double expected = 0;
        for (Index n = 0; n < 3; ++n) expected += std::abs(gate.grad().data()[n * 6 + c]) / 16 / 3;
        CHECK(got[static_cast<std::size_t>(c)] == doctest::Approx(expected));
    }
}

TEST_CASE_TEMPLATE("taylor: criteria that look at data leave the model as it was", T, float, double) {
    Residual<T> model;
    shake(model);
    const auto images = random_tensor<T>({6, 4, 4, 3});
    const auto net = network(model);
    model.train();
    classes<T>(6)(model.forward(Var<T>(images)), 0).backward();
    model.two.a.conv.weight.clear_grad(); // one that has no gradient, and keeps having none
    std::vector<Tensor<T>> before;
    const auto state = [&] {
        std::vector<Tensor<T>> all;
        for (const auto& list : {model.parameters(), model.buffers()})
            for (const auto& [name, var] : list) {
                all.push_back(var.value().clone());
                all.push_back(var.node()->has_grad() ? var.grad().clone() : Tensor<T>({0}));
            }
        return all;
    };
    const auto unchanged = [&](const std::vector<Tensor<T>>& then, const std::vector<Tensor<T>>& now) {
        bool same = model.mode() == Mode::training && then.size() == now.size();
        for (std::size_t i = 0; same && i < then.size(); ++i) same = same_bits(then[i], now[i]);
        return same;
    };
    const std::vector<Tensor<T>> then = state();
    const pruning::BatchLoss<T> throws = [](const Var<T>&, Index) -> Var<T> { throw StateError("no loss today"); };
    const std::vector<pruning::Criterion<T>> fine{ActivationPeak<T>{net, {images}}, Apoz<T>{net, {images}},
                                                  ActivationRank<T>{net, {images}},
                                                  ActivationTaylor<T>{net, {images, images}, classes<T>(6)},
                                                  WeightTaylor<T>{net, {images, images}, classes<T>(6)}};
    for (const auto& criterion : fine) {
        CHECK(scores(model, criterion, "stem.conv")[0] > 0);
        CHECK_MESSAGE(unchanged(then, state()), criterion.name());
    }
    const std::vector<pruning::Criterion<T>> failing{ActivationTaylor<T>{net, {images}, throws},
                                                     WeightTaylor<T>{net, {images}, throws}};
    for (const auto& criterion : failing) {
        CHECK(error_of([&] { scores(model, criterion, "stem.conv"); }) == "no loss today");
        CHECK_MESSAGE(unchanged(then, state()), criterion.name());
    }
}

TEST_CASE("taylor: what the loss does not depend on counts nothing, and what can't be told is an error") {
    ByHand<float> model;
    const auto net = network(model);
    const pruning::BatchLoss<float> second = [](const Var<float>& logits, Index) {
        return sum(slice(logits, 1, 1, 2));
    };
    CHECK(scores(model, WeightTaylor<float>{net, {image_1<float>}, second}, "a", 1) == Numbers{0, 0, 0});
    CHECK(scores(model, ActivationTaylor<float>{net, {image_1<float>}, second}, "a", 1) == Numbers{0, 0, 0});
    const auto of = parameter(Tensor<float>::scalar(1)); // a loss that has nothing to do with the network
    const pruning::BatchLoss<float> foreign = [&](const Var<float>&, Index) { return mul(of, of); };
    CHECK(scores(model, WeightTaylor<float>{net, {image_1<float>}, foreign}, "a", 1) == Numbers{0, 0, 0});
    CHECK(scores(model, ActivationTaylor<float>{net, {image_1<float>}, foreign}, "a", 1) == Numbers{0, 0, 0});

    const auto error = [&](const auto& criterion) { return error_of([&] { scores(model, criterion, "a", 1); }); };
    CHECK(error(WeightTaylor<float>{net, {}, second}) ==
          "WeightTaylor: expected at least one batch of images, got none");
    CHECK(error(WeightTaylor<float>{net, {image_1<float>}}) == "WeightTaylor: expected a loss, got none");
    CHECK(error(ActivationTaylor<float>{net, {}, second}) ==
          "ActivationTaylor: expected at least one batch of images, got none");
    CHECK(error(ActivationTaylor<float>{net, {image_1<float>}}) == "ActivationTaylor: expected a loss, got none");
    const pruning::BatchLoss<float> logits = [](const Var<float>& x, Index) { return x; };
    CHECK(error(WeightTaylor<float>{net, {image_1<float>}, logits}) ==
          "backward: expected one element, got [1,2]; pass the gradient for other shapes");
}

TEST_CASE("taylor: NaN is no score") {
    ByHand<double> model;
    const pruning::BatchLoss<double> nan = [](const Var<double>& logits, Index) {
        return sum(
            mul(logits, Var<double>(Tensor<double>::full(logits.shape(), std::numeric_limits<double>::quiet_NaN()))));
    };
    CHECK(std::isnan(scores(model, WeightTaylor<double>{network(model), {image_1<double>}, nan}, "a", 1)[0]));
    CHECK(std::isnan(scores(model, ActivationTaylor<double>{network(model), {image_1<double>}, nan}, "a", 1)[0]));
}

TEST_CASE("taylor: names, and the same bits on any number of threads") {
    Residual<float> model;
    shake(model);
    const auto images = random_tensor<float>({5, 4, 4, 3});
    const auto net = network(model);
    CHECK(WeightTaylor<float>{net, {}}.name() == "weight Taylor sum (gw)^2");
    CHECK(WeightTaylor<float>{.net = net, .sum = TaylorSum::joint_absolute, .combine = Combine::max}.name() ==
          "weight Taylor |sum gw| of makes, max");
    CHECK(to_text(TaylorSum::absolute) + to_text(TaylorSum::joint_squared) == "sum |gw|(sum gw)^2");
    CHECK(ActivationTaylor<float>{net, {}}.name() == "activation Taylor");
    check_repeatable([&] { return all_scores(model, WeightTaylor<float>{net, {images}, classes<float>(5)}); });
    check_repeatable([&] { return all_scores(model, ActivationTaylor<float>{net, {images}, classes<float>(5)}); });
}
