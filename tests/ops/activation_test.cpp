#include <espalier/ops/activation.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

#include <limits>

using namespace espalier;
using namespace espalier::test;

namespace {

template <class T, class F, class G> void check_activation(F f, G g, double factor) {
    const auto x = random_tensor<T>({3, 7});
    Tensor<double> expected(x.shape());
    for (Index i = 0; i < x.size(); ++i) expected.mutable_data()[i] = g(static_cast<double>(x.data()[i]));
    check_close(f(on_device(x)).value(), expected, factor);
    check_gradient([&](auto& v) { return f(v[0]); }, {away_from_zero<double>({3, 7})}); // kinks are 0.1 away
    check_repeatable([&] {
        return forward_and_gradients<T>([&](auto& v) { return f(v[0]); }, {random_tensor<T>({4, 50, 50, 5})});
    });
    CHECK(f(on_device(Tensor<T>(Shape{2, 0}))).shape() == Shape{2, 0});
}
template <class F> double slope_at(F f, double x) {
    auto v = parameter_on_device(Tensor<double>::scalar(x));
    f(v).backward();
    return v.grad().item();
}
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

} // namespace

TEST_CASE_TEMPLATE("relu", T, float, double) {
    check_activation<T>([](const auto& x) { return relu(x); }, [](double x) { return std::max(x, 0.0); }, 0);
}
TEST_CASE_TEMPLATE("relu6", T, float, double) {
    check_activation<T>([](const auto& x) { return relu6(x); }, [](double x) { return std::max(x, 0.0); }, 0);
    const auto x = Tensor<T>::from({5}, {-7, 3, 6, 6.5, 100});
    CHECK(relu6(on_device(x)).value().to_vector() == std::vector<T>{0, 3, 6, 6, 6});
}
TEST_CASE_TEMPLATE("sigmoid", T, float, double) {
    // exp, a sum and a quotient of numbers below 1: a few roundings.
    check_activation<T>([](const auto& x) { return sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }, 4);
}
TEST_CASE_TEMPLATE("tanh", T, float, double) {
    check_activation<T>([](const auto& x) { return tanh(x); }, [](double x) { return std::tanh(x); }, 4);
}

TEST_CASE("relu: the gradient at 0 is 0, NaN goes through both ways") {
    CHECK(slope_at([](auto& x) { return relu(x); }, 0.0) == 0);
    CHECK(slope_at([](auto& x) { return relu(x); }, 1e-300) == 1);
    CHECK(std::isnan(relu(on_device(Tensor<double>::scalar(not_a_number))).item()));
    CHECK(slope_at([](auto& x) { return relu(x); }, not_a_number) == 1);
}

TEST_CASE("relu6: the gradient at 0, at 6 and beyond is 0, NaN goes through both ways") {
    for (const double x : {-1.0, 0.0, 6.0, 7.0}) CHECK(slope_at([](auto& v) { return relu6(v); }, x) == 0);
    for (const double x : {1e-300, 5.9}) CHECK(slope_at([](auto& v) { return relu6(v); }, x) == 1);
    CHECK(std::isnan(relu6(on_device(Tensor<double>::scalar(not_a_number))).item()));
    CHECK(slope_at([](auto& v) { return relu6(v); }, not_a_number) == 1);
}

TEST_CASE("sigmoid: far from zero it is 0 or 1, never NaN") {
    const auto x = on_device(Tensor<float>::from({4}, {-1000, -100, 100, 1000}));
    CHECK(sigmoid(x).value().to_vector() == std::vector<float>{0, 0, 1, 1});
    CHECK(sigmoid(on_device(Tensor<double>::scalar(-100))).item() == doctest::Approx(std::exp(-100.0)).epsilon(1e-14));
    CHECK(slope_at([](auto& v) { return sigmoid(v); }, -1000) == 0);
}

TEST_CASE("activations: channels stay, and sigmoid moves zero") {
    const auto x = parameter_on_device(Tensor<float>::ones({2, 3}));
    CHECK(rule_text(relu(x)) == "declared 0.-1=y.-1");
    CHECK(rule_text(sigmoid(x)) == "declared 0.-1=y.-1 moves zero");
    CHECK(rule_text(tanh(x)) == "declared 0.-1=y.-1");
}
