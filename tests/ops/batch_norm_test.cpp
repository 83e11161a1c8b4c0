#include <espalier/ops/activation.hpp>
#include <espalier/ops/batch_norm.hpp>
#include <espalier/ops/conv2d.hpp>
#if !ESPALIER_CUDA
#include <espalier/ops/join.hpp>
#endif

#include "support/check.hpp"

#include <numeric>

using namespace espalier;
using namespace espalier::test;

namespace {

struct Statistics {
    std::vector<double> mean, variance; // biased
};

template <class T> Statistics statistics_of(const Tensor<T>& x_on_device) {
    const Tensor<T> x = x_on_device.to(Device::cpu);
    const Index C = x.size(-1), M = C == 0 ? 0 : x.size() / C;
    Statistics s{std::vector<double>(static_cast<std::size_t>(C)), std::vector<double>(static_cast<std::size_t>(C))};
    for (Index c = 0; c < C; ++c) {
        long double mean = 0, variance = 0; // of doubles, too, far from zero
        for (Index m = 0; m < M; ++m) mean += static_cast<long double>(x.data()[m * C + c]) / M;
        for (Index m = 0; m < M; ++m) {
            const long double d = static_cast<long double>(x.data()[m * C + c]) - mean;
            variance += d * d / M;
        }
        s.mean[static_cast<std::size_t>(c)] = static_cast<double>(mean);
        s.variance[static_cast<std::size_t>(c)] = static_cast<double>(variance);
    }
    return s;
}

// The definition, and with `scale` the sum of the absolute values of its terms.
template <class T>
Tensor<double> reference(const Tensor<T>& x_on_device, const Tensor<T>& gamma_there, const Tensor<T>& beta_there,
                         const Statistics& s, double epsilon, Activation activation, Tensor<double>* scale = nullptr) {
    const Tensor<T> x = x_on_device.to(Device::cpu), gamma = gamma_there.to(Device::cpu),
                    beta = beta_there.to(Device::cpu);
    const Index C = x.size(-1);
    Tensor<double> y(x.shape());
    if (scale) *scale = Tensor<double>(x.shape());
    for (Index i = 0; i < x.size(); ++i) {
        const auto c = static_cast<std::size_t>(i % C);
        const double v = static_cast<double>(x.data()[i]);
        const double a = static_cast<double>(gamma.data()[c]) / std::sqrt(s.variance[c] + epsilon);
        const double b = static_cast<double>(beta.data()[c]);
        const double z = a * (v - s.mean[c]) + b;
        y.mutable_data()[i] = activation == Activation::relu ? std::max(0.0, z) : z;
        if (scale) scale->mutable_data()[i] = std::abs(a) * (std::abs(v) + std::abs(s.mean[c])) + std::abs(b);
    }
    return y;
}

template <class T> struct Operands {
    Var<T> x, gamma, beta, mean, variance;
    explicit Operands(const Shape& shape)
        : x(parameter_on_device(random_tensor<T>(shape))),
          gamma(parameter_on_device(uniform<T>({shape.back()}, Random(2, "gamma"), -2, 2))),
          beta(parameter_on_device(random_tensor<T>({shape.back()}, "beta"))),
          mean(on_device(random_tensor<T>({shape.back()}, "mean"))),
          variance(on_device(uniform<T>({shape.back()}, Random(2, "variance"), 0.5, 2))) {}
    Var<T> operator()(const BatchNormOptions& options = {}) const {
        return batch_norm(x, gamma, beta, mean, variance, options);
    }
};

constexpr Activation activations[] = {Activation::none, Activation::relu};

} // namespace

TEST_CASE_TEMPLATE("batch_norm: values in training for narrow, odd and wide maps", T, float, double) {
    // rows of eight pixels with and without a remainder, several blocks of pixels, wide maps, strips of a wide row
    for (const Shape& shape :
         {Shape{2, 3, 3, 1}, Shape{3, 5, 7, 3}, Shape{4, 20, 20, 16}, Shape{5, 13, 11, 37}, Shape{3, 5, 5, 127},
          Shape{2, 9, 9, 128}, Shape{3, 4, 4, 131}, Shape{9, 4, 4, 1100}, Shape{33, 12}, Shape{2, 1}, Shape{9001, 2}})
        for (const Activation activation : activations) {
            const Operands<T> o(shape);
            const Statistics s = statistics_of(o.x.value());
            Tensor<double> scale;
            const auto y = reference(o.x.value(), o.gamma.value(), o.beta.value(), s, 1e-5, activation, &scale);
            // 16 roundings on the way to a, b and y, and the statistics' own, which are of the size of eps * sqrt(M)
            check_close(o({.activation = activation}).value(), y, 32, scale);
        }
}

