#include "support/check.hpp"

#include <espalier/train/clip.hpp>

#include <limits>

using namespace espalier;
using namespace espalier::test;

namespace {

template <class T> std::vector<NamedVar<T>> with_gradients(const std::vector<Tensor<T>>& gradients) {
    std::vector<NamedVar<T>> parameters;
    for (const Tensor<T>& g : gradients) {
        const Var<T> var = parameter_on_device(zeros_like(g));
        var.node()->add_grad(to_device(g.clone()));
        parameters.push_back({"p" + std::to_string(parameters.size()), var});
    }
    parameters.push_back({"without", parameter_on_device(Tensor<T>::ones({2}))});
    return parameters;
}
template <class T> std::vector<Tensor<T>> gradients_of(const std::vector<NamedVar<T>>& parameters) {
    std::vector<Tensor<T>> all;
    for (const auto& [name, var] : parameters)
        if (var.grad().defined()) all.push_back(var.grad().to(Device::cpu).clone());
    return all;
}
template <class T> std::vector<Tensor<T>> some() {
    return {random_tensor<T>({3, 2, 2, 5}, "a"), random_tensor<T>({5}, "b"), Tensor<T>::zeros({0, 3}),
            Tensor<T>::scalar(T(-2))};
}

} // namespace

TEST_CASE_TEMPLATE("clip_gradient_norm: all gradients are scaled by one factor, or left alone", T, float, double) {
    double sum = 0;
    for (const Tensor<T>& g : some<T>())
        for (const T v : g) sum += static_cast<double>(v) * static_cast<double>(v);
    const double norm = std::sqrt(sum);

    const auto parameters = with_gradients(some<T>());
    CHECK(clip_gradient_norm(parameters, 2 * norm) == doctest::Approx(norm).epsilon(1e-14)); // sums in double
    const auto untouched = gradients_of(parameters);
    for (std::size_t i = 0; i < untouched.size(); ++i) CHECK(same_bits(untouched[i], some<T>()[i]));

    CHECK(clip_gradient_norm(parameters, norm / 4) == doctest::Approx(norm).epsilon(1e-14));
    const auto clipped = gradients_of(parameters);
    REQUIRE(clipped.size() == 4);
    for (std::size_t i = 0; i < clipped.size(); ++i) {
        Tensor<double> expected = some<T>()[i].template cast<double>();
        for (Index j = 0; j < expected.size(); ++j) expected.mutable_data()[j] /= 4;
        check_close(clipped[i], expected, 4); // the factor and one product
    }
    CHECK_FALSE(parameters.back().var.grad().defined());
    // What is left is the limit, up to the rounding of the factor and of the products.
    CHECK(clip_gradient_norm(parameters, 1e9) ==
          doctest::Approx(norm / 4).epsilon(4 * static_cast<double>(std::numeric_limits<T>::epsilon())));
}

TEST_CASE_TEMPLATE("clip_gradient_values: every element ends within the limit", T, float, double) {
    const auto parameters = with_gradients(some<T>());
    CHECK(clip_gradient_values(parameters, 3) == 2);
    CHECK(same_bits(gradients_of(parameters)[0], some<T>()[0]));
    CHECK(clip_gradient_values(parameters, 0.25) == 2);
    const auto clipped = gradients_of(parameters);
    for (std::size_t i = 0; i < clipped.size(); ++i)
        for (Index j = 0; j < clipped[i].size(); ++j)
            CHECK(clipped[i].data()[j] == std::clamp(some<T>()[i].data()[j], T(-0.25), T(0.25)));
    CHECK_FALSE(parameters.back().var.grad().defined());
    CHECK(clip_gradient_values(parameters, 1) == 0.25);
}

TEST_CASE_TEMPLATE("clip: gradients that are not finite are an error that names the first, with nothing changed", T,
                   float, double) {
    for (const T bad : {std::numeric_limits<T>::quiet_NaN(), -std::numeric_limits<T>::infinity()}) {
        auto gradients = some<T>();
        gradients[1].mutable_data()[3] = bad;
        const auto parameters = with_gradients(gradients);
        CHECK_THROWS_WITH_AS(clip_gradient_norm(parameters, 1e-3), doctest::Contains("at the gradient of 'p1'"),
                             StateError);
        CHECK_THROWS_WITH_AS(clip_gradient_values(parameters, 1e-3), doctest::Contains("for 'p1'"), StateError);
        for (std::size_t i = 0; i < gradients.size(); ++i) CHECK(same_bits(gradients_of(parameters)[i], gradients[i]));
    }
}

TEST_CASE("clip: floats whose squares are too large for a float have a norm") {
    const auto parameters = with_gradients<float>({Tensor<float>::full({2}, 3e30f)});
    CHECK(clip_gradient_norm(parameters, 1) == doctest::Approx(3e30 * std::sqrt(2.0)).epsilon(1e-7));
    CHECK(clip_gradient_norm(parameters, 2) == doctest::Approx(1).epsilon(1e-6)); // two roundings to float
}

TEST_CASE("clip: same bits for 1 and 2 threads, beyond one block of a sum") {
    check_repeatable([] {
        const auto parameters =
            with_gradients<float>({random_tensor<float>({3, 100003}, "a"), random_tensor<float>({7}, "b")});
        const double norm = clip_gradient_norm(parameters, 0.5);
        auto all = gradients_of(parameters);
        clip_gradient_values(parameters, 1e-4);
        for (const Tensor<float>& g : gradients_of(parameters)) all.push_back(g);
        std::int32_t halves[2];
        static_assert(sizeof halves == sizeof norm);
        std::memcpy(halves, &norm, sizeof norm);
        all.push_back(Tensor<float>::from({2}, {static_cast<float>(halves[0]), static_cast<float>(halves[1])}));
        return all;
    });
}

TEST_CASE("clip: without gradients there is nothing to do, and a limit must be positive") {
    const std::vector<NamedVar<float>> none;
    CHECK(clip_gradient_norm(none, 1) == 0);
    CHECK(clip_gradient_values(none, 1) == 0);
    for (const double limit : {0.0, -1.0, std::nan("")}) {
        CHECK_THROWS_WITH_AS(clip_gradient_norm(none, limit), doctest::Contains("a positive limit"), ShapeError);
        CHECK_THROWS_WITH_AS(clip_gradient_values(none, limit), doctest::Contains("a positive limit"), ShapeError);
    }
}
