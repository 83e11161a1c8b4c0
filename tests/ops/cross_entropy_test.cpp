#include <espalier/ops/cross_entropy.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

// The definition, without a thought for overflow.
template <class T> Tensor<double> reference(const Tensor<T>& x, const Tensor<Index>& labels, double smoothing) {
    const Index N = x.size(0), K = x.size(1);
    double loss = 0;
    for (Index n = 0; n < N; ++n) {
        double sum = 0;
        for (Index k = 0; k < K; ++k) sum += std::exp(static_cast<double>(x.at(n, k)));
        for (Index k = 0; k < K; ++k) {
            const double target = (k == labels.at(n) ? 1 - smoothing : 0.0) + smoothing / static_cast<double>(K);
            loss -= target * std::log(std::exp(static_cast<double>(x.at(n, k))) / sum) / static_cast<double>(N);
        }
    }
    return Tensor<double>::scalar(loss);
}
Tensor<Index> labels_of(const std::vector<Index>& labels) {
    return to_device(Tensor<Index>::from({static_cast<Index>(labels.size())}, labels));
}
const auto labels4 = Tensor<Index>::from({4}, {2, 0, 4, 2});

} // namespace

TEST_CASE_TEMPLATE("cross_entropy: values", T, float, double) {
    const auto x = random_tensor<T>({4, 5});
    for (const double smoothing : {0.0, 0.1, 1.0})
        // The sum over classes of e^x is rounded in T; the rest in double.
        check_close(cross_entropy(on_device(x), to_device(labels4), {.label_smoothing = smoothing}).value(),
                    reference(x, labels4, smoothing), 8);
    CHECK(cross_entropy(on_device(Tensor<T>::ones({1, 1})), labels_of({0})).item() == 0);
    CHECK(cross_entropy(on_device(Tensor<T>::zeros({3, 8})), to_device(Tensor<Index>::zeros({3}))).item() ==
          doctest::Approx(std::log(8.0)));
}

TEST_CASE("cross_entropy: gradients") {
    for (const double smoothing : {0.0, 0.1, 1.0})
        check_gradient([&](auto& v) { return cross_entropy(v[0], to_device(labels4), {.label_smoothing = smoothing}); },
                       {random_tensor<double>({4, 5})});
}

TEST_CASE_TEMPLATE("cross_entropy: large logits neither overflow nor lose the loss", T, float, double) {
    auto x = parameter_on_device(Tensor<T>::from({2, 3}, {30000, 0, -30000, -30000, 0, 30000}));
    const auto loss = cross_entropy(x, labels_of({0, 1}));
    CHECK(loss.item() == 15000);
    loss.backward();
    CHECK(x.grad().to_vector() == std::vector<T>{0, 0, 0, 0, T(-0.5), T(0.5)});
    auto masked = parameter_on_device(Tensor<T>::from({1, 2}, {1, -std::numeric_limits<T>::infinity()}));
    CHECK(cross_entropy(masked, labels_of({0})).item() == 0);
}

TEST_CASE("cross_entropy: labels may change after the forward pass") {
    auto x = parameter_on_device(random_tensor<double>({4, 5}));
    auto labels = to_device(labels4.clone());
    const auto loss = cross_entropy(x, labels);
    labels.fill(0);
    loss.backward();
    CHECK(x.grad().at(0, 2) < 0);
    CHECK(x.grad().at(0, 0) > 0);
}

TEST_CASE_TEMPLATE("cross_entropy: same bits on 1 and 2 threads", T, float, double) {
    const Index rows = device_under_test() == Device::cpu ? 40000 : 400;
    std::vector<Index> labels;
    for (Index n = 0; n < rows; ++n) labels.push_back(n % 10);
    check_repeatable([&, there = labels_of(labels)] {
        return forward_and_gradients<T>([&](auto& v) { return cross_entropy(v[0], there, {.label_smoothing = 0.1}); },
                                        {random_tensor<T>({rows, 10})});
    });
}

TEST_CASE("cross_entropy: what is wrong is named") {
    const auto x = on_device(Tensor<float>::ones({2, 3}));
    CHECK_THROWS_WITH_AS(cross_entropy(x, labels_of({0, 0, 0})),
                         "cross_entropy: expected logits [N,K] and labels [N], got logits [2,3] and labels [3]",
                         ShapeError);
    CHECK_THROWS_WITH_AS(cross_entropy(on_device(Tensor<float>(Shape{0, 3})), to_device(Tensor<Index>(Shape{0}))),
                         doctest::Contains("at least one row"), ShapeError);
    CHECK_THROWS_WITH_AS(cross_entropy(x, to_device(Tensor<Index>::zeros({2})), {.label_smoothing = 1.5}),
                         doctest::Contains("got 1.5"), ShapeError);
    CHECK(rule_text(cross_entropy(parameter_on_device(x.value()), to_device(Tensor<Index>::zeros({2})))) ==
          "declared block 0 (classes)");
}

TEST_CASE("cross_entropy: labels out of range") {
    const auto x = parameter_on_device(Tensor<float>::ones({2, 3}));
    if (device_under_test() != Device::cpu) { // nobody has looked at them when the loss is made
        for (const Index label : {Index(3), Index(-1), Index(1) << 40}) {
            const auto loss = cross_entropy(x, labels_of({1, label}));
            CHECK(std::isnan(loss.item()));
            CHECK_NOTHROW(loss.backward());
            CHECK(correct(x.value(), labels_of({0, label})) == 1);
        }
        return;
    }
    CHECK_THROWS_WITH_AS(cross_entropy(x, labels_of({1, 3})),
                         "cross_entropy: expected labels from 0 to 2 for logits [2,3], got 3 in row 1", ShapeError);
    CHECK_THROWS_WITH_AS(cross_entropy(x, labels_of({-1, 0})), doctest::Contains("got -1 in row 0"), ShapeError);
    CHECK_THROWS_WITH_AS(cross_entropy(on_device(Tensor<float>(Shape{2, 0})), to_device(Tensor<Index>::zeros({2}))),
                         doctest::Contains("got 0 in row 0"), ShapeError);
}

TEST_CASE_TEMPLATE("correct: the first largest logit counts, NaN never does", T, float, double) {
    const T nan_ = std::numeric_limits<T>::quiet_NaN();
    const auto x = to_device(Tensor<T>::from({6, 3}, {1, 2, 3, 3, 2, 1, 2, 2, 1, 2, 2, 1, nan_, 1, 0, nan_, 1, 0}));
    CHECK(correct(x, labels_of({2, 0, 0, 1, 0, 1})) == 3);
    CHECK(correct(to_device(Tensor<T>(Shape{0, 3})), to_device(Tensor<Index>(Shape{0}))) == 0);
    if (device_under_test() == Device::cpu)
        CHECK_THROWS_WITH_AS(correct(x, labels_of({0, 0, 0, 0, 0, 9})),
                             "correct: expected labels from 0 to 2 for logits [6,3], got 9 in row 5", ShapeError);
}