TEST_CASE_TEMPLATE("batch_norm: running statistics follow PyTorch", T, float, double) {
    const Operands<T> o({3, 4, 5, 6});
    const auto mean = o.mean.value().clone(), variance = o.variance.value().clone();
    const Statistics s = statistics_of(o.x.value());
    Tensor<double> new_mean({6}), new_variance({6});
    for (Index c = 0; c < 6; ++c) {
        const auto k = static_cast<std::size_t>(c);
        new_mean.set(0.75 * static_cast<double>(mean.at(c)) + 0.25 * s.mean[k], c);
        new_variance.set(0.75 * static_cast<double>(variance.at(c)) + 0.25 * s.variance[k] * 60 / 59, c);
    }
    SUBCASE("training updates them in place") {
        o({.momentum = 0.25});
        check_close(o.mean.value(), new_mean, 4);
        check_close(o.variance.value(), new_variance, 4);
    }
    SUBCASE("training without recording does so too") {
        const NoGrad no_grad;
        o({.momentum = 0.25});
        check_close(o.mean.value(), new_mean, 4);
    }
    SUBCASE("momentum 0 keeps them") {
        o({.momentum = 0});
        CHECK(same_bits(o.mean.value(), mean));
        CHECK(same_bits(o.variance.value(), variance));
    }
    SUBCASE("inference keeps them and uses them") {
        const auto y = o({.mode = Mode::inference});
        CHECK(same_bits(o.mean.value(), mean));
        CHECK(same_bits(o.variance.value(), variance));
        const auto running_mean = mean.template cast<double>().to_vector();
        const auto running_variance = variance.template cast<double>().to_vector();
        check_close(y.value(), reference(o.x.value(), o.gamma.value(), o.beta.value(), {running_mean, running_variance},
                                         1e-5, Activation::none));
    }
}

TEST_CASE_TEMPLATE("batch_norm: statistics survive a mean far from zero and an outlier", T, float, double) {
    const Index M = 40000;
    Tensor<T> x = random_tensor<T>({M, 3});
    for (Index m = 0; m < M; ++m) {
        x.set(x.at(m, 0) + T(4096), m,
              0); // x is rounded to 1/2048 for floats; a naive E[x^2] - E[x]^2 has nothing left
        x.set(T(m == 0 ? 1000 : 5), m, 1); // the first pixel, which is among the samples of the pivot
        x.set(T(7), m, 2);
    }
    const Statistics s = statistics_of(x);
    Operands<T> o({M, 3});
    o.x.set_value(to_device(x));
    o({.momentum = 1});
    for (Index c = 0; c < 2; ++c) {
        const auto k = static_cast<std::size_t>(c);
        CHECK(static_cast<double>(o.mean.value().at(c)) == doctest::Approx(s.mean[k]).epsilon(1e-6));
        const double unbiased = s.variance[k] * M / (M - 1);
        // the outlier moves the pivot by 995 / 16, 12 deviations: 12 * 12 * 16 roundings at most are lost to
        // cancellation
        CHECK(static_cast<double>(o.variance.value().at(c)) == doctest::Approx(unbiased).epsilon(1e-3));
    }
    CHECK(o.mean.value().at(2) == T(7));
    CHECK(o.variance.value().at(2) == T(0));
}

TEST_CASE_TEMPLATE("batch_norm: masked channels are exactly constant in inference", T, float, double) {
    const Index C = 11;
    Operands<T> o({3, 4, 4, C});
    for (const Index c : {0, 4, 9, 10}) {
        o.gamma.mutable_value().set(T(0), c);
        o.mean.mutable_value().set(T(0), c);
    }
    o.beta.mutable_value().set(T(0), 4);
    o.beta.mutable_value().set(T(0), 10);
    const auto y = o({.mode = Mode::inference}).value().to(Device::cpu);
    for (Index m = 0; m < 48; ++m)
        for (const Index c : {0, 4, 9, 10}) CHECK(y.data()[m * C + c] == o.beta.value().at(c));
}

