#include "check.hpp"

#include <limits>

using namespace espalier;
using namespace espalier::test;

TEST_CASE("difference: NaN, infinity and a wrong shape never pass") {
    const auto scale = Tensor<double>::scalar(1);
    const auto expected = Tensor<double>::from({2}, {1, 2});
    CHECK(difference(Tensor<float>::from({2}, {1, 2}), expected, scale, 4).empty());
    CHECK_FALSE(
        difference(Tensor<float>::from({2}, {1, std::numeric_limits<float>::quiet_NaN()}), expected, scale, 1e30)
            .empty());
    CHECK_FALSE(difference(Tensor<float>::from({2}, {std::numeric_limits<float>::infinity(), 2}), expected, scale, 1e30)
                    .empty());
    CHECK_FALSE(difference(Tensor<float>::from({1, 2}, {1, 2}), expected, scale, 4).empty());
    CHECK_FALSE(difference(Tensor<float>::from({2}, {1, 2.001f}), expected, scale, 4).empty());
    const auto nan = Tensor<double>::from({2}, {1, std::numeric_limits<double>::quiet_NaN()});
    CHECK_FALSE(difference(Tensor<float>::from({2}, {1, 2}), nan, scale, 1e30).empty());
}

TEST_CASE("check_gradients: a wrong gradient, a changed input and a gradient that does not add up are found") {
    const auto square = [](double factor) {
        return [factor](std::vector<Var<double>>& v) {
            Tensor<double> y = v[0].value().clone();
            for (Index i = 0; i < y.size(); ++i) y.mutable_data()[i] *= y.data()[i];
            const Tensor<double> x = v[0].value();
            return record<double>("square", y, {v[0]}, ChannelRule::same(),
                                  [x, factor](const Tensor<double>& dy, const Inputs<double>& input) {
                                      Tensor<double> dx = empty_like(x);
                                      for (Index i = 0; i < x.size(); ++i)
                                          dx.mutable_data()[i] = factor * x.data()[i] * dy.data()[i];
                                      input[0].add_grad(std::move(dx));
                                  });
        };
    };
    const auto x = random_tensor<double>({3});
    CHECK(check_gradients(square(2), {x}).passed());
    CHECK_FALSE(check_gradients(square(2.001), {x}).passed());
    CHECK_FALSE(check_gradients(square(std::numeric_limits<double>::quiet_NaN()), {x}).passed());
    const auto changes = [&](std::vector<Var<double>>& v) {
        v[0].mutable_value().mutable_data()[0] += 1;
        return square(2)(v);
    };
    CHECK_FALSE(check_gradients(changes, {x}).passed());
    const GradientCheckOptions along{.directions = 4};
    CHECK(check_gradients(square(2), {x}, along).passed());
    CHECK_FALSE(check_gradients(square(2.001), {x}, along).passed());
    CHECK_FALSE(check_gradients(square(std::numeric_limits<double>::quiet_NaN()), {x}, along).passed());
    CHECK_FALSE(check_gradients(changes, {x}, along).passed());
}
