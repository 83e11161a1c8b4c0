#include "support/check.hpp"

// Memory of the device under test, and how it ends.

using namespace espalier;
using namespace espalier::test;

TEST_CASE("tensors on the device: copies, single elements, conversions") {
    const auto x = random_tensor<float>({3, 5});
    const Tensor<float> there = to_device(x);
    CHECK(there.device() == device_under_test());
    CHECK(there.to(device_under_test()).shares_memory(there));
    CHECK(there.to_vector() == x.to_vector());
    CHECK(there.at(2, 1) == x.at(2, 1));
    Tensor<float> copy = there.clone();
    copy.set(7, 0, 4);
    CHECK(copy.at(0, 4) == 7);
    CHECK(there.at(0, 4) == x.at(0, 4));
    CHECK(there.cast<double>().to_vector() == x.cast<double>().to_vector());
    CHECK(there.rows(1, 3).to_vector() == x.rows(1, 3).to_vector());
    CHECK(Tensor<Index>::full({2}, 3, device_under_test()).to_vector() == std::vector<Index>{3, 3});
    CHECK(Tensor<float>(Shape{0, 4}, device_under_test()).to_vector().empty());
    if (device_under_test() != Device::cpu)
        CHECK_THROWS_WITH_AS(there.begin(), doctest::Contains("expected a tensor on cpu, got one on cuda"),
                             DeviceError);
}

TEST_CASE("memory of the device: reused, counted, and an error with sizes when it is gone") {
    MemoryPool& pool = MemoryPool::instance(device_under_test());
    const std::size_t before = pool.bytes_in_use();
    {
        const Tensor<float> x({1000}, device_under_test());
        CHECK(pool.bytes_in_use() >= before + 4000);
    }
    CHECK(pool.bytes_in_use() == before);
    const auto x = to_device(random_tensor<float>({8}));
    const Index huge = Index(1) << 48; // more than any GPU has
    CHECK_THROWS_WITH_AS(Tensor<float>(Shape{huge}, device_under_test()),
                         doctest::Contains(join_text("expected room for ", huge * 4).c_str()), Error);
    CHECK(x.to_vector() == random_tensor<float>({8}).to_vector()); // what there was is as it was
    CHECK(pool.bytes_in_use() - before <= 64);
}
