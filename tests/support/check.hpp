#pragma once

#include <espalier/autograd/gradient_check.hpp>
#include <espalier/core/parallel.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

// What every test of an op needs: comparison that NaN cannot pass, gradients in double, the same bits twice.

namespace espalier::test {

/// The device that tests of ops run on: the CPU, or what ESPALIER_TEST_DEVICE in the environment says.
inline Device device_under_test() {
    static const Device device = [] {
        const char* const name = std::getenv("ESPALIER_TEST_DEVICE");
        return name && std::string(name) == "cuda" ? Device::cuda : Device::cpu;
    }();
    return device;
}
/// A tensor, or a constant with its value, on that device. What comes back is compared on the CPU.
/// @{
template <class T> Tensor<T> to_device(const Tensor<T>& x) { return x.to(device_under_test()); }
template <class T> Var<T> on_device(const Tensor<T>& x) { return Var<T>(to_device(x)); }
/// @}
/// As above, a leaf that wants a gradient.
template <class T> Var<T> parameter_on_device(const Tensor<T>& x) { return parameter(to_device(x.clone())); }

/// Why `got` is not close to `expected`, or an empty text.
///
/// Element i may differ by `factor` * eps(T) * scale[i], where scale is the sum of the absolute values of the terms
/// that were added up to make it (a scale of one element serves all). NaN and infinity never pass.
template <class T>
std::string difference(const Tensor<T>& got_on_device, const Tensor<double>& expected, const Tensor<double>& scale,
                       double factor) {
    const Tensor<T> got = got_on_device.to(Device::cpu);
    if (got.shape() != expected.shape()) return join_text("shape: expected ", expected.shape(), ", got ", got.shape());
    for (Index i = 0; i < got.size(); ++i) {
        const double g = static_cast<double>(got.data()[i]), e = expected.data()[i];
        const double s = std::abs(scale.data()[scale.size() == 1 ? 0 : i]);
        const double tolerance = factor * static_cast<double>(std::numeric_limits<T>::epsilon()) * s;
        if (!(std::abs(g - e) <= tolerance) || !std::isfinite(g))
            return join_text("element ", i, ": expected ", e, ", got ", g, " (tolerance ", tolerance, ")");
    }
    return {};
}

/// Fails the test case unless every element is close; by default relative to the largest expected element, at least 1.
template <class T>
void check_close(const Tensor<T>& got, const Tensor<double>& expected, double factor = 16,
                 const Tensor<double>& scale = {}) {
    double largest = 1;
    for (const double e : expected) largest = std::max(largest, std::abs(e));
    const std::string text =
        difference(got, expected, scale.defined() ? scale : Tensor<double>::scalar(largest), factor);
    CHECK_MESSAGE(text.empty(), text);
}

/// Fails the test case unless all gradients of `f` agree with central differences (see `check_gradients`): on the CPU
/// element by element, on a GPU along random directions, since an emulated one takes long for every call of `f`.
template <class F> void check_gradient(F&& f, const std::vector<Tensor<double>>& inputs) {
    std::vector<Tensor<double>> there;
    for (const auto& input : inputs) there.push_back(to_device(input));
    const GradientCheck result = check_gradients(f, there, {.directions = device_under_test() == Device::cpu ? 0 : 4});
    CHECK_MESSAGE(result.passed(), result.failure);
}

template <class T> bool same_bits(const Tensor<T>& a, const Tensor<T>& b) {
    const Tensor<T> u = a.to(Device::cpu), v = b.to(Device::cpu);
    return a.shape() == b.shape() &&
           (a.size() == 0 || std::memcmp(u.data(), v.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0);
}

/// Runs `f` with 1 and 2 threads and again with 2, and fails unless all tensors it returns have the same bits. On a
/// GPU, which has the same threads whatever the CPU's are, it runs twice. `f` returns a `std::vector<Tensor<T>>`:
/// outputs and gradients.
template <class F> void check_repeatable(F&& f) {
    set_threads(1);
    const auto one = f();
    set_threads(2);
    const auto two = f(), again = device_under_test() == Device::cpu ? f() : two;
    set_threads(0);
    REQUIRE(one.size() == two.size());
    for (std::size_t i = 0; i < one.size(); ++i) {
        CHECK_MESSAGE(same_bits(one[i], two[i]), "1 and 2 threads differ in tensor ", i);
        CHECK_MESSAGE(same_bits(two[i], again[i]), "two runs differ in tensor ", i);
    }
}

/// Values and gradients of every input of `f` (`std::vector<Var<T>>&` to `Var<T>`), for `check_repeatable`.
template <class T, class F> std::vector<Tensor<T>> forward_and_gradients(F&& f, const std::vector<Tensor<T>>& inputs) {
    std::vector<Var<T>> vars;
    for (const auto& input : inputs) vars.push_back(parameter_on_device(input));
    const Var<T> y = f(vars);
    y.backward(uniform<T>(y.shape(), Random(7, "cotangent"), -1, 1).to(y.device()));
    std::vector<Tensor<T>> all{y.value()};
    for (auto& v : vars) all.push_back(v.grad().defined() ? v.grad() : zeros_like(v.value()));
    return all;
}

/// Test data: uniform in [-1, 1), different for each name.
template <class T> Tensor<T> random_tensor(const Shape& shape, const char* name = "x") {
    return uniform<T>(shape, Random(1, name), -1, 1);
}
/// As above with every |element| in [0.1, 1): away from the kinks of relu and abs.
template <class T> Tensor<T> away_from_zero(const Shape& shape, const char* name = "x") {
    Tensor<T> x = random_tensor<T>(shape, name);
    for (Index i = 0; i < x.size(); ++i) {
        const T v = x.data()[i];
        x.mutable_data()[i] = v < 0 ? T(0.9) * v - T(0.1) : T(0.9) * v + T(0.1);
    }
    return x;
}

/// Whole numbers from -3 to 3, which every precision keeps.
inline Tensor<float> whole_numbers(const Shape& shape, const char* name) {
    Tensor<float> x = random_tensor<float>(shape, name);
    for (Index i = 0; i < x.size(); ++i) x.mutable_data()[i] = std::round(3.49f * x.data()[i]);
    return x;
}

/// The relative L2 error of `got`, and that of 0 where nothing was expected.
template <class T> double relative_error(const Tensor<T>& got_on_device, const Tensor<double>& expected) {
    const Tensor<T> got = got_on_device.to(Device::cpu);
    double error = 0, norm = 0;
    for (Index i = 0; i < expected.size(); ++i) {
        const double e = expected.data()[i], apart = static_cast<double>(got.data()[i]) - e;
        error += apart * apart;
        norm += e * e;
    }
    return std::sqrt(error / norm);
}

} // namespace espalier::test
