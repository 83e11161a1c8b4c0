#include <espalier/ops/linear.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("linear: value", T, float, double) {
    for (const Path path : {Path::fast, Path::fixed_order})
        for (const Index images : {1, 6, 35})
            for (const Index outputs : {1, 10, 37}) {
                const PathScope scope(path);
                CAPTURE(images);
                CAPTURE(outputs);
                const auto x = random_tensor<T>({images, 50}), w = random_tensor<T>({outputs, 50}, "w");
                const auto b = random_tensor<T>({outputs}, "b");
                Tensor<double> expected({images, outputs}), scale({images, outputs}), plain({images, outputs});
                for (Index n = 0; n < images; ++n)
                    for (Index k = 0; k < outputs; ++k) {
                        double sum = 0, size = std::abs(static_cast<double>(b.at(k)));
                        for (Index c = 0; c < 50; ++c) {
                            const double term = static_cast<double>(x.at(n, c)) * static_cast<double>(w.at(k, c));
                            sum += term;
                            size += std::abs(term);
                        }
                        plain.set(sum, n, k);
                        expected.set(sum + static_cast<double>(b.at(k)), n, k);
                        scale.set(size, n, k);
                    }
                const auto xv = on_device(x), wv = on_device(w);
                // One rounding a term of random sign; 8 allows for some of them to line up.
                check_close(linear(xv, wv, on_device(b)).value(), expected, 8, scale);
                check_close(linear(xv, wv).value(), plain, 8, scale);
            }
}

TEST_CASE("linear: gradients agree with differences") {
    check_gradient(
        [](auto& v) { return linear(v[0], v[1], v[2]); },
        {random_tensor<double>({3, 5}), random_tensor<double>({4, 5}, "w"), random_tensor<double>({4}, "b")});
    check_gradient([](auto& v) { return linear(v[0], v[1]); },
                   {random_tensor<double>({1, 2}), random_tensor<double>({1, 2}, "w")});
}

TEST_CASE_TEMPLATE("linear: same bits for 1 and 2 threads", T, float, double) {
    check_repeatable([] {
        return forward_and_gradients<T>(
            [](auto& v) { return linear(v[0], v[1], v[2]); },
            {random_tensor<T>({600, 70}), random_tensor<T>({37, 70}, "w"), random_tensor<T>({37}, "b")});
    });
}

TEST_CASE_TEMPLATE("linear: no rows, no inputs, no outputs", T, float, double) {
    const auto run = [](Index n, Index c, Index k) {
        const Var<T> x = parameter_on_device(Tensor<T>::ones({n, c})), w = parameter_on_device(Tensor<T>::ones({k, c}));
        const Var<T> y = linear(x, w, parameter_on_device(Tensor<T>::full({k}, T(2))));
        y.backward(Tensor<T>::ones(y.shape(), y.device()));
        for (const T v : x.grad().to_vector()) CHECK(v == T(0));
        for (const T v : w.grad().to_vector()) CHECK(v == T(0));
        return y.value();
    };
    CHECK(run(0, 3, 4).shape() == Shape{0, 4});
    CHECK(run(3, 4, 0).shape() == Shape{3, 0});
    for (const T v : run(3, 0, 4).to_vector()) CHECK(v == T(2));
}

TEST_CASE("linear: what does not fit is refused") {
    const auto x = on_device(Tensor<float>::ones({2, 3})), w = on_device(Tensor<float>::ones({4, 3}));
    CHECK_THROWS_WITH_AS(linear(x, on_device(Tensor<float>::ones({4, 5}))),
                         doctest::Contains("linear: expected x [N,C] and w [K,C], got x [2,3] and w [4,5]"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(linear(x, w, on_device(Tensor<float>::ones({3}))),
                         doctest::Contains("expected a bias [4], got [3]"), ShapeError);
}

TEST_CASE("linear: operands are on one device") {
    if (device_under_test() == Device::cpu) return;
    const Tensor<float> x = Tensor<float>::ones({2, 3}), w = Tensor<float>::ones({4, 3});
    CHECK_THROWS_WITH_AS(linear(on_device(x), Var<float>(w)), doctest::Contains("linear: expected operands on one"),
                         DeviceError);
    CHECK_THROWS_AS(linear(on_device(x), on_device(w), Var<float>(Tensor<float>::ones({4}))), DeviceError);
}

TEST_CASE("linear: the channel rule") {
    const auto ones = [](const Shape& shape) { return parameter_on_device(Tensor<float>::ones(shape)); };
    const ChannelRule rule = linear(ones({2, 3}), ones({4, 3}), ones({4})).node()->rule;
    REQUIRE(rule.links().size() == 3);
    CHECK(rule.links()[0].role == ChannelRole::makes);
    CHECK(rule.links()[1].role == ChannelRole::eats);
    CHECK(rule.links()[2].role == ChannelRole::shifts);
    CHECK(rule.weight() == 1);
    CHECK(rule.positions() == 2);
}
