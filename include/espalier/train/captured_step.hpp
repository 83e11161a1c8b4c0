#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/recording.hpp>
#include <espalier/core/scoped_value.hpp>
#include <espalier/tensor/device.hpp>
#include <espalier/tensor/storage.hpp>

#include <functional>
#include <memory>
#include <mutex>

namespace espalier::inline ESPALIER_BACKEND {

/// A step that is called over and over; on a GPU it is captured in a CUDA graph, whose replays take the host no work a
/// kernel.
///
///     es::CapturedStep step(es::Device::cuda, [&] {
///         model.clear_grad();
///         loss = es::cross_entropy(model.forward(images).logits, labels);
///         loss.backward();
///         optimizer.step();
///     });
///     for (...) { images.copy_from(batch); step(); }
///
/// The first call runs the function. The second records what it queues, and replays that, as do all later ones: each
/// call is one step. Results are where the recording put them, in tensors that the function assigned to something
/// outside; each replay writes there anew. On the CPU every call runs the function.
///
/// The function may not wait for the GPU (`item`, `to`) and is not run by a replay: what it reads from the CPU is a
/// constant, and what one step hands to the next must be changed in place, as optimizers, batch norm and dropout do.
/// Learning rate, step counters and streams of random numbers live on the GPU and move. A penalty that gets stronger
/// says how long it stays (`holds_for`); surgery, `Module::to`, loading, and another `Path` or `MatmulPrecision` of the
/// thread make the recording out of date. The next call then is as the first.
class CapturedStep {
public:
    /// Of work that `f` queues on that device. What it refers to outlives this.
    CapturedStep(Device device, std::function<void()> f);
    ~CapturedStep();
    CapturedStep(const CapturedStep&) = delete;
    CapturedStep& operator=(const CapturedStep&) = delete;

    /// One step. @throws whatever the function throws; StateError if it waits for the GPU while it is recorded: then
    /// nothing of the step has happened on the GPU
    void operator()();
    /// Whether the next call replays what was recorded.
    bool is_captured() const;
    /// Forgets the recording; the next call runs the function.
    void reset();

private:
    void record();
    void forget();

    struct Graph;
    Device device_;
    std::function<void()> f_;
    std::unique_ptr<Graph> graph_;
    bool warm_ = false; // the function has run, and asked to run again as it is
};

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
namespace espalier::inline ESPALIER_BACKEND {

struct CapturedStep::Graph {
#if ESPALIER_CUDA
    Graph() : memory(MemoryPool::instance(Device::cuda)) {}
    ~Graph() {
        if (!executable) return;
        cudaStreamSynchronize(detail::working_streams().main); // it may be running
        cudaGraphExecDestroy(executable);
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    MemoryPool::Reserve memory;
    cudaGraphExec_t executable = nullptr;
#endif
    detail::Recording recording;
    std::uint64_t memory_moves = 0;
    Path path = current_path();
    MatmulPrecision precision = current_matmul_precision();
};

ESPALIER_BODY CapturedStep::CapturedStep(Device device, std::function<void()> f) : device_(device), f_(std::move(f)) {}

ESPALIER_BODY CapturedStep::~CapturedStep() { forget(); }

ESPALIER_BODY bool CapturedStep::is_captured() const {
    return graph_ && graph_->recording.holds_for > 0 && graph_->memory_moves == detail::memory_moves() &&
           graph_->path == current_path() && graph_->precision == current_matmul_precision();
}
ESPALIER_BODY void CapturedStep::reset() {
    forget();
    warm_ = false;
}
ESPALIER_BODY void CapturedStep::forget() {
    if (!graph_) return;
    graph_.reset();
    detail::memory_moved(); // another recording may read what this one wrote
}

ESPALIER_BODY void CapturedStep::operator()() {
    if (device_ == Device::cpu) return f_();
#if ESPALIER_CUDA
    expect_not_recording("CapturedStep");
    if (!is_captured()) {
        if (warm_ && !graph_) {
            record();
        } else { // as it is: what is made once comes to be, and it shows how long the recording would hold
            reset();
            detail::Recording watched;
            watched.queues_kernels = false;
            const ScopedValue<detail::Recording*> scope(detail::thread_recording(), &watched);
            f_();
            warm_ = watched.holds_for > 1;
            return;
        }
    }
    for (const auto& f : graph_->recording.on_replay) f();
    --graph_->recording.holds_for;
    detail::check_cuda("CapturedStep", cudaGraphLaunch(graph_->executable, current_stream()));
#else
    detail::no_cuda();
#endif
}

ESPALIER_BODY void CapturedStep::record() {
#if ESPALIER_CUDA
    static std::mutex one_at_a_time; // of the threads that record in these streams
    const std::lock_guard lock(one_at_a_time);
    const detail::Streams& streams = detail::recording_streams();
    const cudaStream_t stream = streams.main;
    warm_ = false; // should it fail
    auto made = std::make_unique<Graph>();
    cudaGraph_t graph = nullptr;
    // Relaxed: memory for the reserve comes from the system while it is recorded.
    detail::check_cuda("CapturedStep", cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    try {
        const MemoryPool::Reserve::Scope memory(made->memory);
        const ScopedValue<const detail::Streams*> pair(detail::thread_streams(), &streams);
        const ScopedValue<cudaStream_t> current(detail::thread_stream(), stream);
        const ScopedValue<detail::Recording*> recording(detail::thread_recording(), &made->recording);
        f_();
    } catch (...) {
        cudaStreamEndCapture(stream, &graph);
        if (graph) cudaGraphDestroy(graph);
        throw;
    }
    detail::check_cuda("CapturedStep", cudaStreamEndCapture(stream, &graph));
    cudaError_t status = cudaGraphInstantiate(&made->executable, graph, 0);
    if (status == cudaErrorMemoryAllocation) { // what the pool keeps for others may be what is missing
        cudaGetLastError();
        MemoryPool::instance(Device::cuda).release_cached();
        status = cudaGraphInstantiate(&made->executable, graph, 0);
    }
    cudaGraphDestroy(graph);
    detail::check_cuda("CapturedStep", status);
    made->memory_moves = detail::memory_moves();
    graph_ = std::move(made);
    warm_ = true;
#endif
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
