#include <espalier/ops/matmul.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

namespace {

/// The definition, with the sum of the absolute terms of each element beside it.
template <class T> std::pair<Tensor<double>, Tensor<double>> reference(const Tensor<T>& a, const Tensor<T>& b) {
    const Shape shape{a.size(0), b.size(1)};
    Tensor<double> y = Tensor<double>::zeros(shape), scale = Tensor<double>::zeros(shape);
    for (Index m = 0; m < a.size(0); ++m)
        for (Index k = 0; k < b.size(1); ++k)
            for (Index c = 0; c < a.size(1); ++c) {
                const double term = static_cast<double>(a.at(m, c)) * static_cast<double>(b.at(c, k));
                y.set(y.at(m, k) + term, m, k);
                scale.set(scale.at(m, k) + std::abs(term), m, k);
            }
    return {y, scale};
}

template <class T> Tensor<T> turned(const Tensor<T>& a) {
    Tensor<T> t({a.size(1), a.size(0)});
    for (Index i = 0; i < a.size(0); ++i)
        for (Index j = 0; j < a.size(1); ++j) t.set(a.at(i, j), j, i);
    return t;
}

} // namespace

TEST_CASE_TEMPLATE("matmul: value and gradients", T, float, double) {
    for (const Index m : {1, 7, 40})
        for (const Index c : {1, 13, 200})
            for (const Index k : {1, 16, 37}) {
                CAPTURE(m);
                CAPTURE(c);
                CAPTURE(k);
                const auto a = random_tensor<T>({m, c}, "a"), b = random_tensor<T>({c, k}, "b");
                const Var<T> av = parameter_on_device(a), bv = parameter_on_device(b);
                const Var<T> y = matmul(av, bv);
                // One rounding a term of random sign; 16 allows for some of them to line up.
                const auto [value, scale] = reference(a, b);
                check_close(y.value(), value, 16, scale);
                const auto dy = random_tensor<T>({m, k}, "dy");
                y.backward(to_device(dy));
                const auto [da, da_scale] = reference(dy, turned(b));
                check_close(av.grad(), da, 16, da_scale);
                const auto [db, db_scale] = reference(turned(a), dy);
                check_close(bv.grad(), db, 16, db_scale);
                const PathScope scope(Path::fixed_order);
                check_close(matmul(av, bv).value(), value, 16, scale);
            }
}

TEST_CASE("matmul: tensor cores round operands as far as was asked, and nothing that is not in quads") {
    if (device_under_test() != Device::cuda) return;
    const auto passes = [](const Tensor<float>& a, const Tensor<float>& b, const Tensor<float>& dy, Path path,
                           MatmulPrecision precision) {
        const PathScope path_scope(path);
        const MatmulPrecisionScope scope(precision);
        const Var<float> av = parameter_on_device(a), bv = parameter_on_device(b);
        const Var<float> y = matmul(av, bv);
        y.backward(to_device(dy));
        return std::vector<Tensor<float>>{y.value(), av.grad(), bv.grad()};
    };
    const auto fp32 = MatmulPrecision::fp32, tf32 = MatmulPrecision::tf32, bf16 = MatmulPrecision::bf16;
    for (const auto& [m, c, k] : {std::tuple(76, 132, 68), std::tuple(8, 700, 4)}) {
        const auto a = random_tensor<float>({m, c}, "a"), b = random_tensor<float>({c, k}, "b"),
                   dy = random_tensor<float>({m, k}, "dy");
        const Tensor<double> expected[]{reference(a, b).first, reference(dy, turned(b)).first,
                                        reference(turned(a), dy).first};
        for (const auto& [precision, bound] : {std::pair(tf32, 1e-3), std::pair(bf16, 8e-3)}) { // as of convolutions
            const auto rounded = passes(a, b, dy, Path::fast, precision);
            for (std::size_t i = 0; i < rounded.size(); ++i) {
                const double error = relative_error(rounded[i], expected[i]);
                CHECK_MESSAGE((error < bound && error > bound / 10), "product ", i, ": ", error);
            }
            const auto precise = passes(a, b, dy, Path::precise, precision), plain = passes(a, b, dy, Path::fast, fp32);
            for (std::size_t i = 0; i < plain.size(); ++i) CHECK(same_bits(plain[i], precise[i]));
        }
        const auto u = whole_numbers({m, c}, "a"), v = whole_numbers({c, k}, "b"), dw = whole_numbers({m, k}, "dy");
        const auto exact = passes(u, v, dw, Path::fast, bf16); // sums of such numbers are exact
        check_close(exact[0], reference(u, v).first, 0);
        check_close(exact[1], reference(dw, turned(v)).first, 0);
        check_close(exact[2], reference(turned(u), dw).first, 0);
    }
    const auto a = random_tensor<float>({5, 6}, "a"), b = random_tensor<float>({6, 7}, "b"),
               dy = random_tensor<float>({5, 7}, "dy");
    const auto odd = passes(a, b, dy, Path::fast, bf16), plain = passes(a, b, dy, Path::fast, fp32);
    for (std::size_t i = 0; i < plain.size(); ++i) CHECK(same_bits(plain[i], odd[i]));
}

