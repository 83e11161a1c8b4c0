#include "support/check.hpp"

#include <espalier/autograd/var.hpp>

#include <atomic>

using namespace espalier;
using namespace espalier::test;

namespace {

/// A map [2,3,4,5] whose elements count up, and how many rows of it were made so far.
struct Counted {
    std::shared_ptr<std::atomic<int>> rows = std::make_shared<std::atomic<int>>(0);

    Deferred<float> map() const {
        return {kernels::MapRows<float>{2, 3, 4, 5, [made = rows](Index n, Index h, float* to, Index pitch) {
                                            ++*made;
                                            for (Index v = 0; v < 4; ++v)
                                                for (Index c = 0; c < 5; ++c)
                                                    to[v * pitch + c] =
                                                        static_cast<float>(((n * 3 + h) * 4 + v) * 5 + c);
                                        }}};
    }
};

Tensor<float> counting() {
    Tensor<float> t({2, 3, 4, 5});
    for (Index i = 0; i < t.size(); ++i) t.mutable_data()[i] = static_cast<float>(i);
    return t;
}

} // namespace

TEST_CASE("deferred: a tensor in memory") {
    const Deferred<float> none, some = counting();
    CHECK(!none.defined());
    CHECK(!none.value().defined());
    CHECK(some.defined());
    CHECK(!some.pending());
    CHECK(some.shape() == Shape{2, 3, 4, 5});
    CHECK(same_bits(some.value(), counting()));
}

TEST_CASE("deferred: a map is made once, for all copies, when somebody asks for all of it") {
    const Counted counted;
    const Deferred<float> map = counted.map(), copy = map;
    CHECK(map.defined());
    CHECK(map.pending());
    CHECK(map.shape() == Shape{2, 3, 4, 5});
    CHECK(map.device() == Device::cpu);
    CHECK(*counted.rows == 0);
    CHECK(same_bits(map.value(), counting()));
    CHECK(*counted.rows == 6);
    CHECK(!copy.pending());
    CHECK(copy.value().data() == map.value().data());
    CHECK(*counted.rows == 6);
}

TEST_CASE("deferred: what a map is made of goes when it has been made") {
    const auto held = std::make_shared<int>(0);
    const Deferred<float> map(kernels::MapRows<float>{1, 1, 1, 1, [held](Index, Index, float* to, Index) { *to = 7; }});
    CHECK(held.use_count() > 1);
    CHECK(map.value().item() == 7);
    CHECK(held.use_count() == 1);
}

TEST_CASE("deferred: an rvalue gives its memory away") {
    Deferred<float> owner = counting();
    const Tensor<float> taken = std::move(owner);
    CHECK(!taken.is_shared());
    Deferred<float> map = Counted().map();
    CHECK(!Tensor<float>(std::move(map)).is_shared());
}

TEST_CASE("deferred: rows of a tensor and of a map, with pixels apart") {
    for (const Deferred<float>& map : {Deferred<float>(counting()), Counted().map()}) {
        const auto rows = map.rows();
        std::vector<float> row(4 * 8);
        rows.read(1, 2, row.data(), 8);
        for (std::size_t v = 0; v < 4; ++v)
            for (std::size_t c = 0; c < 5; ++c) CHECK(row[v * 8 + c] == static_cast<float>(100 + v * 5 + c));
    }
}

TEST_CASE("deferred: a gradient that is a map waits until it is read or added to") {
    const auto x = parameter(counting());
    const auto pass = [](const Var<float>& v) {
        return record<float>("pass", v.value(), {v}, ChannelRule::declared(),
                             [](const Tensor<float>& dy, const Inputs<float>& input) { input[0].add_grad(dy); });
    };
    const Counted counted;
    bool waited = false;
    const auto y = record<float>("reads", pass(x).value(), {pass(x)}, ChannelRule::declared(),
                                 [&](const Tensor<float>&, const Inputs<float>& input) {
                                     input[0].add_grad(counted.map());
                                     waited = *counted.rows == 0;
                                 });
    y.backward(counting());
    CHECK(waited);
    CHECK(same_bits(x.grad(), counting()));

    const auto z = pass(x);
    z.node()->add_grad(counted.map());
    z.node()->add_grad(counting());
    for (Index i = 0; i < z.size(); ++i) CHECK(z.node()->grad().data()[i] == 2 * static_cast<float>(i));
    CHECK_THROWS_WITH_AS(pass(parameter(Tensor<float>({3}))).node()->add_grad(counted.map()),
                         doctest::Contains("pass: expected a gradient [3], got [2,3,4,5]"), ShapeError);
}
