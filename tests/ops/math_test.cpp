#include <espalier/ops/math.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

#include <limits>

using namespace espalier;
using namespace espalier::test;

namespace {

// Values, gradients, threads and shapes of an elementwise function; f on Var, g on double, x where both are smooth.
template <class T, class F, class G> void check_function(F f, G g, const Tensor<double>& x) {
    const auto y = f(on_device(x.template cast<T>())).value();
    Tensor<double> expected = empty_like(x);
    for (Index i = 0; i < x.size(); ++i)
        expected.mutable_data()[i] = g(static_cast<double>(x.template cast<T>().data()[i]));
    check_close(y, expected, 4); // one call of the C library, in T
    check_gradient([&](auto& v) { return f(v[0]); }, {x});
    check_repeatable([&] {
        return forward_and_gradients<T>([&](auto& v) { return f(v[0]); },
                                        {uniform<T>({40000}, Random(1, "x"), 0.1, 2)});
    });
    CHECK(f(on_device(Tensor<T>(Shape{2, 0}))).shape() == Shape{2, 0});
    CHECK(f(on_device(Tensor<T>::scalar(1))).item() == doctest::Approx(g(1.0)));
}
template <class F> double slope_at(F f, double x) {
    auto v = parameter_on_device(Tensor<double>::scalar(x));
    f(v).backward();
    return v.grad().item();
}

} // namespace

TEST_CASE_TEMPLATE("exp", T, float, double) {
    check_function<T>([](const auto& x) { return exp(x); }, [](double x) { return std::exp(x); },
                      random_tensor<double>({3, 7}));
}
TEST_CASE_TEMPLATE("log", T, float, double) {
    check_function<T>([](const auto& x) { return log(x); }, [](double x) { return std::log(x); },
                      uniform<double>({3, 7}, Random(1, "x"), 0.1, 3));
    CHECK(log(on_device(Tensor<T>::scalar(0))).item() == -std::numeric_limits<T>::infinity());
    CHECK(std::isnan(log(on_device(Tensor<T>::scalar(-1))).item()));
}
TEST_CASE_TEMPLATE("abs", T, float, double) {
    check_function<T>([](const auto& x) { return abs(x); }, [](double x) { return std::abs(x); },
                      away_from_zero<double>({3, 7})); // the kink is 0.1 away, the steps are 1e-5
}
TEST_CASE_TEMPLATE("sqrt", T, float, double) {
    check_function<T>([](const auto& x) { return sqrt(x); }, [](double x) { return std::sqrt(x); },
                      uniform<double>({3, 7}, Random(1, "x"), 0.1, 3));
    CHECK(std::isnan(sqrt(on_device(Tensor<T>::scalar(-1))).item()));
}

TEST_CASE("abs and sqrt: the gradient at 0 is 0") {
    CHECK(slope_at([](auto& x) { return abs(x); }, 0.0) == 0);
    CHECK(slope_at([](auto& x) { return abs(x); }, -2.0) == -1);
    CHECK(slope_at([](auto& x) { return sqrt(x); }, 0.0) == 0);
    CHECK(slope_at([](auto& x) { return sqrt(x); }, 4.0) == 0.25);
}

TEST_CASE("math: channels stay, and exp and log move zero") {
    const auto x = parameter_on_device(Tensor<float>::ones({2, 3}));
    CHECK(rule_text(exp(x)) == "declared 0.-1=y.-1 moves zero");
    CHECK(rule_text(log(x)) == "declared 0.-1=y.-1 moves zero");
    CHECK(rule_text(abs(x)) == "declared 0.-1=y.-1");
    CHECK(rule_text(sqrt(x)) == "declared 0.-1=y.-1");
}
