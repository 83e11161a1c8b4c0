#include <espalier/cpu/elementwise.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

// Elements of any view in row-major order, by their indices alone.
template <class T> std::vector<double> elements(const Strided<T>& x) {
    std::vector<double> all;
    for (Index i = 0; i < x.size(); ++i) {
        Index rest = i, offset = 0;
        for (int axis = Shape::max_rank - 1; axis >= 0; --axis) {
            offset += rest % x.size(axis) * x.stride(axis);
            rest /= x.size(axis);
        }
        all.push_back(static_cast<double>(x.data()[offset]));
    }
    return all;
}

} // namespace

TEST_CASE("elementwise: views of any strides are walked in the same order") {
    const auto a = random_tensor<double>({2, 3, 4, 5}, "a"), b = random_tensor<double>({3, 1, 5}, "b");
    const std::vector<std::pair<Strided<const double>, Strided<const double>>> cases = {
        {strided(a), strided(a)},
        {strided(a), broadcast_to(b, a.shape())},
        {broadcast_to(b, a.shape()), strided(a)},
        {strided(a), broadcast_to(Tensor<double>::scalar(3), a.shape())},
        {broadcast_to(random_tensor<double>({2, 1, 1, 1}), a.shape()), broadcast_to(b, a.shape())},
        {broadcast_to(random_tensor<double>({3, 4, 1}), a.shape()), broadcast_to(b, a.shape())},
        {entries(strided(a), 4, 3, 1, 2, 2), entries(strided(a), 4, 3, 0, 2)},
        {entries(strided(a), 4, 1, 0, 2, 2), entries(strided(a), 4, 1, 1, 2)},
        {entries(strided(a), 4, 0, 2, 0), entries(strided(a), 4, 0, 0, 0)},
    };
    for (const auto& [u, v] : cases) {
        std::vector<double> expected = elements(u), second = elements(v);
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] -= 2 * second[i];
        Shape shape;
        for (int axis = 0; axis < Shape::max_rank; ++axis) shape.append(u.size(axis));
        Tensor<double> y(shape);
        kernels::elementwise(
            Cpu{}, [](double s, double t) { return s - 2 * t; }, mutable_strided(y), u, v);
        CHECK(y.to_vector() == expected);
    }
}

TEST_CASE("elementwise: writes into a part of a tensor and leaves the rest") {
    const auto x = random_tensor<float>({2, 3});
    auto y = Tensor<float>::full({2, 4, 3}, 9);
    kernels::copy(Cpu{}, strided(x.reshape({2, 1, 3})), entries(mutable_strided(y), 3, 1, 2, 1));
    for (Index i = 0; i < 2; ++i)
        for (Index j = 0; j < 4; ++j)
            for (Index k = 0; k < 3; ++k) CHECK(y.at(i, j, k) == (j == 2 ? x.at(i, k) : 9.f));
}

TEST_CASE("elementwise: ranges that begin in the middle of a row join without a gap") {
    const Index rows = 7, columns = kernels::elementwise_grain / 3; // ranges and rows never end together
    const auto a = random_tensor<float>({rows, columns}, "a"), b = random_tensor<float>({columns}, "b");
    Tensor<float> y(a.shape());
    kernels::elementwise(
        Cpu{}, [](float u, float v) { return u + v; }, mutable_strided(y), strided(a), broadcast_to(b, a.shape()));
    Index wrong = 0;
    for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j) wrong += y.at(i, j) != a.at(i, j) + b.at(j);
    CHECK(wrong == 0);
}

TEST_CASE("elementwise: a scalar is one element, an empty tensor none") {
    Tensor<float> one(Shape{}), none({2, 0, 3});
    kernels::copy(Cpu{}, strided(Tensor<float>::scalar(4)), mutable_strided(one));
    CHECK(one.item() == 4);
    kernels::copy(Cpu{}, broadcast_to(Tensor<float>::scalar(4), none.shape()), mutable_strided(none));
}
