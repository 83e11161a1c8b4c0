#include "support/check.hpp"

#include <espalier/io/module_state.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/train/ema.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// One parameter and one buffer.
template <class T> struct Net : Module<T> {
    Var<T> weight = this->add_parameter("weight", to_device(random_tensor<T>({3, 5}, "weight")));
    Var<T> mean = this->add_buffer("mean", to_device(random_tensor<T>({5}, "mean")));
};

template <class T> void set_random(const Module<T>& module, const std::string& seed) {
    for (const auto& list : {module.parameters(), module.buffers()})
        for (auto [name, var] : list) {
            const Tensor<T> value = random_tensor<T>(var.shape(), (seed + name).c_str()).to(var.device());
            dispatch(var.device(), [&, to = mutable_strided(var.mutable_value())](auto on) {
                kernels::copy(on, strided(value), to);
            });
        }
}
template <class T> std::vector<Tensor<T>> values(const Module<T>& module) {
    std::vector<Tensor<T>> all;
    for (const auto& list : {module.parameters(), module.buffers()})
        for (const auto& [name, var] : list) all.push_back(var.value().to(Device::cpu).clone());
    return all;
}
template <class T> bool same(const std::vector<Tensor<T>>& a, const std::vector<Tensor<T>>& b) {
    bool equal = a.size() == b.size();
    for (std::size_t i = 0; equal && i < a.size(); ++i) equal = same_bits(a[i], b[i]);
    return equal;
}
/// What the averages are: the module's values while they are in it.
template <class T> std::vector<Tensor<T>> averages_of(const Module<T>& module, Ema<T>& averages) {
    const EmaScope<T> scope(averages);
    return values(module);
}

} // namespace

TEST_CASE_TEMPLATE("ema: averages of parameters and buffers are those of the recursion", T, float, double) {
    for (const EmaStart start : {EmaStart::full, EmaStart::ramped}) {
        Net<T> net;
        Ema<T> ema(net, {.decay = 0.3, .start = start});
        std::vector<Tensor<double>> expected;
        for (const Tensor<T>& value : values(net)) expected.push_back(value.template cast<double>());
        for (int n = 0; n < 12; ++n) {
            set_random(net, std::to_string(n));
            ema.update();
            // From n = 3 on (1 + n) / (10 + n) is above 0.3.
            const double decay = start == EmaStart::ramped ? std::min(0.3, (1.0 + n) / (10.0 + n)) : 0.3;
            const std::vector<Tensor<T>> now = values(net);
            for (std::size_t i = 0; i < now.size(); ++i)
                for (Index j = 0; j < now[i].size(); ++j) {
                    double& e = expected[i].mutable_data()[j];
                    e = decay * e + (1 - decay) * static_cast<double>(now[i].data()[j]);
                }
        }
        const std::vector<Tensor<T>> got = averages_of<T>(net, ema);
        REQUIRE(got.size() == 2);
        for (std::size_t i = 0; i < got.size(); ++i) check_close(got[i], expected[i]); // old roundings are forgotten
        CHECK(ema.updates() == 12);
    }
}

TEST_CASE("ema: a swap puts the averages into the module, a second one puts everything back") {
    Net<float> net;
    Ema<float> ema(net, {.decay = 0.5});
    set_random(net, "later");
    const auto before = values<float>(net);
    ema.update();
    CHECK(same(values<float>(net), before)); // an update changes no value of the module
    {
        const EmaScope<float> scope(ema);
        CHECK_FALSE(same(values<float>(net), before));
        const char* const text = "expected the averages beside the module, got them in it";
        TensorFile file;
        CHECK_THROWS_WITH_AS(ema.update(), doctest::Contains(text), StateError);
        CHECK_THROWS_WITH_AS(ema.prepare({})(), doctest::Contains(text), StateError);
        CHECK_THROWS_WITH_AS(ema.save(file, ""), doctest::Contains(text), StateError);
        CHECK_THROWS_WITH_AS(ema.load(file, ""), doctest::Contains(text), StateError);
    }
    CHECK(same(values<float>(net), before));
    CHECK(ema.updates() == 1);
    set_random(net, "again"); // in place: the averages have memory of their own
    ema.update();
    set_random(net, "and again");
    const auto averages = averages_of<float>(net, ema);
    set_random(net, "at last");
    CHECK(same(averages_of<float>(net, ema), averages));
}

