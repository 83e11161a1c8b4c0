#include "support/check.hpp"

#include <espalier/tensor/side_by_side.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

void increase(Tensor<float>& x, float by) {
    dispatch(x.device(), [&](auto on) { kernels::increase(on, by, mutable_flat(x)); });
}
void add(const Tensor<float>& x, Tensor<float>& y) {
    dispatch(y.device(), [&](auto on) { kernels::accumulate(on, flat(x), mutable_flat(y)); });
}

} // namespace

TEST_CASE("side_by_side: after what was queued before, and before what is queued then") {
    auto x = Tensor<float>::zeros({300}, device_under_test());
    float expected = 0;
    for (int round = 1; round < 5; ++round) {
        increase(x, 1);
        Tensor<float> a, b;
        side_by_side(
            x.device(), [&] { a = x.clone(), increase(a, 1); }, [&] { b = x.clone(), increase(b, 2); });
        increase(x, 1);
        add(a, x);
        add(b, x);
        expected = 3 * (expected + 1) + 4;
    }
    CHECK(x.to_vector() == std::vector<float>(300, expected));
}

TEST_CASE("side_by_side: within either of the two, and with errors in them") {
    auto x = Tensor<float>::zeros({30}, device_under_test()), y = x.clone(), z = x.clone();
    const auto bump = [](Tensor<float>& t) { return [&t] { increase(t, 1); }; };
    const auto both = [&] { side_by_side(x.device(), bump(y), bump(z)); };
    side_by_side(x.device(), both, bump(x));
    side_by_side(x.device(), bump(x), both);
    add(x, y);
    add(y, z);
    CHECK(z.to_vector() == std::vector<float>(30, 6));

    const std::size_t before = MemoryPool::instance(x.device()).bytes_in_use();
    const auto fails = [&] {
        const Tensor<float> doomed = x.clone();
        throw StateError("of the user");
    };
    CHECK_THROWS_WITH_AS(side_by_side(x.device(), fails, bump(x)), "of the user", StateError);
    CHECK(x.at(3) == 2);
    CHECK_THROWS_WITH_AS(side_by_side(x.device(), bump(x), fails), "of the user", StateError);
    CHECK(x.at(3) == 3);
    CHECK(MemoryPool::instance(x.device()).bytes_in_use() == before);
    side_by_side(x.device(), bump(x), bump(y));
    add(x, y);
    CHECK(y.at(29) == 9);
}

TEST_CASE("side_by_side: a GPU's memory that one gives back is not the other's") {
    MemoryPool& pool = MemoryPool::instance(device_under_test());
    pool.release_cached();
    const std::size_t before = pool.bytes_in_use();
    auto x = Tensor<float>::zeros({1000}, device_under_test()), y = x.clone(), z = x.clone();
    const float *of_x = nullptr, *of_y = nullptr;
    side_by_side(
        x.device(),
        [&] {
            Tensor<float> t = x.clone();
            increase(t, 1);
            add(t, y);
            of_x = t.data();
        },
        [&] {
            Tensor<float> t = x.clone();
            increase(t, 2);
            add(t, z);
            of_y = t.data();
        });
    CHECK((of_x != of_y) == (device_under_test() == Device::cuda));
    const Tensor<float> last({1000}, x.device());
    CHECK((last.data() == of_x || last.data() == of_y)); // later it is used again
    CHECK(pool.bytes_in_use() - before == 4 * 4096);
    CHECK(y.to_vector() == std::vector<float>(1000, 1));
    CHECK(z.to_vector() == std::vector<float>(1000, 2));
}

#if ESPALIER_CUDA
TEST_CASE("side_by_side: two streams, and the main one again at the end") {
    if (device_under_test() != Device::cuda) return;
    const cudaStream_t main = current_stream();
    cudaStream_t first = nullptr, second = nullptr;
    side_by_side(
        Device::cuda, [&] { first = current_stream(); }, [&] { second = current_stream(); });
    CHECK(first == main);
    CHECK(second != main);
    CHECK(current_stream() == main);
    auto x = Tensor<float>::zeros({10}, Device::cuda);
    side_by_side(
        Device::cuda, [] {},
        [&] {
            increase(x, 1);
            CHECK(x.at(7) == 1); // a wait is for both
        });
}
#endif
