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

TEST_CASE("memory pool: while it is held, nobody gets what is given back") {
    MemoryPool& pool = MemoryPool::instance();
    pool.release_cached();
    void *const first = pool.take(1000), *const second = pool.take(1000);
    const std::size_t before = pool.bytes_in_use(), size = 1024;
    pool.give_back(first, 1000);
    {
        const MemoryPool::Hold hold(pool);
        CHECK(pool.take(1000) == first); // free before
        pool.give_back(first, 1000);
        {
            const MemoryPool::Hold another(pool);
            pool.give_back(second, 1000);
        }
        CHECK(pool.bytes_in_use() == before);
        void* const third = pool.take(1000);
        CHECK(third != first);
        CHECK(third != second);
        pool.give_back(third, 1000);
        CHECK(pool.bytes_cached() == 0);
    }
    CHECK(pool.bytes_in_use() == before - 2 * size);
    CHECK(pool.bytes_cached() == 3 * size);
    pool.release_cached();
}

TEST_CASE("memory pool: a recording keeps what was given back in a hold") {
    MemoryPool& pool = MemoryPool::instance();
    pool.release_cached();
    const std::size_t before = pool.bytes_in_use();
    void* const old = pool.take(1000);
    {
        MemoryPool::Reserve reserve(pool);
        {
            const MemoryPool::Reserve::Scope scope(reserve);
            void* fresh = nullptr;
            {
                const MemoryPool::Hold hold(pool);
                fresh = pool.take(1000);
                pool.give_back(fresh, 1000);
                pool.give_back(old, 1000);
                void* const other = pool.take(2000);
                pool.give_back(other, 2000);
            }
            void *const one = pool.take(1000), *const two = pool.take(1000);
            CHECK(((one == fresh && two == old) || (one == old && two == fresh)));
            pool.give_back(one, 1000);
            pool.give_back(two, 1000);
        }
        void* const outside = pool.take(1000);
        CHECK(outside != old);
        pool.give_back(outside, 1000);
        CHECK(pool.bytes_in_use() == before + 4096);
    }
    CHECK(pool.bytes_in_use() == before);
    pool.release_cached();
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