TEST_CASE("ema: after surgery the averages are those of a network that had been small all along") {
    const Shape image{8, 8, 3};
    for (const pruning::Joins joins : {pruning::Joins::coupled, pruning::Joins::indexed}) {
        models::ResNet<float> net(8, {.classes = 4, .seed = 3}), small(8, {.classes = 4, .seed = 3});
        const auto plan = pruning::plan(net, image, {.criterion = FoldedNorm{}, .keep_macs = 0.5, .joins = joins});
        Ema<float> ema(net, {.decay = 0.5});
        const auto move = [](auto& model) { // by an amount that does not depend on the network's size
            for (const auto& list : {model.parameters(), model.buffers()})
                for (auto [name, var] : list)
                    for (Index i = 0; i < var.size(); ++i) var.mutable_value().mutable_data()[i] *= 1.25f;
        };
        move(net);
        ema.update();
        pruning::apply(plan, net, &ema);
        for (const auto& buffer : net.buffers()) // they follow too
            CHECK(buffer.var.shape() == net.find(buffer.name).shape());

        pruning::apply(plan, small);
        Ema<float> of_small(small, {.decay = 0.5});
        move(small);
        of_small.update();
        for (auto* const averages : {&ema, &of_small}) {
            auto& model = averages == &ema ? static_cast<models::ResNet<float>&>(net) : small;
            move(model);
            averages->update();
        }
        ema.swap();
        of_small.swap();
        for (const auto& list : {net.parameters(), net.buffers()})
            for (const auto& of : list)
                if (!of.name.ends_with("constant")) // made anew: its average starts at its value
                    CHECK_MESSAGE(same_bits(of.var.value(), small.find(of.name).value()), of.name);
    }
}

TEST_CASE("ema: an update or a swap after surgery whose cuts were not applied changes nothing") {
    Net<float> net;
    Ema<float> ema(net, {});
    const std::vector<Cut<float>> cuts{{"weight", net.weight, 1, 5, {0, 4}}, {"mean", net.mean, 0, 5, {0, 4}}};
    net.weight.set_value(take(net.weight.value(), 1, {0, 4}));
    net.mean.set_value(take(net.mean.value(), 0, {0, 4}));
    const auto before = values<float>(net);
    const char* const text = "expected an average [3,2] for 'weight', got [3,5]; apply the cuts of surgery first";
    CHECK_THROWS_WITH_AS(ema.update(), doctest::Contains(text), StateError);
    CHECK_THROWS_WITH_AS(ema.swap(), doctest::Contains(text), StateError);
    CHECK(ema.updates() == 0);
    CHECK(same(values<float>(net), before));
    CHECK_THROWS_WITH_AS(ema.prepare({cuts[0]})(), doctest::Contains("Ema::prepare: expected cuts to [2] for 'mean'"),
                         StateError);
    ema.prepare(cuts)(); // the failure before it left the averages whole
    ema.update();
    CHECK(ema.updates() == 1);
    CHECK(same(averages_of<float>(net, ema), before)); // the values never moved
}

TEST_CASE_TEMPLATE("ema: saved averages give the same next ones; those of another network are refused", T, float,
                   double) {
    Net<T> one, two;
    const EmaOptions options{.decay = 0.9, .start = EmaStart::ramped};
    Ema<T> of_one(one, options), of_two(two, options);
    for (const char* seed : {"a", "b"}) {
        set_random(one, seed);
        of_one.update();
    }
    TensorFile file;
    of_one.save(file, "ema.");
    of_two.load(file, "ema.");
    CHECK(of_two.updates() == 2); // the ramp goes on where it was
    for (Net<T>* net : {&one, &two}) set_random(*net, "c");
    of_one.update();
    of_two.update();
    const auto expected = averages_of<T>(one, of_one);
    CHECK(same(averages_of<T>(two, of_two), expected));

    TensorFile other, empty;
    other.add("ema.updates", Tensor<Index>::scalar(7));
    other.add("ema.average.weight", Tensor<T>::zeros({3, 4}));
    other.add("ema.average.mean", Tensor<T>::zeros({5}));
    CHECK_THROWS_WITH_AS(of_two.load(other, "ema."),
                         doctest::Contains("'ema.average.weight' [3,5], got [3,4] in tensors in memory"), StateError);
    CHECK_THROWS_WITH_AS(of_two.load(empty, "ema."), doctest::Contains("no ema.updates, ema.average.weight"),
                         StateError);
    CHECK(of_two.updates() == 3);
    CHECK(same(averages_of<T>(two, of_two), expected));
}

TEST_CASE("ema: same bits for 1 and 2 threads, beyond one range of elements; nothing to average is fine") {
    check_repeatable([] {
        struct Wide : Module<float> {
            Var<float> weight = add_parameter("weight", random_tensor<float>({2, 20001}));
            Var<float> none = add_parameter("none", Tensor<float>::zeros({0, 3}));
        } net;
        Ema<float> ema(net, {.decay = 0.7});
        set_random<float>(net, "later");
        ema.update();
        return averages_of<float>(net, ema);
    });
}

TEST_CASE("ema: a module that moves to another device leaves its averages behind, which is an error") {
    if (device_under_test() == Device::cpu) return;
    Net<float> net;
    Ema<float> ema(net, {.decay = 0.5});
    net.to(Device::cpu);
    CHECK_THROWS_WITH_AS(ema.update(), doctest::Contains("Ema::update: expected operands on one"), DeviceError);
    CHECK_THROWS_WITH_AS(ema.swap(), doctest::Contains("Ema::swap: expected operands on one"), DeviceError);
    CHECK(ema.updates() == 0);
    net.to(device_under_test());
    ema.update();
}

TEST_CASE("ema: a decay out of range is an error") {
    const Net<float> net;
    CHECK_THROWS_WITH_AS(Ema<float>(net, {.decay = 1}), "Ema: expected a decay in [0, 1), got 1", ShapeError);
    CHECK_THROWS_AS(Ema<float>(net, {.decay = -0.1}), ShapeError);
}
