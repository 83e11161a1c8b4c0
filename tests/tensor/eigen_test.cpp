#include "support/check.hpp"

#include <espalier/tensor/eigen.hpp>

using namespace espalier;

TEST_CASE_TEMPLATE("eigen: a map sees and changes the tensor's memory", T, float, double) {
    auto x = Tensor<T>::from({2, 2, 3}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    auto m = map(x);
    CHECK(m.rows() == 4);
    CHECK(m.cols() == 3);
    CHECK(m(2, 1) == 7);
    m(2, 1) = 70;
    CHECK(x.at(1, 0, 1) == 70);
    const Tensor<T> vector = Tensor<T>::ones({5}), scalar = Tensor<T>::scalar(2), none = Tensor<T>::zeros({3, 0});
    CHECK(map(vector).rows() == 1);
    CHECK(map(scalar)(0, 0) == 2);
    CHECK(map(none).size() == 0);
}
