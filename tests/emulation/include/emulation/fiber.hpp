#pragma once

// One flow of control that can be left and entered again: a thread of an emulated block. The sanitizers are told of
// every switch, since each fiber has a stack of its own.

#include <csetjmp>
#include <cstddef>
#include <memory>

#include <ucontext.h>

#if defined(__SANITIZE_THREAD__)
#define EMULATION_TSAN 1
#include <sanitizer/tsan_interface.h>
#else
#define EMULATION_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__)
#define EMULATION_ASAN 1
#include <sanitizer/common_interface_defs.h>
#else
#define EMULATION_ASAN 0
#endif
/// What the emulator does to its own data is no race of the kernel.
#if EMULATION_TSAN
#define EMULATION_QUIET __attribute__((no_sanitize("thread"), noinline))
#else
#define EMULATION_QUIET
#endif

#if EMULATION_TSAN
extern "C" {
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#endif

namespace emulation {

/// What is done in this scope is no race.
struct Unwatched {
#if EMULATION_TSAN
    Unwatched() {
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
    ~Unwatched() {
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    }
#else
    Unwatched() {}
#endif
};

class Fiber {
public:
    static constexpr std::size_t stack_bytes = 128 * 1024;

    /// Gets ready to run `entry` from its start.
    void prepare(void (*entry)()) {
        if (!stack_) stack_.reset(new unsigned char[stack_bytes]);
#if EMULATION_TSAN || EMULATION_ASAN
        ucontext_t& start = here_;
#else
        ucontext_t& start = start_;
        entered_ = false;
#endif
        getcontext(&start);
        start.uc_stack.ss_sp = stack_.get();
        start.uc_stack.ss_size = stack_bytes;
        start.uc_link = nullptr;
        makecontext(&start, entry, 0);
#if EMULATION_TSAN
        tsan_ = __tsan_create_fiber(0);
#endif
    }
    /// After the fiber has ended.
    void dispose() {
#if EMULATION_TSAN
        __tsan_destroy_fiber(tsan_);
#endif
    }
    /// Runs it until it leaves. Called by the thread that owns it, outside of any fiber.
    EMULATION_QUIET void enter() {
#if EMULATION_TSAN
        owner_tsan_ = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(tsan_, __tsan_switch_to_fiber_no_sync);
#endif
#if EMULATION_ASAN
        __sanitizer_start_switch_fiber(&owner_fake_, stack_.get(), stack_bytes);
#endif
#if EMULATION_TSAN || EMULATION_ASAN
        swapcontext(&owner_, &here_); // they follow contexts, not jumps
#else
        if (_setjmp(owner_) == 0) {
            if (entered_) _longjmp(here_, 1);
            entered_ = true;
            setcontext(&start_);
        }
#endif
#if EMULATION_ASAN
        __sanitizer_finish_switch_fiber(owner_fake_, nullptr, nullptr);
#endif
    }
    /// First thing in `entry`.
    EMULATION_QUIET void entered() {
#if EMULATION_ASAN
        __sanitizer_finish_switch_fiber(nullptr, &owner_stack_, &owner_stack_bytes_);
#endif
    }
    /// Goes back to the owner until the next `enter`; `for_good` if there is none.
    EMULATION_QUIET void leave([[maybe_unused]] bool for_good) {
#if EMULATION_TSAN
        __tsan_switch_to_fiber(owner_tsan_, __tsan_switch_to_fiber_no_sync);
#endif
#if EMULATION_ASAN
        __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_, owner_stack_, owner_stack_bytes_);
#endif
#if EMULATION_TSAN || EMULATION_ASAN
        swapcontext(&here_, &owner_);
#else
        if (_setjmp(here_) == 0) _longjmp(owner_, 1);
#endif
#if EMULATION_ASAN
        __sanitizer_finish_switch_fiber(fake_, &owner_stack_, &owner_stack_bytes_);
#endif
    }

private:
    std::unique_ptr<unsigned char[]> stack_;
#if EMULATION_TSAN || EMULATION_ASAN
    ucontext_t here_{}, owner_{};
#else
    ucontext_t start_{};
    jmp_buf here_{}, owner_{}; // without the signal mask, which would be two system calls a switch
    bool entered_ = false;
#endif
#if EMULATION_TSAN
    void *tsan_ = nullptr, *owner_tsan_ = nullptr;
#endif
#if EMULATION_ASAN
    void *fake_ = nullptr, *owner_fake_ = nullptr;
    const void* owner_stack_ = nullptr;
    std::size_t owner_stack_bytes_ = 0;
#endif
};

} // namespace emulation
