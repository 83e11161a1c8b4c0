#pragma once

#include <espalier/core/shape.hpp>

#include <algorithm>
#include <exception>

#if ESPALIER_OPENMP
#include <omp.h>
#endif

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {
inline int& thread_limit() {
    static int limit = 0; // 0: as many as OpenMP would take
    return limit;
}
} // namespace detail

/// Threads that parallel loops use. It changes the time a computation takes, never its result.
inline int threads() {
#if ESPALIER_OPENMP
    return detail::thread_limit() > 0 ? detail::thread_limit() : omp_get_max_threads();
#else
    return 1;
#endif
}
/// Sets the number of threads; 0 returns to OpenMP's default.
inline void set_threads(int count) { detail::thread_limit() = std::max(0, count); }

/// Calls `body(i)` for each i in [0, count), in parallel, in no particular order.
///
/// What `body` writes must not depend on that order. An exception of any call is thrown again here after all have
/// ended.
template <class Body> void parallel_for(Index count, const Body& body) {
#if ESPALIER_OPENMP
    if (const int workers = static_cast<int>(std::min<Index>(threads(), count)); workers > 1 && !omp_in_parallel()) {
        std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic) num_threads(workers)
        for (Index i = 0; i < count; ++i) {
            try {
                body(i);
            } catch (...) {
#pragma omp critical(espalier_parallel_for)
                if (!failure) failure = std::current_exception();
            }
        }
        if (failure) std::rethrow_exception(failure);
        return;
    }
#endif
    for (Index i = 0; i < count; ++i) body(i);
}

/// Calls `body(begin, end)` for consecutive ranges of at most `grain` that cover [0, count), in parallel.
///
/// The ranges depend on `count` and `grain` alone, so a sum kept per range is the same for every thread count.
template <class Body> void parallel_ranges(Index count, Index grain, const Body& body) {
    parallel_for((count + grain - 1) / grain,
                 [&](Index block) { body(block * grain, std::min(count, (block + 1) * grain)); });
}

} // namespace espalier::inline ESPALIER_BACKEND
