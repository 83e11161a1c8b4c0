#include <espalier/cpu/workers.hpp>

#include "support/check.hpp"

using namespace espalier;

TEST_CASE("parallel_items: each item once, calls of one worker never overlap") {
    set_threads(2);
    for (const Index count : {0, 1, 2, 1000}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count)), busy(2);
        std::atomic<int> wrong = 0;
        parallel_items(count, [&](Index item, Index worker) {
            if (worker < 0 || worker >= 2 || busy[static_cast<std::size_t>(worker)].exchange(1)) ++wrong;
            ++seen[static_cast<std::size_t>(item)];
            busy[static_cast<std::size_t>(worker)] = 0;
        });
        for (const auto& times : seen) wrong += times != 1;
        CHECK(wrong == 0);
    }
    set_threads(0);
}

TEST_CASE("parallel_items: an exception reaches the caller") {
    CHECK_THROWS_AS(parallel_items(10,
                                   [](Index item, Index) {
                                       if (item == 7) throw std::runtime_error("seven");
                                   }),
                    std::runtime_error);
}
