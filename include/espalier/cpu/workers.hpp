#pragma once

#include <espalier/core/parallel.hpp>

#include <atomic>

namespace espalier::inline ESPALIER_BACKEND {

/// Calls `body(item, worker)` for each item in [0, count), in parallel, with worker in [0, threads()).
///
/// Calls of one worker never overlap, so each worker can have scratch memory of its own. Which worker takes an item is
/// not fixed: what `body` writes must not depend on it.
template <class Body> void parallel_items(Index count, const Body& body) {
    std::atomic<Index> next = 0;
    parallel_for(std::min<Index>(threads(), count), [&](Index worker) {
        for (Index item; (item = next.fetch_add(1)) < count;) body(item, worker);
    });
}

} // namespace espalier::inline ESPALIER_BACKEND