TEST_CASE("matmul: gradients agree with differences") {
    check_gradient([](auto& v) { return matmul(v[0], v[1]); },
                   {random_tensor<double>({3, 5}), random_tensor<double>({5, 4}, "b")});
}

TEST_CASE_TEMPLATE("matmul: same bits for 1 and 2 threads", T, float, double) {
    check_repeatable([] {
        return forward_and_gradients<T>([](auto& v) { return matmul(v[0], v[1]); },
                                        {random_tensor<T>({70, 90}), random_tensor<T>({90, 50}, "b")});
    });
}

TEST_CASE_TEMPLATE("matmul: on the fixed-order path terms that are zero can go without changing a bit", T, float,
                   double) {
    auto a = random_tensor<T>({5, 12}), b = random_tensor<T>({12, 11}, "b");
    Tensor<T> thin_a({5, 8}), thin_b({8, 11});
    for (Index c = 0, next = 0; c < 12; ++c) {
        const bool kept = c % 3 != 1;
        for (Index m = 0; m < 5; ++m) kept ? thin_a.set(a.at(m, c), m, next) : a.set(T(0), m, c);
        for (Index k = 0; kept && k < 11; ++k) thin_b.set(b.at(c, k), next, k);
        next += kept;
    }
    const PathScope scope(Path::fixed_order);
    CHECK(same_bits(matmul(on_device(a), on_device(b)).value(), matmul(on_device(thin_a), on_device(thin_b)).value()));
}

TEST_CASE_TEMPLATE("matmul: extents of 0", T, float, double) {
    for (const Path path : {Path::fast, Path::fixed_order}) {
        const PathScope scope(path);
        const auto run = [](Index m, Index c, Index k) {
            const Var<T> a = parameter_on_device(Tensor<T>::ones({m, c})),
                         b = parameter_on_device(Tensor<T>::ones({c, k}));
            const Var<T> y = matmul(a, b);
            y.backward(Tensor<T>::ones(y.shape(), y.device()));
            for (const T v : a.grad().to_vector()) CHECK(v == T(0));
            for (const T v : b.grad().to_vector()) CHECK(v == T(0));
            return y.value();
        };
        CHECK(run(0, 3, 4).shape() == Shape{0, 4});
        CHECK(run(3, 4, 0).shape() == Shape{3, 0});
        const auto y = run(3, 0, 2);
        CHECK(y.shape() == Shape{3, 2});
        for (const T v : y.to_vector()) CHECK(v == T(0));
    }
}

TEST_CASE("matmul: what does not fit is refused") {
    const auto a = on_device(Tensor<float>::ones({2, 3})), b = on_device(Tensor<float>::ones({2, 3}));
    CHECK_THROWS_WITH_AS(matmul(a, b), doctest::Contains("expected a [M,C] and b [C,K], got a [2,3] and b [2,3]"),
                         ShapeError);
    CHECK_THROWS_AS(matmul(a, on_device(Tensor<float>::ones({3}))), ShapeError);
}

TEST_CASE("matmul: operands are on one device") {
    if (device_under_test() == Device::cpu) return;
    const Tensor<float> a = Tensor<float>::ones({2, 3}), b = Tensor<float>::ones({3, 4});
    CHECK_THROWS_WITH_AS(matmul(on_device(a), Var<float>(b)), doctest::Contains("matmul: expected operands on one"),
                         DeviceError);
}
