#include "support/check.hpp"

#include <espalier/core/error.hpp>
#include <espalier/core/parallel.hpp>

#include <vector>

using namespace espalier;

TEST_CASE("parallel_for: every index once, whatever the number of threads") {
    for (const int count : {1, 2, 3}) {
        set_threads(count);
        std::vector<int> seen(1000, 0);
        parallel_for(1000, [&](Index i) { ++seen[static_cast<std::size_t>(i)]; });
        CHECK(seen == std::vector<int>(1000, 1));
    }
    set_threads(0);
    parallel_for(0, [](Index) { throw Error("never called"); });
}

TEST_CASE("parallel_ranges: consecutive ranges that depend on count and grain alone") {
    std::vector<Index> ends(4, -1);
    parallel_ranges(10, 3, [&](Index begin, Index end) { ends[static_cast<std::size_t>(begin / 3)] = end; });
    CHECK(ends == std::vector<Index>{3, 6, 9, 10});
}

TEST_CASE("parallel_for: an exception comes out, after all calls have ended") {
    set_threads(2);
    CHECK_THROWS_WITH_AS(parallel_for(100, [](Index i) { expect<StateError>(i != 50, "index ", i); }), "index 50",
                         StateError);
    set_threads(0);
}

TEST_CASE("parallel_for: a loop inside a loop runs where it is") {
    std::vector<Index> sums(8, 0);
    parallel_for(8, [&](Index i) {
        Index sum = 0;
        parallel_for(10, [&](Index j) { sum += j; });
        sums[static_cast<std::size_t>(i)] = sum;
    });
    CHECK(sums == std::vector<Index>(8, 45));
}