TEST_CASE_TEMPLATE("batch_norm: in inference a channel's bits do not depend on its neighbours", T, float, double) {
    const Operands<T> wide({3, 5, 5, 24});
    const std::vector<Index> kept = {1, 2, 5, 7, 11, 12, 13, 18, 21, 22, 23};
    const auto count = static_cast<Index>(kept.size());
    const auto narrow = [&](const Tensor<T>& there) {
        const Tensor<T> t = there.to(Device::cpu);
        Tensor<T> result({t.size() / 24, count});
        for (Index m = 0; m < t.size() / 24; ++m)
            for (Index k = 0; k < count; ++k) result.set(t.data()[m * 24 + kept[static_cast<std::size_t>(k)]], m, k);
        return result;
    };
    const auto vector = [&](const Var<T>& v) { return on_device(narrow(v.value()).reshape({count})); };
    const BatchNormOptions options{.mode = Mode::inference, .activation = Activation::relu};
    const auto y = batch_norm(on_device(narrow(wide.x.value())), vector(wide.gamma), vector(wide.beta),
                              vector(wide.mean), vector(wide.variance), options);
    CHECK(same_bits(y.value(), narrow(wide(options).value())));
}

TEST_CASE("batch_norm: gradients") {
    const Index wide = device_under_test() == Device::cpu ? 130 : 35; // an emulated GPU is slow
    for (const Mode mode : {Mode::training, Mode::inference})
        for (const Activation activation : activations)
            for (const Shape& shape : {Shape{2, 3, 3, 2}, Shape{7, 5}, Shape{2, wide}}) {
                CAPTURE(static_cast<int>(mode));
                CAPTURE(static_cast<int>(activation));
                const Operands<double> o(shape);
                // outputs at least 1e-3 from the kink of relu, which is a hundred steps
                const auto y = o({.mode = mode}).value().to(Device::cpu), old = o.beta.value().to(Device::cpu);
                auto beta = old.clone();
                const Index C = shape.back();
                for (bool moved = true; moved;) {
                    moved = false;
                    for (Index i = 0; i < y.size(); ++i)
                        if (const Index c = i % C; std::abs(y.data()[i] - old.at(c) + beta.at(c)) < 1e-3) {
                            beta.set(beta.at(c) + 2.1e-3, c);
                            moved = true;
                        }
                }
                check_gradient(
                    [&](std::vector<Var<double>>& v) {
                        return batch_norm(v[0], v[1], v[2], on_device(o.mean.value().clone()),
                                          on_device(o.variance.value().clone()),
                                          {.mode = mode, .activation = activation});
                    },
                    {o.x.value(), o.gamma.value(), beta});
            }
}

TEST_CASE_TEMPLATE("batch_norm: float gradients agree with double ones over many blocks", T, float, double) {
    for (const Index C : {5, 16, 130}) {
        const Shape shape{6, 20, 20, C};
        const auto run = [&]<class U>(U) {
            const auto as = [](const Var<float>& v) { return v.value().template cast<U>(); };
            const Operands<float> o(shape);
            return forward_and_gradients<U>(
                [&](std::vector<Var<U>>& v) {
                    return batch_norm(v[0], v[1], v[2], Var<U>(as(o.mean)), Var<U>(as(o.variance)));
                },
                {as(o.x), as(o.gamma), as(o.beta)});
        };
        const auto got = run(T{});
        const auto expected = run(0.0);
        // the cotangent is drawn in T: it differs by a rounding of T; the sums for gamma and beta have 2400 terms
        for (std::size_t i = 0; i < got.size(); ++i)
            check_close(got[i], expected[i].to(Device::cpu), 64, Tensor<double>::scalar(i < 2 ? 4 : 2400));
    }
}

TEST_CASE_TEMPLATE("batch_norm: same bits for any number of threads", T, float, double) {
    for (const Shape& shape : {Shape{6, 30, 30, 16}, Shape{9, 21, 21, 13}, Shape{16, 4, 4, 300}})
        check_repeatable([&] {
            const Operands<T> o(shape);
            auto all = forward_and_gradients<T>(
                [&](std::vector<Var<T>>& v) {
                    return batch_norm(v[0], v[1], v[2], o.mean, o.variance, {.activation = Activation::relu});
                },
                {o.x.value(), o.gamma.value(), o.beta.value()});
            all.push_back(o.mean.value());
            all.push_back(o.variance.value());
            return all;
        });
}

