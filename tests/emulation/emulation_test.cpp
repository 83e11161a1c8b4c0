#include "support/check.hpp"

#include <espalier/cuda/block.cuh>
#include <espalier/cuda/copy_async.cuh>

#include <cstdio>
#include <string>

#include <unistd.h>

// The emulator's own tests: for each check that it makes, a kernel with a planted bug. Bugs that end the process run in
// a child, as test cases that are skipped otherwise. A kernel without the bug passes the same check.

using namespace espalier;
using namespace espalier::test;

namespace {

Cuda gpu() { return Cuda{current_stream()}; }
template <class... P, class... A> void run(dim3 blocks, dim3 threads, void (*kernel)(P...), A... arguments) {
    kernels::launch(gpu().stream, {blocks, threads}, kernel, arguments...);
    synchronise();
}

enum class Bug { none, planted };

// y[i] = x[n - 1 - i] by way of shared memory; the bug: no barrier between writing and reading.
template <Bug bug> __global__ void reverse_kernel(const float* x, float* y) {
    float* const shared = kernels::dynamic_shared<float>();
    shared[threadIdx.x] = x[threadIdx.x];
    if constexpr (bug == Bug::none) __syncthreads();
    y[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}
// y = x, by way of shared memory and past the registers; the bug: the copies are not waited for.
template <Bug bug> __global__ void copy_kernel(const float* x, float* y) {
    float* const shared = kernels::dynamic_shared<float>();
    if (threadIdx.x % 4 == 0) kernels::copy_async(shared + threadIdx.x, x + threadIdx.x, threadIdx.x >= 32);
    kernels::end_copies();
    kernels::end_copies();
    if constexpr (bug == Bug::none)
        kernels::wait_for_copies<1>();
    else
        kernels::wait_for_copies<2>();
    __syncthreads();
    y[threadIdx.x] = shared[threadIdx.x];
}
// The bug: half of the block goes to another barrier.
template <Bug bug> __global__ void barrier_kernel(float* y) {
    if (bug == Bug::planted && threadIdx.x < 16) {
        __syncthreads();
        y[threadIdx.x] = 1;
    } else {
        __syncthreads();
    }
}
// The bug: half of the block has left when the others come to the barrier.
template <Bug bug> __global__ void leave_kernel(float* y) {
    if (bug == Bug::planted && threadIdx.x >= 16) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}
// The bug: the upper lanes do not take part in the sum that waits for them.
template <Bug bug> __global__ void warp_kernel(float* y) {
    if (bug == Bug::planted && threadIdx.x >= 16) return;
    const float sum = kernels::warp_sum(1.0f);
    if (threadIdx.x == 0) y[0] = sum;
}
// A bug: lane 15 reads from lane 16, which is not in the mask.
template <class T> __global__ void lanes_kernel(T* y) {
    if (threadIdx.x >= 16) return;
    const T next = __shfl_down_sync(0xffffu, T(threadIdx.x), 1);
    y[threadIdx.x] = next;
}
// The bug: one element past the end.
template <Bug bug> __global__ void write_kernel(float* y, Index n) {
    const Index i = kernels::global_thread();
    if (bug == Bug::planted ? i <= n : i < n) y[i] = 1;
}
// The bug: a sum over the block without its last barrier, called twice. Every order of threads gives the right number.
template <Bug bug> __global__ void twice_kernel(float* y) {
    __shared__ float partial[2];
    float sum = 0;
    for (int round = 0; round < 2; ++round) {
        const float of_warp = kernels::warp_sum(1.0f);
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = of_warp;
        __syncthreads();
        sum += partial[0] + partial[1];
        if constexpr (bug == Bug::none) __syncthreads();
    }
    if (threadIdx.x == 0) y[0] = sum;
}
// The bug: blocks add to one element without saying so.
template <Bug bug> __global__ void count_kernel(int* y) {
    if (threadIdx.x > 0) return;
    if constexpr (bug == Bug::planted)
        *y += 1;
    else
        atomicAdd(y, 1);
}

__global__ void add_kernel(const float* x, float* y) { *y += *x; }

// x = 1, then, in the side stream, y = 1 + x, then z = y. The bugs: one stream does not wait for the other.
float handed_over(Bug fork, Bug join) {
    const auto one = Tensor<float>::ones({1}, Device::cuda);
    auto x = Tensor<float>::zeros({1}, Device::cuda), y = one.clone(), z = x.clone();
    synchronise();
    const auto& streams = detail::working_streams();
    kernels::launch(streams.main, {1, 1}, add_kernel, one.data(), x.mutable_data());
    if (fork == Bug::none) detail::check_cuda("fork", detail::queue_fork());
    kernels::launch(streams.side, {1, 1}, add_kernel, x.data(), y.mutable_data());
    if (join == Bug::none) detail::check_cuda("join", detail::queue_join());
    kernels::launch(streams.main, {1, 1}, add_kernel, y.data(), z.mutable_data());
    return z.item();
}

template <Bug bug> std::vector<float> reversed() {
    const Tensor<float> x = uniform<float>({64}, Random(1, "x")).to(Device::cuda);
    Tensor<float> y(x.shape(), Device::cuda);
    kernels::launch(gpu().stream, {1, 64, 64 * sizeof(float)}, reverse_kernel<bug>, x.data(), y.mutable_data());
    auto values = y.to_vector(), expected = x.to_vector();
    std::reverse(expected.begin(), expected.end());
    CHECK((values == expected) == (bug == Bug::none));
    return values;
}

// How this program ends with one planted test case, and what it prints.
struct Child {
    int status;
    std::string output;
};
Child run_planted(const std::string& name) {
    const std::string command =
        "TSAN_OPTIONS=exitcode=66 /proc/self/exe --no-skip --test-case='planted: " + name + "' 2>&1";
    char exe[4096];
    const auto length = readlink("/proc/self/exe", exe, sizeof exe);
    REQUIRE(length > 0);
    std::string line = command;
    line.replace(line.find("/proc/self/exe"), 14, std::string(exe, static_cast<std::size_t>(length)));
    FILE* const pipe = popen(line.c_str(), "r");
    REQUIRE(pipe != nullptr);
    Child child{0, ""};
    char buffer[4096];
    for (std::size_t got; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) child.output.append(buffer, got);
    child.status = pclose(pipe);
    return child;
}
void check_found(const std::string& name, const std::string& text) {
    const Child child = run_planted(name);
    CHECK_MESSAGE(child.status != 0, name, " was not found:\n", child.output);
    CHECK_MESSAGE(child.output.find(text) != std::string::npos, "expected '", text, "' for ", name, ", got:\n",
                  child.output);
}

} // namespace

TEST_CASE("emulation: a missing barrier gives wrong values, in every order of threads") {
    const auto before = emulation::order;
    for (const auto order : {emulation::Order::ascending, emulation::Order::descending, emulation::Order::shuffled}) {
        emulation::order = order;
        reversed<Bug::none>();
#if !EMULATION_TSAN // where it is a race as well
        reversed<Bug::planted>();
#endif
    }
    emulation::order = before;
}

TEST_CASE("emulation: barriers and collectives that not all come to are errors which say where") {
    Tensor<float> y({64}, Device::cuda);
    float* const to = y.mutable_data();
    run(1, 64, barrier_kernel<Bug::none>, to);
    CHECK_THROWS_WITH(run(1, 64, barrier_kernel<Bug::planted>, to), doctest::Contains("waits at two barriers"));
    run(1, 64, leave_kernel<Bug::none>, to);
    CHECK_THROWS_WITH(run(1, 64, leave_kernel<Bug::planted>, to), doctest::Contains("thread 16 has ended"));
    run(1, 32, warp_kernel<Bug::none>, to);
    CHECK(y.at(0) == 32);
    CHECK_THROWS_WITH(run(1, 32, warp_kernel<Bug::planted>, to), doctest::Contains("cannot make progress"));
    run(2, 64, barrier_kernel<Bug::none>, to); // it goes on after an error
}

TEST_CASE("emulation: a stream that does not wait for another gives wrong values") {
    const auto before = emulation::order;
    for (const auto order : {emulation::Order::ascending, emulation::Order::descending, emulation::Order::shuffled}) {
        emulation::order = order;
        CHECK(handed_over(Bug::none, Bug::none) == 2);
    }
    emulation::order = emulation::Order::ascending; // the side stream as late as it may run
    CHECK(handed_over(Bug::none, Bug::planted) == 1);
    emulation::order = emulation::Order::descending; // as early
    CHECK(handed_over(Bug::planted, Bug::none) == 1);
    emulation::order = before;
}

TEST_CASE("emulation: a wait is for what the event said when it was queued") {
    auto x = Tensor<float>::ones({1}, Device::cuda), y = x.clone(), z = x.clone();
    synchronise();
    const auto& streams = detail::working_streams();
    kernels::launch(streams.side, {1, 1}, add_kernel, x.data(), y.mutable_data());
    detail::check_cuda("join", detail::queue_join());
    kernels::launch(streams.side, {1, 1}, add_kernel, x.data(), y.mutable_data());
    detail::check_cuda("event", cudaEventRecord(streams.joined, streams.side));
    kernels::launch(streams.main, {1, 1}, add_kernel, y.data(), z.mutable_data());
    const auto order = std::exchange(emulation::order, emulation::Order::ascending);
    CHECK(z.item() == 3);
    CHECK(y.item() == 3);
    emulation::order = order;
}

TEST_CASE("emulation: a captured fork is replayed as one, and must be joined") {
    const auto& streams = detail::working_streams();
    const auto one = Tensor<float>::ones({1}, Device::cuda);
    auto x = Tensor<float>::zeros({1}, Device::cuda), y = x.clone(), z = x.clone();
    synchronise();
    const auto capture = [&](bool joins, cudaGraph_t* graph) {
        detail::check_cuda("begin", cudaStreamBeginCapture(streams.main, cudaStreamCaptureModeRelaxed));
        kernels::launch(streams.main, {1, 1}, add_kernel, one.data(), x.mutable_data());
        detail::check_cuda("fork", detail::queue_fork());
        kernels::launch(streams.side, {1, 1}, add_kernel, x.data(), y.mutable_data());
        if (joins) detail::check_cuda("join", detail::queue_join());
        kernels::launch(streams.main, {1, 1}, add_kernel, y.data(), z.mutable_data());
        return cudaStreamEndCapture(streams.main, graph);
    };
    cudaGraph_t graph = nullptr;
    CHECK(capture(false, &graph) == cudaErrorStreamCaptureUnjoined);
    CHECK(graph == nullptr);
    CHECK(cudaStreamWaitEvent(streams.main, streams.forked) == cudaErrorCapturedEvent);
    REQUIRE(capture(true, &graph) == cudaSuccess);
    cudaGraphExec_t executable = nullptr;
    REQUIRE(cudaGraphInstantiate(&executable, graph) == cudaSuccess);
    cudaGraphDestroy(graph);
    const auto before = emulation::order;
    for (const auto order : {emulation::Order::ascending, emulation::Order::descending, emulation::Order::shuffled}) {
        emulation::order = order;
        for (auto* const t : {&x, &y, &z}) t->fill(0);
        for (int replay = 0; replay < 3; ++replay) CHECK(cudaGraphLaunch(executable, streams.main) == cudaSuccess);
        CHECK(x.item() == 3);
        CHECK(y.item() == 6);  // 1 + 2 + 3
        CHECK(z.item() == 10); // 1 + 3 + 6
    }
    emulation::order = before;
    cudaGraphExecDestroy(executable);

    detail::check_cuda("event", cudaEventRecord(streams.joined, streams.side)); // outside of what is captured
    detail::check_cuda("begin", cudaStreamBeginCapture(streams.main, cudaStreamCaptureModeRelaxed));
    CHECK(cudaStreamWaitEvent(streams.main, streams.joined) == cudaErrorStreamCaptureIsolation);
    CHECK(cudaStreamEndCapture(streams.main, &graph) == cudaErrorStreamCaptureInvalidated);
}

TEST_CASE("emulation: a shuffle reads no lane outside of its mask") {
    Tensor<float> y({64}, Device::cuda);
    CHECK_THROWS_WITH(run(1, 32, lanes_kernel<float>, y.mutable_data()),
                      doctest::Contains("a lane outside of its mask"));
}

TEST_CASE("emulation: launches that no GPU takes are errors") {
    Tensor<float> y({64}, Device::cuda);
    const auto launch = [&](const kernels::Grid& grid) {
        kernels::launch(gpu().stream, grid, leave_kernel<Bug::none>, y.mutable_data());
    };
    CHECK_THROWS_WITH_AS(launch({1, 1056}), doctest::Contains("cudaErrorInvalidConfiguration"), DeviceError);
    CHECK_THROWS_AS(launch({{1, 65536}, 32}), DeviceError);
    CHECK_THROWS_AS(launch({1, 32, 228 * 1024}), DeviceError);
    launch({1, 32, 227 * 1024});
    launch({0, 32}); // nothing to do is no error
}

TEST_CASE("emulation: fresh memory is NaN") {
    MemoryPool::instance(Device::cuda).release_cached();
    for (const float v : Tensor<float>({3}, Device::cuda).to_vector()) CHECK(std::isnan(v));
    Tensor<float> y({64}, Device::cuda);
    kernels::launch(gpu().stream, {1, 64, 512}, reverse_kernel<Bug::none>, y.data(), y.mutable_data());
}

TEST_CASE("emulation: what is copied past the registers comes as late as it is waited for") {
    const auto x = random_tensor<float>({64}).to(Device::cuda);
    Tensor<float> y(x.shape(), Device::cuda);
    kernels::launch(gpu().stream, {1, 64, 256}, copy_kernel<Bug::none>, x.data(), y.mutable_data());
    for (Index i = 0; i < 64; ++i) CHECK(y.at(i) == (i < 32 ? x.at(i) : 0)); // the upper half is zeros
    kernels::launch(gpu().stream, {1, 64, 256}, copy_kernel<Bug::planted>, x.data(), y.mutable_data());
    for (const float v : y.to_vector()) CHECK(std::isnan(v));
}

TEST_CASE("planted: the host reads a GPU's memory" * doctest::skip()) {
    const auto x = Tensor<float>::ones({64}, Device::cuda);
    CHECK(x.data()[0] == 1);
}
TEST_CASE("emulation: the host can't touch a GPU's memory") {
    check_found("the host reads a GPU*", EMULATION_TSAN || EMULATION_ASAN ? "Sanitizer" : "SIGSEGV");
}

#if EMULATION_ASAN
TEST_CASE("planted: one element past the end" * doctest::skip()) {
    Tensor<float> y({63}, Device::cuda);
    run(1, 64, write_kernel<Bug::planted>, y.mutable_data(), 63);
}
TEST_CASE("planted: memory that was given back" * doctest::skip()) {
    float* freed = nullptr;
    {
        Tensor<float> y({64}, Device::cuda);
        freed = y.mutable_data();
    }
    run(1, 64, write_kernel<Bug::none>, freed, 64);
}
TEST_CASE("emulation: kernels stay within live memory") {
    Tensor<float> y({63}, Device::cuda);
    run(1, 64, write_kernel<Bug::none>, y.mutable_data(), 63);
    check_found("one element past*", "use-after-poison");
    check_found("memory that was*", "use-after-poison");
}
#endif

#if EMULATION_TSAN
TEST_CASE("planted: a missing barrier" * doctest::skip()) { reversed<Bug::planted>(); }
TEST_CASE("planted: a last barrier that is missing" * doctest::skip()) {
    Tensor<float> y({1}, Device::cuda);
    run(1, 64, twice_kernel<Bug::planted>, y.mutable_data());
    CHECK(y.item() == 128); // right all the same
}
TEST_CASE("planted: blocks that add without atomics" * doctest::skip()) {
    auto y = Tensor<int>::zeros({1}, Device::cuda);
    run(4, 32, count_kernel<Bug::planted>, y.mutable_data());
}
TEST_CASE("emulation: races within and between blocks are found") {
    Tensor<float> y({1}, Device::cuda);
    run(1, 64, twice_kernel<Bug::none>, y.mutable_data());
    auto count = Tensor<int>::zeros({1}, Device::cuda);
    run(4, 32, count_kernel<Bug::none>, count.mutable_data());
    CHECK(count.item() == 4);
    for (const char* const name : {"a missing barrier", "a last barrier*", "blocks that add*"})
        check_found(name, "data race");
}
#endif
