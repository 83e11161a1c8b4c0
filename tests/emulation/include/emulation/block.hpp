#pragma once

// One emulated block: a fiber for each CUDA thread, and a scheduler that runs them in a given order from barrier to
// barrier. A barrier opens when all that must come to it wait at the same line; when nobody can go on, that is an error
// which names who waits where.

#include <emulation/fiber.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
using uint3 = dim3;
inline thread_local uint3 threadIdx, blockIdx;
inline thread_local dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulation {

/// The order that threads of a block, blocks of a grid and streams are run in.
enum class Order { ascending, descending, shuffled };
inline Order order = Order::ascending;

/// A permutation of [0, count) in the order that is set; of the shuffled ones another one each time.
inline std::vector<unsigned> sequence(unsigned count) {
    static thread_local std::mt19937 generator(1);
    std::vector<unsigned> numbers(count);
    for (unsigned i = 0; i < count; ++i) numbers[i] = order == Order::descending ? count - 1 - i : i;
    if (order == Order::shuffled) std::shuffle(numbers.begin(), numbers.end(), generator);
    return numbers;
}

enum class State { ready, block_barrier, warp_barrier, done };

/// 16 bytes that are on their way to shared memory.
struct Copy {
    void* to;
    const void* from; // null: zeros
    unsigned group;   // of those that its thread waits for together
};
struct Thread {
    Fiber fiber;
    State state = State::done;
    unsigned mask = 0; // lanes that a warp's barrier waits for
    int line = 0;      // where it waits; negative: the second half of an exchange
    const char* file = "";
    bool block_phase = false, warp_phase = false;
    alignas(16) unsigned char slot[32]{}; // what it offers in an exchange
    std::vector<Copy> copies;             // that it has begun and not waited for
    unsigned groups = 0;                  // of copies, that it has ended
};

class Block {
public:
    static constexpr unsigned most_threads = 1024;

    /// The one that runs on this OS thread.
    static Block& current() {
        static thread_local Block block;
        return block;
    }

    /// Runs `kernel` for each thread; blockDim, gridDim and blockIdx are set.
    void run(const std::function<void()>& kernel, std::size_t shared_bytes) {
        count_ = blockDim.x * blockDim.y * blockDim.z;
        kernel_ = &kernel;
        error_ = nullptr;
        shared_.assign(shared_bytes + 16, 0xFF); // ones: NaN, for who reads before anyone wrote
        const auto turns = sequence(count_);
        for (unsigned t = 0; t < count_; ++t) {
            Thread& thread = threads_[t];
            thread.fiber.prepare([] { current().entry(); });
            thread.state = State::ready;
            thread.block_phase = thread.warp_phase = false;
            thread.copies.clear();
            thread.groups = 0;
        }
        aborts_ = false;
        std::exception_ptr failure;
        try {
            go(turns);
        } catch (...) {
            failure = std::current_exception();
            aborts_ = true; // every thread leaves its kernel by an exception
            for (unsigned t = 0; t < count_; ++t)
                while (threads_[t].state != State::done) enter(t);
        }
        for (unsigned t = 0; t < count_; ++t) threads_[t].fiber.dispose();
        if (failure) std::rethrow_exception(failure);
    }

    EMULATION_QUIET unsigned lane() const { return running_ % 32; }
    EMULATION_QUIET unsigned char* shared() {
        return shared_.data() + (16 - reinterpret_cast<std::uintptr_t>(shared_.data()) % 16) % 16;
    }

    /// Parks the running thread.
    EMULATION_QUIET void wait(State state, unsigned mask, const char* file, int line) {
        Thread& thread = threads_[running_];
        thread.state = state;
        thread.mask = mask;
        thread.file = file;
        thread.line = line;
#if EMULATION_TSAN // two marks in turn: who leaves late must not see who has come to the next barrier
        char* const mark = state == State::done ? &ends_
                           : state == State::block_barrier
                               ? &block_marks_[thread.block_phase = !thread.block_phase]
                               : &warp_marks_[running_ / 32][thread.warp_phase = !thread.warp_phase];
        __tsan_release(mark);
#endif
        thread.fiber.leave(state == State::done);
#if EMULATION_TSAN
        __tsan_acquire(mark);
#endif
        if (aborts_) throw Aborted();
    }

    /// What the lane `source` of this warp offers; everyone in `mask` comes here.
    template <class T> EMULATION_QUIET T exchange(unsigned mask, T value, int source, const char* file, int line) {
        static_assert(sizeof(T) <= sizeof(Thread::slot));
        if (!(mask >> lane() & 1))
            throw std::logic_error("emulated kernel: a lane calls a collective without itself in the mask");
        copy(threads_[running_].slot, reinterpret_cast<const unsigned char*>(&value), sizeof(T));
        wait(State::warp_barrier, mask, file, line); // all have offered
        T result = value;
        if (source >= 0 && source < 32) {
            if (!(mask >> source & 1))
                throw std::logic_error("emulated kernel: a shuffle reads a lane outside of its mask");
            copy(reinterpret_cast<unsigned char*>(&result), threads_[running_ / 32 * 32 + unsigned(source)].slot,
                 sizeof(T));
        }
        wait(State::warp_barrier, mask, file, -line); // all have read
        return result;
    }
    /// What every lane of this warp offers; all 32 come here.
    template <class T> EMULATION_QUIET std::array<T, 32> all(T value, const char* file, int line) {
        static_assert(sizeof(T) <= sizeof(Thread::slot) && std::is_trivially_copyable_v<T>);
        copy(threads_[running_].slot, reinterpret_cast<const unsigned char*>(&value), sizeof(T));
        wait(State::warp_barrier, ~0u, file, line);
        std::array<T, 32> values;
        for (unsigned l = 0; l < 32; ++l) values[l] = *reinterpret_cast<T*>(threads_[running_ / 32 * 32 + l].slot);
        wait(State::warp_barrier, ~0u, file, -line);
        return values;
    }
    /// Copies to shared memory are made as late as may be: when their thread waits for all groups but the last `open`.
    /// @{
    EMULATION_QUIET void begin_copy(void* to, const void* from) {
        const Unwatched scope;
        threads_[running_].copies.push_back({to, from, threads_[running_].groups});
    }
    EMULATION_QUIET void end_copies() { ++threads_[running_].groups; }
    void wait_for_copies(unsigned open) {
        for (const Copy& copy : due_copies(open))
            copy.from ? std::memcpy(copy.to, copy.from, 16) : std::memset(copy.to, 0, 16);
    }
    /// @}
    EMULATION_QUIET unsigned ballot(unsigned mask, bool predicate, const char* file, int line) {
        threads_[running_].slot[0] = predicate;
        wait(State::warp_barrier, mask, file, line);
        unsigned votes = 0;
        for (unsigned l = 0; l < 32; ++l)
            if (mask >> l & 1) votes |= unsigned(threads_[running_ / 32 * 32 + l].slot[0] != 0) << l;
        wait(State::warp_barrier, mask, file, -line);
        return votes;
    }

private:
    struct Aborted {};

    EMULATION_QUIET std::vector<Copy> due_copies(unsigned open) {
        const Unwatched scope;
        Thread& thread = threads_[running_];
        const auto first_open = std::find_if(thread.copies.begin(), thread.copies.end(),
                                             [&](const Copy& copy) { return copy.group + open >= thread.groups; });
        std::vector<Copy> due(thread.copies.begin(), first_open);
        thread.copies.erase(thread.copies.begin(), first_open);
        return due;
    }

    void go(const std::vector<unsigned>& turns) {
        while (std::any_of(threads_.get(), threads_.get() + count_, [](auto& t) { return t.state != State::done; })) {
            bool ran = false;
            for (const unsigned t : turns)
                if (threads_[t].state == State::ready) {
                    enter(t);
                    ran = true;
                }
            if (!ran && !release_warps() && !release_block()) stuck("cannot make progress");
        }
    }
    EMULATION_QUIET static void copy(unsigned char* to, const unsigned char* from, std::size_t bytes) {
        for (std::size_t i = 0; i < bytes; ++i) to[i] = from[i];
    }
    EMULATION_QUIET void entry() {
        threads_[running_].fiber.entered();
        try {
            if (!aborts_) (*kernel_)();
        } catch (const Aborted&) {
        } catch (...) {
            const Unwatched scope; // the scheduler's, not the kernel's
            error_ = std::current_exception();
        }
        wait(State::done, 0, "", 0);
    }
    EMULATION_QUIET void enter(unsigned t) {
        running_ = t;
        threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
        threads_[t].fiber.enter();
#if EMULATION_TSAN
        if (threads_[t].state == State::done) __tsan_acquire(&ends_); // for the error that it may have left
#endif
        if (error_ && !aborts_) std::rethrow_exception(error_);
    }
    EMULATION_QUIET bool release_warps() {
        bool any = false;
        for (unsigned t = 0; t < count_; ++t) {
            const Thread& first = threads_[t];
            if (first.state != State::warp_barrier) continue;
            const unsigned warp = t / 32 * 32;
            const auto waits_too = [&](unsigned lane) {
                const Thread& other = threads_[warp + lane];
                return warp + lane < count_ && other.state == State::warp_barrier && other.mask == first.mask &&
                       other.line == first.line;
            };
            bool all = true;
            for (unsigned lane = 0; lane < 32; ++lane) all = all && (!(first.mask >> lane & 1) || waits_too(lane));
            if (!all) continue;
            for (unsigned lane = 0, mask = first.mask; lane < 32; ++lane)
                if (mask >> lane & 1) threads_[warp + lane].state = State::ready;
            any = true;
        }
        return any;
    }
    EMULATION_QUIET bool release_block() {
        const Thread* first = nullptr;
        for (unsigned t = 0; t < count_; ++t) {
            if (threads_[t].state == State::done) continue;
            if (threads_[t].state != State::block_barrier) return false;
            if (first && threads_[t].line != first->line) stuck("waits at two barriers");
            if (!first) first = &threads_[t];
        }
        if (!first) return false;
        for (unsigned t = 0; t < count_; ++t)
            if (threads_[t].state == State::block_barrier) {
                threads_[t].state = State::ready;
            } else {
                stuck("waits at a barrier that others have left for good");
            }
        return true;
    }
    [[noreturn]] void stuck(const char* what) const {
        std::string text = std::string("emulated kernel ") + what + ":";
        int shown = 0;
        for (unsigned t = 0; t < count_ && shown < 4; ++t) {
            const Thread& thread = threads_[t];
            if (t > 0 && thread.state == threads_[t - 1].state && thread.line == threads_[t - 1].line) continue;
            text += " thread " + std::to_string(t) +
                    (thread.state == State::done
                         ? std::string(" has ended")
                         : std::string(" waits at ") + thread.file + ":" + std::to_string(std::abs(thread.line))) +
                    ";";
            ++shown;
        }
        throw std::logic_error(text);
    }

    std::unique_ptr<Thread[]> threads_{new Thread[most_threads]};
    unsigned count_ = 0, running_ = 0;
    bool aborts_ = false;
    const std::function<void()>* kernel_ = nullptr;
    std::exception_ptr error_;
    std::vector<unsigned char> shared_;
#if EMULATION_TSAN
    char ends_ = 0, block_marks_[2]{}, warp_marks_[most_threads / 32][2]{};
#endif
};

} // namespace emulation