TEST_CASE_TEMPLATE("batch_norm: NaN passes through the fused relu", T, float, double) {
    Operands<T> o({4, 9});
    o.x.mutable_value().set(std::numeric_limits<T>::quiet_NaN(), 2, 8);
    CHECK(std::isnan(o({.mode = Mode::inference, .activation = Activation::relu}).value().at(2, 8)));
}

TEST_CASE_TEMPLATE("batch_norm: gradients only where they are wanted", T, float, double) {
    Operands<T> o({4, 3});
    o.x = o.x.detach();
    const auto y = o();
    y.backward(Tensor<T>::ones(y.shape(), y.device()));
    CHECK(!o.x.grad().defined());
    check_close(o.beta.grad(), Tensor<double>::full({3}, 4));
    CHECK(!o.mean.grad().defined());
}

TEST_CASE_TEMPLATE("batch_norm: no channels, no pixels", T, float, double) {
    for (const Mode mode : {Mode::training, Mode::inference}) {
        const Operands<T> o({2, 3, 3, 0});
        const auto y = o({.mode = mode, .activation = Activation::relu});
        CHECK(y.shape() == Shape{2, 3, 3, 0});
        y.backward(Tensor<T>(y.shape(), y.device()));
        CHECK(o.gamma.grad().size() == 0);
    }
    const Operands<T> o({0, 3, 3, 4});
    const auto y = o({.mode = Mode::inference});
    y.backward(Tensor<T>(y.shape(), y.device()));
    check_close(o.gamma.grad(), Tensor<double>::zeros({4}));
}

TEST_CASE("batch_norm: channel rule") {
    const Operands<float> o({4, 3});
    const auto y = o();
    const ChannelRule& rule = y.node()->rule;
    REQUIRE(rule.is_declared());
    REQUIRE(rule.links().size() == 5);
    using enum ChannelRole;
    const ChannelRole roles[] = {rides, scales, shifts, mean, variance};
    for (int operand = 0; operand < 5; ++operand) {
        const ChannelLink& link = rule.links()[static_cast<std::size_t>(operand)];
        CHECK(link.operand == operand);
        CHECK(link.other == ChannelRule::output);
        CHECK(static_cast<int>(link.role) == static_cast<int>(roles[operand]));
    }
    CHECK(rule.keeps_zero()); // a masked channel has its beta masked as well
}

TEST_CASE_TEMPLATE("batch_norm: errors", T, float, double) {
    const Operands<T> o({2, 2, 2, 3});
    const auto throws = [&](const char* text, const auto& call) {
        const auto mean = o.mean.value().clone();
        CHECK_THROWS_WITH_AS(call(), doctest::Contains(text), ShapeError);
        CHECK(same_bits(o.mean.value(), mean)); // nothing has changed
    };
    const auto four = on_device(Tensor<T>::ones({4})), one = on_device(Tensor<T>::ones({1, 3})),
               three = on_device(Tensor<T>::ones({2, 2, 3}));
    throws("batch_norm: expected x [N,H,W,C] or [N,C], got [2,2,3]",
           [&] { batch_norm(three, o.gamma, o.beta, o.mean, o.variance); });
    throws("batch_norm: expected gamma [3] for x [2,2,2,3], got [4]",
           [&] { batch_norm(o.x, four, o.beta, o.mean, o.variance); });
    throws("expected beta [3]", [&] { batch_norm(o.x, o.gamma, four, o.mean, o.variance); });
    throws("expected running_mean [3]", [&] { batch_norm(o.x, o.gamma, o.beta, four, o.variance); });
    throws("expected running_var [3]", [&] { batch_norm(o.x, o.gamma, o.beta, o.mean, four); });
    throws("expected at least 2 pixels in training, got x [1,3]",
           [&] { batch_norm(one, o.gamma, o.beta, o.mean, o.variance); });
    throws("expected a momentum in [0, 1], got 2", [&] { o({.momentum = 2}); });
    throws("expected a positive epsilon, got 0", [&] { o({.epsilon = 0}); });
    CHECK_NOTHROW(batch_norm(one, o.gamma, o.beta, o.mean, o.variance, {.mode = Mode::inference}));
}

