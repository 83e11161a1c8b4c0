#include "support/check.hpp"

#include <espalier/data/prefetch.hpp>

#include <atomic>
#include <chrono>
#include <memory>

using namespace espalier;

TEST_CASE("Prefetch: values come in order, each once, whatever the depth") {
    for (const Index depth : {0, 1, 2, 7, 1000}) {
        Prefetch<Index> ahead(3, 200, depth, [](Index i) { return i * i; });
        for (Index i = 3; i < 200; ++i) CHECK(ahead.next() == i * i);
        CHECK_FALSE(ahead.next());
        CHECK_FALSE(ahead.next());
        CHECK_FALSE(Prefetch<Index>(5, 5, depth, [](Index i) { return i; }).next());
        CHECK_FALSE(Prefetch<Index>(5, 2, depth, [](Index i) { return i; }).next());
    }
    CHECK_THROWS_WITH_AS(Prefetch<Index>(0, 1, -1, [](Index i) { return i; }),
                         "Prefetch: expected a depth of at least 0, got -1", ShapeError);
}

TEST_CASE("Prefetch: values need not be copyable") {
    for (const Index depth : {0, 2}) {
        Prefetch<std::unique_ptr<Index>> ahead(0, 3, depth, [](Index i) { return std::make_unique<Index>(i); });
        for (Index i = 0; i < 3; ++i) CHECK(**ahead.next() == i);
    }
}

TEST_CASE("Prefetch: no more than depth + 1 values are made ahead of the consumer") {
    std::atomic<Index> made = 0;
    Prefetch<Index> ahead(0, 100, 3, [&](Index i) { return ++made, i; });
    for (Index i = 0; i < 50; ++i) {
        CHECK(ahead.next() == i);
        std::this_thread::sleep_for(std::chrono::milliseconds(1)); // time to run too far ahead in
        CHECK(made <= i + 1 + 3 + 1);                              // taken, waiting, and one in the hand
    }
}

TEST_CASE("Prefetch: an exception comes out in place of its value, after the values before it") {
    for (const Index depth : {0, 1, 2, 100}) {
        Prefetch<Index> ahead(0, 10, depth, [](Index i) {
            expect<IoError>(i != 4, "maker: expected another number, got ", i);
            return i;
        });
        for (Index i = 0; i < 4; ++i) CHECK(ahead.next() == i);
        CHECK_THROWS_WITH_AS(ahead.next(), "maker: expected another number, got 4", IoError);
        CHECK_THROWS_AS(ahead.next(), IoError); // and it stays
    }
}

TEST_CASE("Prefetch: may be destroyed at any time, and makes at most one value more") {
    for (const Index depth : {0, 1, 3}) {
        for (Index taken = 0; taken < 6; ++taken) {
            std::atomic<Index> made = 0;
            {
                Prefetch<Index> ahead(0, 1000000, depth, [&](Index i) { return ++made, i; });
                for (Index i = 0; i < taken; ++i) CHECK(ahead.next() == i);
            }
            CHECK(made <= taken + depth + 1);
        }
    }
}
