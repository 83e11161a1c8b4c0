#include "support/check.hpp"

#include <espalier/tensor/storage.hpp>

#include <cstdint>
#include <thread>
#include <vector>

using namespace espalier;

TEST_CASE("memory pool: blocks are aligned, given back and used again") {
    MemoryPool& pool = MemoryPool::instance();
    pool.release_cached();
    const std::size_t before = pool.bytes_in_use();
    void* const block = pool.take(1000);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
    CHECK(pool.bytes_in_use() >= before + 1000);
    CHECK(pool.bytes_in_use() <= before + 1128); // at most an eighth more
    pool.give_back(block, 1000);
    CHECK(pool.bytes_in_use() == before);
    CHECK(pool.bytes_cached() >= 1000);
    CHECK(pool.take(1001) == block); // same size after rounding
    pool.give_back(block, 1001);
    pool.release_cached();
    CHECK(pool.bytes_cached() == 0);
}

TEST_CASE("memory pool: the peak counts what lives at once") {
    MemoryPool& pool = MemoryPool::instance();
    pool.reset_peak();
    const std::size_t before = pool.peak_bytes();
    { const Storage<float> a(1 << 16), b(1 << 16); }
    { const Storage<float> c(1 << 16); }
    CHECK(pool.peak_bytes() == before + 2 * 4 * (1 << 16));
    const Storage<float> none(0);
    CHECK(none.data() != nullptr);
}

TEST_CASE("memory pool: threads may share it") {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([] {
            for (Index i = 1; i < 500; ++i) {
                const Storage<Index> s(i);
                s.data()[i - 1] = i;
            }
        });
    for (auto& thread : threads) thread.join();
}