namespace {

// A convolution, which on a GPU adds up its moments, and what to normalise it by.
template <class T> struct Convolved {
    Shape x, w;
    Conv2dOptions options;
    double far = 0; // how many times as large as what else is added to a filter its first term is, everywhere the same

    std::vector<Tensor<T>> operands() const {
        Tensor<T> xs = random_tensor<T>(x), ws = random_tensor<T>(w, "w");
        for (Index i = 0; far != 0 && i < xs.size(); i += x[3]) xs.mutable_data()[i] = T(1);
        for (Index i = 0; far != 0 && i < ws.size(); i += w.product(1, 4)) ws.mutable_data()[i] = static_cast<T>(far);
        return {xs, ws, uniform<T>({w[0]}, Random(2, "gamma"), -2, 2), random_tensor<T>({w[0]}, "beta")};
    }
    Var<T> operator()() const {
        const auto in = operands();
        return conv2d(parameter_on_device(in[0]), parameter_on_device(in[1]), options);
    }
};

template <class T> bool has_moments(const Var<T>& y) { return y.node()->moments.tiles.defined(); }

template <class T> void check_statistics(const Convolved<T>& c) {
    CAPTURE(to_text(c.x));
    CAPTURE(to_text(c.w));
    const auto in = c.operands();
    const Var<T> x = c(), gamma = parameter_on_device(in[2]), beta = parameter_on_device(in[3]);
    CHECK(has_moments(x) == (device_under_test() != Device::cpu));
    const Index K = c.w[0];
    const Var<T> mean(to_device(Tensor<T>::zeros({K}))), variance(to_device(Tensor<T>::zeros({K})));
    const Statistics s = statistics_of(x.value());
    Tensor<double> scale, sizes({K}), expected_mean({K}), expected_variance({K});
    const auto expected = reference(x.value(), in[2], in[3], s, 1e-5, Activation::relu, &scale);
    const auto y = batch_norm(x, gamma, beta, mean, variance, {.momentum = 1, .activation = Activation::relu});
    CHECK_FALSE(has_moments(x)); // taken, and their memory with them
    check_close(y.value(), expected, 32, scale);
    const double count = static_cast<double>(x.size() / K);
    for (Index k = 0; k < K; ++k) {
        const double m = s.mean[static_cast<std::size_t>(k)], v = s.variance[static_cast<std::size_t>(k)];
        expected_mean.set(m, k);
        expected_variance.set(v * count / (count - 1), k);
        sizes.set(std::abs(m) + std::sqrt(v), k);
    }
    // Some deviations are added up in T, those of the first pixel of 64 of them: its square, 1 in the mean, goes away.
    check_close(mean.value(), expected_mean, 4, sizes);
    check_close(variance.value(), expected_variance, 32, expected_variance);
}

} // namespace

TEST_CASE_TEMPLATE("batch_norm: after a convolution that has added up the statistics", T, float, double) {
    const auto check = [](const Shape& x, const Shape& w, const Conv2dOptions& options = {}, double far = 0) {
        check_statistics<T>({x, w, options, far});
    };
    std::vector<MatmulPrecision> precisions{MatmulPrecision::fp32};
    if (std::is_same_v<T, float> && device_under_test() != Device::cpu)
        precisions = {MatmulPrecision::fp32, MatmulPrecision::tf32, MatmulPrecision::bf16};
    for (const MatmulPrecision precision : precisions) {
        const MatmulPrecisionScope scope(precision);
        CAPTURE(static_cast<int>(precision));
        check({2, 1, 1, 4}, {6, 1, 1, 4});                              // two pixels
        check({1, 5, 7, 3}, {5, 3, 3, 3}, {.padding = 1});              // less than a tile
        check({2, 8, 4, 4}, {64, 1, 1, 4});                             // a whole one
        check({1, 5, 13, 4}, {33, 1, 1, 4});                            // and a pixel more
        check({3, 11, 9, 4}, {67, 3, 3, 4}, {.padding = 1});            // several, the last of 41 pixels
        check({3, 11, 9, 4}, {31, 3, 3, 4}, {.padding = 1});            // tall tiles, of which half has pixels
        check({2, 7, 7, 8}, {12, 3, 3, 4}, {.stride = 2, .groups = 2}); // a part of y for each group
        check({3, 13, 11, 7}, {37, 3, 3, 7}, {.padding = 1}, 1e4);      // far from zero
        check({5, 13, 11, 4}, {20, 1, 1, 4}, {}, 1e4);
    }
    if (!std::is_same_v<T, float> || device_under_test() == Device::cpu) return;
    const MatmulPrecisionScope scope(MatmulPrecision::tf32);
    check({1, 183, 185, 1}, {33, 1, 1, 1}); // tall tiles of all the columns
}

