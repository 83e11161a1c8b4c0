#include <espalier/regularizers/growing_l2.hpp>

#include "coupled_example.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE("GrowingL2: the strength rises in steps to its ceiling") {
    const GrowingL2<double> grow(Coupled<double>().channels(), {.increment = 0.5, .every = 3, .ceiling = 1.25});
    const std::vector<double> expected{0.5, 0.5, 0.5, 1, 1, 1, 1.25, 1.25};
    for (std::size_t step = 0; step < expected.size(); ++step) CHECK(grow.strength(Index(step)) == expected[step]);
}

TEST_CASE_TEMPLATE("GrowingL2: values and gradients are those of weight decay of the chosen entries", T, float,
                   double) {
    const Coupled<T> net;
    CoupledChannels<T> chosen{.axes = {{net.filters, 0, {-1, 0, -1, -1}}, {net.gamma, 0, {-1, 0, -1, -1}}},
                              .group = {0}};
    const GrowingL2<T> grow(chosen, {.increment = 0.25, .every = 2, .ceiling = 1});
    double squares = static_cast<double>(net.gamma.value().at(1)) * static_cast<double>(net.gamma.value().at(1));
    const Tensor<T> filters = net.filters.value().to(Device::cpu);
    for (const T v : filters.rows(1, 2)) squares += static_cast<double>(v) * static_cast<double>(v);
    const Var<T> y = grow(5); // strength 0.75
    check_close(y.value(), Tensor<double>::scalar(0.375 * squares));
    y.backward();
    Tensor<double> expected = Tensor<double>::zeros({4, 3, 3, 2});
    for (Index i = 18; i < 36; ++i) expected.mutable_data()[i] = 0.75 * static_cast<double>(filters.data()[i]);
    check_close(net.filters.grad(), expected);
    CHECK(net.gamma.grad().at(0) == T(0));
}

TEST_CASE("GrowingL2: gradients") {
    const Coupled<double> net;
    check_gradient(
        [](std::vector<Var<double>>& v) {
            return GrowingL2<double>(Coupled<double>::channels(v[0], v[1], v[2]), {.increment = 0.5})(25);
        },
        {net.filters.value(), net.next.value(), net.gamma.value()});
}

TEST_CASE_TEMPLATE("GrowingL2: repeatable", T, float, double) {
    check_repeatable([] {
        const Coupled<T> net;
        const Var<T> y = GrowingL2<T>(net.channels())(100);
        y.backward();
        return std::vector<Tensor<T>>{y.value(), net.filters.grad(), net.next.grad(), net.gamma.grad()};
    });
}

TEST_CASE("GrowingL2: what does not fit, and nothing") {
    CHECK(GrowingL2<float>(CoupledChannels<float>())(7).item() == 0);
    const Var<float> spared = parameter_on_device(Tensor<float>::ones({2})); // a variable with none of the channels
    const Var<float> nothing = GrowingL2<float>({.axes = {{spared, 0, {-1, -1}}}, .group = {}})(7);
    nothing.backward();
    CHECK(nothing.item() == 0);
    CHECK(spared.grad().to_vector() == std::vector<float>{0, 0});
    const char* const text =
        "GrowingL2: expected increment and ceiling of at least 0 and an interval of at least 1 step";
    CHECK_THROWS_WITH_AS(GrowingL2<float>({}, {.every = 0}), doctest::Contains(text), ShapeError);
    CHECK_THROWS_WITH_AS(GrowingL2<float>({}, {.increment = -1}), doctest::Contains(text), ShapeError);
    CHECK_THROWS_WITH_AS(GrowingL2<float>({}, {.ceiling = -1}), doctest::Contains(text), ShapeError);
    Coupled<float> net;
    const GrowingL2<float> grow(net.channels());
    net.gamma.set_value(to_device(Tensor<float>({2})));
    CHECK_THROWS_WITH_AS(grow(0), doctest::Contains("read the channels again after surgery"), ShapeError);
}
