#include <espalier/ops/dropout.hpp>

#include "support/check.hpp"
#include "support/rule_text.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("dropout: element i is kept and scaled when draw i says so", T, float, double) {
    const Random random(5, "dropout");
    const auto x = random_tensor<T>({3, 4, 5});
    const auto y = dropout(on_device(x), 0.25, random).value().to(Device::cpu);
    REQUIRE(y.shape() == x.shape());
    for (Index i = 0; i < x.size(); ++i) {
        const bool kept = random.uniform(static_cast<std::uint64_t>(i)) >= 0.25;
        CHECK(y.data()[i] == (kept ? x.data()[i] * static_cast<T>(1 / 0.75) : T(0)));
    }
    CHECK(dropout(on_device(Tensor<T>(Shape{2, 0})), 0.5, random).shape() == Shape{2, 0});
}

TEST_CASE("dropout: the share that is dropped, and another stream drops others") {
    const Index n = 100000;
    const auto ones = on_device(Tensor<float>::ones({n}));
    const auto y = dropout(ones, 0.3, Random(5, "dropout")).value().to(Device::cpu);
    const auto other = dropout(ones, 0.3, Random(5, "dropout").substream(1)).value();
    const auto dropped = std::count(y.begin(), y.end(), 0.f);
    // Binomial with deviation sqrt(n p (1 - p)) = 145: five of them is one failure in millions of streams.
    CHECK(std::abs(static_cast<double>(dropped) - 30000) < 5 * 145);
    CHECK_FALSE(same_bits(y, other));
}

TEST_CASE("dropout: gradients") {
    check_gradient([](auto& v) { return dropout(v[0], 0.5, Random(5, "dropout")); }, {random_tensor<double>({4, 7})});
}

TEST_CASE("dropout: NaN and infinity in a dropped element are dropped") {
    const Random random(5, "dropout");
    const auto x = Tensor<float>::full({64}, std::numeric_limits<float>::infinity());
    const auto y = dropout(on_device(x), 0.5, random).value();
    for (Index i = 0; i < 64; ++i) CHECK((y.at(i) == 0) == (random.uniform(static_cast<std::uint64_t>(i)) < 0.5));
}

TEST_CASE_TEMPLATE("dropout: same bits on 1 and 2 threads", T, float, double) {
    check_repeatable([] {
        return forward_and_gradients<T>([](auto& v) { return dropout(v[0], 0.5, Random(1, "dropout")); },
                                        {random_tensor<T>({100, 99})});
    });
}

TEST_CASE("dropout: probability 0 is the identity, 1 and more an error") {
    const auto x = parameter_on_device(random_tensor<float>({3}));
    CHECK(dropout(x, 0, Random(1, "dropout")).node() == x.node());
    CHECK_THROWS_WITH_AS(dropout(x, 1, Random(1, "dropout")), "dropout: expected a probability in [0, 1), got 1",
                         ShapeError);
    CHECK_THROWS_WITH_AS(dropout(x, -0.1, Random(1, "dropout")), doctest::Contains("got -0.1"), ShapeError);
    CHECK(rule_text(dropout(x, 0.5, Random(1, "dropout"))) == "declared 0.-1=y.-1");
}