TEST_CASE_TEMPLATE("batch_norm: same bits and the same gradients after such a convolution", T, float, double) {
    const Convolved<T> c{{3, 11, 9, 4}, {35, 3, 3, 4}, {.padding = 1}};
    const auto run = [&](bool moments) {
        const Var<T> mean(to_device(Tensor<T>::zeros({35}))), variance(to_device(Tensor<T>::ones({35})));
        auto all = forward_and_gradients<T>(
            [&](std::vector<Var<T>>& v) {
                const Var<T> x = conv2d(v[0], v[1], c.options);
                if (!moments) x.node()->moments = {};
                return batch_norm(x, v[2], v[3], mean, variance, {.activation = Activation::none});
            },
            c.operands());
        all.push_back(mean.value());
        all.push_back(variance.value());
        return all;
    };
    check_repeatable([&] { return run(true); });
    const auto with = run(true), without = run(false);
    for (std::size_t i = 0; i < with.size(); ++i) // sums of some hundred terms
        check_close(with[i], without[i].to(Device::cpu).template cast<double>(), 256);
    check_gradient(
        [&](std::vector<Var<double>>& v) {
            const auto running = [] { return Var<double>(to_device(Tensor<double>::ones({3}))); };
            return batch_norm(conv2d(v[0], v[1], {}), v[2], v[3], running(), running());
        },
        Convolved<double>{{2, 3, 2, 2}, {3, 1, 1, 2}, {}}.operands());
}

TEST_CASE_TEMPLATE("batch_norm: whose statistics it takes", T, float, double) {
    const Convolved<T> c{{2, 5, 7, 3}, {4, 3, 3, 3}, {.padding = 1}};
    const bool on_gpu = device_under_test() != Device::cpu;
    // The running statistics that batch norm makes of v alone.
    const auto learnt = [](const Var<T>& v, const BatchNormOptions& options) {
        const auto of = [&](double value) {
            return Var<T>(Tensor<T>::full({v.size(-1)}, static_cast<T>(value), v.device()));
        };
        const Var<T> mean = of(0), variance = of(0);
        batch_norm(v, of(1), of(0), mean, variance, options);
        return std::pair(mean.value().to(Device::cpu), variance.value().to(Device::cpu));
    };
    const BatchNormOptions all{.momentum = 1};
    const auto is = [&](const Var<T>& v, double mean, double variance) {
        const auto got = learnt(v, all);
        check_close(got.first, Tensor<double>::full({v.size(-1)}, mean));
        check_close(got.second, Tensor<double>::full({v.size(-1)}, variance));
    };
    // What they say is believed: that no pixel differs from the first of its tile, of which there are two.
    const auto lying = [&] {
        const Var<T> y = c();
        if (on_gpu) y.node()->moments.tiles.fill(T(0));
        return y;
    };
    const auto believed = [&](const Var<T>& y) {
        Tensor<double> mean({4});
        for (Index k = 0; k < 4; ++k)
            mean.set((64.0 * static_cast<double>(y.value().at(0, 0, 0, k)) +
                      6.0 * static_cast<double>(y.value().at(1, 4, 1, k))) /
                         70,
                     k);
        return difference(learnt(y, all).first, mean, Tensor<double>::scalar(1), 16).empty();
    };
    if (on_gpu) {
        const Var<T> twice = lying(); // they are taken once
        CHECK(believed(twice));
        CHECK_FALSE(believed(twice));
        const Var<T> idle = lying(); // and not kept by who does not want them
        CHECK(learnt(idle, {.mode = Mode::inference}).first.at(0) == T(0));
        CHECK_FALSE(has_moments(idle));
    }
    // Not if y was changed, in whatever way, or if another op comes between.
    const auto changed = [&](const auto& change) {
        const Var<T> y = lying();
        Tensor<T> same = y.value();
        change(same);
        is(y, 2, 0);
    };
    changed([](Tensor<T>& y) { y.fill(T(2)); });
    changed([](Tensor<T>& y) { y.copy_from(Tensor<T>::full(y.shape(), T(2))); });
    changed([](Tensor<T>& y) { dispatch(y.device(), [&](auto on) { kernels::fill(on, T(2), mutable_flat(y)); }); });
    const auto differs = [&](const Var<T>& v) {
        CHECK_FALSE(has_moments(v));
        const auto s = statistics_of(v.value());
        CHECK(static_cast<double>(learnt(v, all).first.at(1)) == doctest::Approx(s.mean[1]).epsilon(1e-5));
    };
    differs(relu(lying()));
    differs(lying().detach());
    // Nor where none were asked for, or no kernel has a pixel's whole sums.
    const auto conv = [](const Shape& x, const Shape& w, const Conv2dOptions& options) {
        return Convolved<T>{x, w, options}();
    };
    differs(conv({2, 4, 4, 64}, {8, 3, 3, 64}, {.padding = 1})); // split
    differs(conv({2, 4, 4, 6}, {6, 3, 3, 1}, {.groups = 6}));    // depthwise
    const auto in = c.operands();
    differs(conv2d(parameter_on_device(in[0]), parameter_on_device(in[1]), parameter_on_device(in[3]), c.options));
    {
        const NoGrad no_grad;
        differs(c());
    }
    const PathScope precise(Path::precise);
    CHECK(has_moments(c()) == on_gpu);
    const PathScope in_order(Path::fixed_order);
    differs(c());
}

