#pragma once

// Streams, events and graphs of the emulated GPU. What is queued runs when somebody waits for it, in one of the orders
// that a GPU may take: while one stream is waited for, the others run as late as they may if threads run in ascending
// order, as early as they may if in descending order, else at random. So a wait that one stream forgot to make for
// another shows in the numbers.

#include <emulation/block.hpp>

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace emulation {

struct Graph;
struct Queue;

/// The place in a queue behind its first `position` steps.
struct Event {
    std::shared_ptr<Queue> queue; // null before it is recorded
    std::size_t position = 0;
};
/// Work, or, without any, a wait until another queue has come to a place.
struct Step {
    std::function<void()> work;
    Event event;
};
struct Queue {
    Graph* graph = nullptr;    // that it is a branch of while that is captured: nothing of it is run
    std::deque<Step> steps;    // that have not run
    std::size_t done = 0;      // that have
    bool was_captured = false; // it never will be run

    std::size_t end() const { return done + steps.size(); }
    bool is_blocked() const {
        if (steps.empty() || steps.front().work) return false;
        const Event& event = steps.front().event;
        return event.queue->done < event.position;
    }
};
/// What was captured: the stream that began it, and those that it made wait for it.
struct Graph {
    std::vector<std::shared_ptr<Queue>> branches;
    bool invalid = false; // something was asked for that a graph can't hold

    Graph() = default;
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    ~Graph() {
        for (const auto& branch : branches) branch->steps.clear(); // branches know each other
    }
    const std::shared_ptr<Queue>& add_branch() {
        branches.push_back(std::make_shared<Queue>());
        branches.back()->graph = this;
        return branches.back();
    }
    /// Whether the end of the first branch comes after those of all others.
    bool is_joined() const {
        std::map<const Queue*, std::size_t> seen; // steps that are before that end
        std::vector<Event> next{{branches.front(), branches.front()->end()}};
        while (!next.empty()) {
            const Event to = next.back();
            next.pop_back();
            for (std::size_t& i = seen[to.queue.get()]; i < to.position; ++i)
                if (const Step& step = to.queue->steps[i]; !step.work) next.push_back(step.event);
        }
        for (const auto& branch : branches)
            if (seen[branch.get()] < branch->end()) return false;
        return true;
    }
};
struct Stream {
    std::shared_ptr<Queue> own = std::make_shared<Queue>();
    std::shared_ptr<Queue> to = own; // where steps go: a branch while it is captured
};

/// All that is queued. Used under its mutex.
class Scheduler {
public:
    static Scheduler& instance() {
        static Scheduler* const scheduler = new Scheduler; // outlives static tensors
        return *scheduler;
    }

    std::recursive_mutex mutex;

    Stream* make_stream() {
        queues_.push_back(streams_.emplace_back(std::make_unique<Stream>())->own);
        return streams_.back().get();
    }
    /// Runs what is queued there, and of other queues what must or may come before it.
    void finish(Queue& goal) {
        for (const std::size_t end = goal.end(); goal.done < end;) advance(next(goal));
        std::erase_if(queues_, [](auto& queue) { return queue->steps.empty() && queue.use_count() == 1; });
    }
    void finish_all() {
        for (const auto& queue : std::vector(queues_)) finish(*queue);
    }
    /// Queues a graph: its first branch in that stream, the others in queues of their own.
    void launch(const Graph& graph, const Stream& stream) {
        std::map<const Queue*, Event> places; // where a branch begins
        for (const auto& branch : graph.branches)
            if (places.empty())
                places[branch.get()] = {stream.to, stream.to->end()};
            else
                places[branch.get()] = {queues_.emplace_back(std::make_shared<Queue>()), 0};
        for (const auto& branch : graph.branches)
            for (const Step& step : branch->steps) {
                Event event;
                if (!step.work) {
                    event = places[step.event.queue.get()];
                    event.position += step.event.position;
                }
                places[branch.get()].queue->steps.push_back({step.work, event});
            }
    }
    /// Nothing is captured in the graph any more.
    void close(Graph& graph) {
        for (const auto& stream : streams_)
            if (stream->to->graph == &graph) stream->to = stream->own;
        for (const auto& branch : graph.branches) {
            branch->graph = nullptr;
            branch->was_captured = true;
        }
    }

private:
    static void advance(Queue& queue) {
        const auto work = std::move(queue.steps.front().work);
        queue.steps.pop_front();
        ++queue.done; // also if it ends in an error
        if (work) work();
    }
    Queue& next(Queue& goal) const {
        if (order == Order::ascending) { // only what must come before
            Queue* queue = &goal;
            while (queue->is_blocked()) queue = queue->steps.front().event.queue.get();
            return *queue;
        }
        std::vector<Queue*> ready;
        for (const auto& queue : queues_)
            if (queue.get() != &goal && !queue->steps.empty() && !queue->is_blocked()) ready.push_back(queue.get());
        if (ready.empty() || (order == Order::shuffled && !goal.is_blocked())) ready.push_back(&goal);
        return *ready[sequence(static_cast<unsigned>(ready.size()))[0]];
    }

    std::vector<std::unique_ptr<Stream>> streams_;
    std::vector<std::shared_ptr<Queue>> queues_; // that run
};

} // namespace emulation
