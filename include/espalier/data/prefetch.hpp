#pragma once

#include <espalier/core/error.hpp>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

// Not part of espalier.hpp: threads of the standard library cost half a second to compile, and a loader has this
// inside.

namespace espalier::inline ESPALIER_BACKEND {

/// Values make(first), ..., make(last - 1), in this order, made up to `depth` ahead of their use by one thread.
///
/// With a depth of 0 there is no thread: `next` makes the value itself. Whether or not there is a thread, the values
/// are the same, and an exception of `make` comes out of the `next` that would have returned that value.
template <class V> class Prefetch {
public:
    /// Starts making values, if there is a depth. @throws ShapeError for a negative depth
    Prefetch(Index first, Index last, Index depth, std::function<V(Index)> make)
        : make_(std::move(make)), next_(first), last_(std::max(first, last)), depth_(depth) {
        expect(depth >= 0, "Prefetch: expected a depth of at least 0, got ", depth);
        if (depth_ > 0 && next_ < last_) thread_ = std::thread([this] { produce(); });
    }
    /// Waits for the value in the making, at most one.
    ~Prefetch() {
        {
            const std::lock_guard lock(mutex_);
            stopped_ = true;
        }
        changed_.notify_all();
        if (thread_.joinable()) thread_.join();
    }
    Prefetch(const Prefetch&) = delete;
    Prefetch& operator=(const Prefetch&) = delete;

    /// The next value, or nothing after the last.
    std::optional<V> next() {
        if (!thread_.joinable()) {
            if (next_ == last_) return std::nullopt;
            std::optional<V> value(make_(next_));
            ++next_;
            return value;
        }
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !ready_.empty() || ended_; });
        if (ready_.empty()) {
            if (failure_) std::rethrow_exception(failure_);
            return std::nullopt;
        }
        std::optional<V> value(std::move(ready_.front()));
        ready_.pop_front();
        lock.unlock();
        changed_.notify_all();
        return value;
    }

private:
    void produce() {
        std::exception_ptr failure;
        try {
            for (; next_ < last_; ++next_) {
                V value = make_(next_);
                std::unique_lock lock(mutex_);
                changed_.wait(lock, [&] { return static_cast<Index>(ready_.size()) < depth_ || stopped_; });
                if (stopped_) break;
                ready_.push_back(std::move(value));
                lock.unlock();
                changed_.notify_all();
            }
        } catch (...) {
            failure = std::current_exception();
        }
        {
            const std::lock_guard lock(mutex_);
            failure_ = failure;
            ended_ = true;
        }
        changed_.notify_all();
    }

    std::function<V(Index)> make_;
    Index next_, last_, depth_; // next_ belongs to whoever makes the values
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<V> ready_;
    bool stopped_ = false, ended_ = false;
    std::exception_ptr failure_;
    std::thread thread_;
};

} // namespace espalier::inline ESPALIER_BACKEND
