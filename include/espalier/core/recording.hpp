#pragma once

#include <espalier/core/error.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

/// What is noted while a step is recorded to be replayed (train/captured_step.hpp), by whom its replay concerns.
struct Recording {
    bool queues_kernels = true;                   ///< they are recorded, not run; false: only watched
    std::vector<std::function<void()>> on_replay; ///< what the host does at every replay, the first included
    Index holds_for = std::numeric_limits<Index>::max();
};
inline Recording*& thread_recording() {
    thread_local Recording* recording = nullptr;
    return recording;
}

// Counts moves of memory that recorded kernels may know by address: parameters after surgery, states of optimizers.
inline std::atomic<std::uint64_t>& memory_moves() {
    static std::atomic<std::uint64_t> moves{0};
    return moves;
}
/// Every recording of before is out of date.
inline void memory_moved() { memory_moves().fetch_add(1, std::memory_order_relaxed); }

} // namespace detail

/// Whether kernels that this thread queues are recorded now instead of run (`CapturedStep`): their results are not
/// there yet, and what the host computes for them becomes a constant.
inline bool is_recording() {
    const detail::Recording* const recording = detail::thread_recording();
    return recording && recording->queues_kernels;
}
/// While a step is recorded, `f` is called by the host at every replay of it, the first of which follows at once; else
/// nothing happens.
inline void on_replay(std::function<void()> f) {
    if (is_recording()) detail::thread_recording()->on_replay.push_back(std::move(f));
}
/// Calls `f` once for each step that happens, now or, while one is recorded, at every replay: for counters that the
/// host keeps beside those of the GPU. A recording that fails leaves them alone.
template <class F> void every_call(const F& f) {
    if (is_recording())
        on_replay(f);
    else
        f();
}
/// Says of a number that the host computes in a step (the strength of a penalty that warms up) that it is the same for
/// `calls` calls of that step, this one included: the one after them runs it as it is, and it is recorded anew.
inline void holds_for(Index calls) {
    if (detail::Recording* const recording = detail::thread_recording())
        recording->holds_for = std::min(recording->holds_for, std::max<Index>(1, calls));
}
/// Throws StateError while a step is recorded, for what a replay would not do again.
inline void expect_not_recording(const char* who) {
    expect<StateError>(!is_recording(), who, ": expected to be called outside of a step that is being recorded");
}

} // namespace espalier::inline ESPALIER_BACKEND
