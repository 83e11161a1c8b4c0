#include "support/check.hpp"

#include <espalier/ops/join.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {
template <class T> std::shared_ptr<JoinState<T>> dense() { return std::make_shared<JoinState<T>>(); }
template <class T> std::shared_ptr<JoinState<T>> indexed(std::vector<Index> kept, Tensor<T> constant) {
    auto state = std::make_shared<JoinState<T>>();
    state->kept = std::move(kept);
    state->constant = parameter_on_device(std::move(constant));
    return state;
}
// What each channel of the stream gets: the branch where it is kept, the constant elsewhere.
template <class T>
Tensor<double> addend(const Shape& stream, const Tensor<T>& branch, const std::vector<Index>& kept,
                      const Tensor<T>& constant) {
    const Index C = stream.back(), J = branch.size(-1), M = stream.product(0, stream.rank() - 1);
    Tensor<double> sum(stream);
    for (Index m = 0; m < M; ++m) {
        for (Index c = 0; c < C; ++c) sum.mutable_data()[m * C + c] = static_cast<double>(constant.data()[c]);
        for (Index j = 0; j < J; ++j)
            sum.mutable_data()[m * C + kept[static_cast<std::size_t>(j)]] =
                static_cast<double>(branch.data()[m * J + j]);
    }
    return sum;
}
template <class T>
Tensor<double> reference(const Tensor<T>& stream, const Tensor<double>& added, Activation activation) {
    Tensor<double> y(stream.shape());
    for (Index i = 0; i < y.size(); ++i) {
        const double sum = static_cast<double>(stream.data()[i]) + added.data()[i];
        y.mutable_data()[i] = activation == Activation::relu ? std::max(sum, 0.0) : sum;
    }
    return y;
}
Tensor<double> scaled(Tensor<double> x, double factor) {
    for (Index i = 0; i < x.size(); ++i) x.mutable_data()[i] *= factor;
    return x;
}
const Activation activations[] = {Activation::none, Activation::relu};
} // namespace

TEST_CASE_TEMPLATE("join: dense values, gradients and repeatability", T, float, double) {
    for (const Activation activation : activations)
        for (const Shape& shape :
             {Shape{2, 3, 2, 5}, Shape{4, 3}, Shape{1, 1, 1, 1}, Shape{2, 3, 3, 0}, Shape{0, 2, 2, 3},
              Shape{2, 40, 43, 7}}) { // the last: several ranges and a remainder
            const Tensor<T> s = random_tensor<T>(shape, "s"), b = random_tensor<T>(shape, "b");
            check_close(join(on_device(s), on_device(b), dense<T>(), activation).value(),
                        reference(s, b.template cast<double>(), activation), 1);
            check_repeatable([&] {
                return forward_and_gradients<T>([&](auto& v) { return join(v[0], v[1], dense<T>(), activation); },
                                                {s, b});
            });
        }
    for (const Activation activation : activations) // |stream| >= 0.1 and |branch| < 0.05: no sum is near relu's kink
        check_gradient([&](auto& v) { return join(v[0], v[1], dense<double>(), activation); },
                       {away_from_zero<double>({2, 2, 3, 4}), scaled(random_tensor<double>({2, 2, 3, 4}, "b"), 0.05)});
}

TEST_CASE_TEMPLATE("join: indexed values, gradients and repeatability, an empty and a full branch too", T, float,
                   double) {
    for (const Activation activation : activations)
        for (const std::vector<Index>& kept :
             {std::vector<Index>{1, 3}, std::vector<Index>{}, std::vector<Index>{0, 1, 2, 3, 4}}) {
            const Index J = static_cast<Index>(kept.size());
            for (const Index side : {1, 3, 30}) { // 30 x 30: several ranges of pixels
                const Tensor<T> s = random_tensor<T>({2, side, side, 5}, "s");
                const Tensor<T> b = random_tensor<T>({2, side, side, J}, "b"), k = random_tensor<T>({5}, "k");
                check_close(join(on_device(s), on_device(b), indexed<T>(kept, k), activation).value(),
                            reference(s, addend(s.shape(), b, kept, k), activation), 1);
                check_repeatable([&] {
                    return forward_and_gradients<T>(
                        [&](auto& v) {
                            const auto state = indexed<T>(kept, k);
                            state->constant = v[2];
                            return join(v[0], v[1], state, activation);
                        },
                        {s, b, k});
                });
            }
            check_gradient(
                [&](auto& v) {
                    const auto state = indexed<double>(kept, Tensor<double>::zeros({5}));
                    state->constant = v[2];
                    return join(v[0], v[1], state, activation);
                },
                {away_from_zero<double>({2, 2, 2, 5}), scaled(random_tensor<double>({2, 2, 2, J}, "b"), 0.05),
                 scaled(random_tensor<double>({5}, "k"), 0.05)});
        }
}

TEST_CASE_TEMPLATE("join: a constant is what a branch channel with that value everywhere would have been, bit for bit",
                   T, float, double) {
    const Index C = 6;
    const std::vector<Index> kept{0, 2, 5};
    const Tensor<T> s = random_tensor<T>({2, 3, 3, C}, "s"), k = random_tensor<T>({C}, "k");
    const Tensor<T> b = random_tensor<T>({2, 3, 3, 3}, "b");
    Tensor<T> full(s.shape());
    for (Index m = 0; m < 18; ++m) {
        for (Index c = 0; c < C; ++c) full.mutable_data()[m * C + c] = k.data()[c];
        for (std::size_t j = 0; j < 3; ++j)
            full.mutable_data()[m * C + kept[j]] = b.data()[m * 3 + static_cast<Index>(j)];
    }
    for (const Activation activation : activations)
        CHECK(same_bits(join(on_device(s), on_device(b), indexed<T>(kept, k), activation).value(),
                        join(on_device(s), on_device(full), dense<T>(), activation).value()));
}