#if !ESPALIER_CUDA // maps that are made when they are read are a matter of the CPU
namespace {

/// y and the gradients of a convolution of, and a join with, what batch norm makes; `whole` has all of its maps made.
template <class T> std::vector<Tensor<T>> block(const std::vector<Tensor<T>>& in, Mode mode, bool whole) {
    const auto made = [whole](const Var<T>& v) {
        CHECK(v.deferred().pending());
        if (whole) v.value();
        return v;
    };
    // Hands on the gradient as a tensor, if `whole`.
    const auto raw = [whole](const Var<T>& v) {
        if (!whole) return v;
        return record<T>("whole", v.value(), {v}, ChannelRule::declared(),
                         [](const Tensor<T>& dy, const Inputs<T>& input) { input[0].add_grad(dy); });
    };
    std::vector<Var<T>> v;
    for (const auto& t : in) v.push_back(parameter_on_device(t.clone()));
    const auto running = [&] { return on_device(uniform<T>({in[0].size(3)}, Random(3, "running"), 0.5, 2)); };
    const auto h = made(batch_norm(raw(conv2d(v[0], v[1], {.padding = 1})), v[2], v[3], running(), running(),
                                   {.mode = mode, .activation = Activation::relu}));
    const auto b =
        made(batch_norm(raw(conv2d(h, v[4], {.padding = 1})), v[2], v[3], running(), running(), {.mode = mode}));
    const auto y = join(v[0], b, std::make_shared<JoinState<T>>(), Activation::relu);
    y.backward(uniform<T>(y.shape(), Random(7, "cotangent"), -1, 1));
    std::vector<Tensor<T>> all{y.value()};
    for (const auto& p : v) all.push_back(p.grad());
    return all;
}

} // namespace

TEST_CASE_TEMPLATE("batch_norm: maps that are made when they are read have the same bits", T, float, double) {
    for (const Index channels : {16, 37}) // with Winograd's convolution: whole vectors, and not
        for (const Index extent : {8, 7})
            for (const Mode mode : {Mode::training, Mode::inference})
                for (const Path path : {Path::fast, Path::precise, Path::fixed_order}) {
                    const PathScope scope(path);
                    const std::vector<Tensor<T>> in{
                        random_tensor<T>({6, extent, extent, channels}),
                        random_tensor<T>({channels, 3, 3, channels}, "w"), random_tensor<T>({channels}, "gamma"),
                        random_tensor<T>({channels}, "beta"), random_tensor<T>({channels, 3, 3, channels}, "w2")};
                    const auto rows = block(in, mode, false), whole = block(in, mode, true);
                    for (std::size_t i = 0; i < rows.size(); ++i)
                        CHECK_MESSAGE(same_bits(rows[i], whole[i]), "tensor ", i, " differs");
                    if (path == Path::fast) check_repeatable([&] { return block(in, mode, false); });
                }
}
#endif