TEST_CASE_TEMPLATE("join: NaN passes through the fused relu", T, float, double) {
    const T nan = std::numeric_limits<T>::quiet_NaN();
    const Tensor<T> stream = Tensor<T>::from({1, 2}, {1, 1});
    const Tensor<T> branch = Tensor<T>::from({1, 2}, {nan, 1});
    const Tensor<T> y = join(on_device(stream), on_device(branch), dense<T>(), Activation::relu).value();
    CHECK(std::isnan(y.at(0, 0)));
    CHECK(y.at(0, 1) == 2);
}

TEST_CASE("join: the rule's link can be broken by surgery, and names the kept channels once indexed") {
    const auto s = parameter_on_device(random_tensor<float>({1, 2, 2, 3}, "s"));
    {
        const auto state = dense<float>();
        const auto y = join(s, parameter_on_device(random_tensor<float>({1, 2, 2, 3}, "b")), state);
        CHECK(y.node()->join == state);
        int joined = 0;
        for (const auto& link : y.node()->rule.links())
            if (link.joined) {
                ++joined;
                CHECK(link.operand == 1);
                CHECK(link.count == -1);
            }
        CHECK(joined == 1);
    }
    {
        const auto state = indexed<float>({2}, Tensor<float>::zeros({3}));
        const auto y = join(s, parameter_on_device(random_tensor<float>({1, 2, 2, 1}, "b")), state);
        int joined = 0;
        for (const auto& link : y.node()->rule.links())
            if (link.joined) {
                ++joined;
                CHECK(link.operand == 1);
                CHECK(link.begin == 0);
                CHECK(link.other_begin == 2);
                CHECK(link.count == 1);
            }
        CHECK(joined == 1);
    }
}

TEST_CASE_TEMPLATE("join: backward writes over a gradient that is its own, and over no other", T, float, double) {
    const Shape shape{2, 3, 3, 5};
    const auto stream = parameter_on_device(random_tensor<T>(shape, "s")),
               branch = parameter_on_device(random_tensor<T>(shape, "b"));
    const auto dy = to_device(random_tensor<T>(shape, "dy")), before = dy.clone();
    const auto y = join(stream, branch, dense<T>(), Activation::relu);
    y.backward(dy);
    CHECK(same_bits(dy, before)); // the caller's
    CHECK_FALSE(stream.grad().shares_memory(branch.grad()));
    const auto expected = stream.grad().clone();
    Var<T>(stream).clear_grad();
    Var<T>(branch).clear_grad();
    Tensor<T> own = dy.clone();
    const T* const memory = own.data();
    y.node()->backward(std::move(own), Inputs<T>(y.node()->inputs));
    CHECK(branch.grad().data() == memory);
    CHECK(same_bits(branch.grad(), expected));
    CHECK(same_bits(stream.grad(), expected));
}

TEST_CASE("join: a state's channels follow its list") {
    const auto state = indexed<float>({0, 2}, Tensor<float>::zeros({4}));
    const Device device = device_under_test();
    const JoinChannels first = state->channels(4, device);
    CHECK(first.kept.to_vector() == std::vector<Index>{0, 2});
    CHECK(first.slots.to_vector() == std::vector<Index>{0, -1, 1, -1});
    if (device != Device::cpu) CHECK(state->channels(4, device).kept.shares_memory(first.kept)); // nothing waits again
    state->kept = {1};
    CHECK(state->channels(4, device).slots.to_vector() == std::vector<Index>{-1, 0, -1, -1});
    CHECK(state->channels(2, device).slots.to_vector() == std::vector<Index>{-1, 0});
}

TEST_CASE_TEMPLATE("join: what does not fit is an error", T, float, double) {
    const auto zeros = [](const Shape& shape) { return on_device(Tensor<T>::zeros(shape)); };
    const Var<T> s = zeros({1, 2, 2, 3});
    CHECK_THROWS_WITH_AS(join(s, zeros({1, 2, 2, 2}), dense<T>()),
                         doctest::Contains("join: expected a branch of 3 channels and a stream of 3, got 2 and 3"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(join(s, zeros({1, 2, 1, 3}), dense<T>()),
                         doctest::Contains("expected a branch [1,2,2,3] in all axes but the last, got [1,2,1,3]"),
                         ShapeError);
    const auto three = Tensor<T>::zeros({3}), four = Tensor<T>::zeros({4});
    CHECK_THROWS_WITH_AS(join(s, zeros({1, 2, 2, 1}), indexed<T>({0, 1}, three)),
                         doctest::Contains("expected a branch of 2 channels"), ShapeError);
    CHECK_THROWS_WITH_AS(join(s, zeros({1, 2, 2, 1}), indexed<T>({0}, four)), doctest::Contains("a stream of 4"),
                         ShapeError);
    CHECK_THROWS_WITH_AS(join(s, zeros({1, 2, 2, 1}), indexed<T>({3}, three)),
                         doctest::Contains("expected kept channels below 3, got 3"), ShapeError);
}
