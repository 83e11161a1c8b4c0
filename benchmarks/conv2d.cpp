// How close do convolutions come to the multiply-add peak of the machine, and to PyTorch (peers/conv2d.py)?
//
//   conv2d [filter] [repeats] [json]     the shapes whose name contains `filter`, median of `repeats` runs
//
// Every run calls the op as training does, packing of weights included. GFLOP/s are nominal: taps in the padding count.
// With one thread (OMP_NUM_THREADS=1) time is processor time, which other programs on the machine disturb less.

#include <espalier/ops/conv2d.hpp>
#include <espalier/tensor/random.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

namespace es = espalier;
using es::Index;

namespace {

struct Layer {
    const char* name;
    Index batch, extent, channels, filters, taps, stride;
};

constexpr Layer layers[] = {
    {"vgg stem", 32, 32, 3, 64, 3, 1},        {"vgg 64", 32, 32, 64, 64, 3, 1},
    {"vgg 64-128", 32, 16, 64, 128, 3, 1},    {"vgg 128", 32, 16, 128, 128, 3, 1},
    {"vgg 128-256", 32, 8, 128, 256, 3, 1},   {"vgg 256", 32, 8, 256, 256, 3, 1},
    {"vgg 256-512", 32, 4, 256, 512, 3, 1},   {"vgg 512", 32, 4, 512, 512, 3, 1},
    {"vgg 512 small", 32, 2, 512, 512, 3, 1}, {"resnet stem", 32, 32, 3, 16, 3, 1},
    {"resnet 16", 32, 32, 16, 16, 3, 1},      {"resnet 16-32", 32, 32, 16, 32, 3, 2},
    {"resnet 32", 32, 16, 32, 32, 3, 1},      {"resnet 32-64", 32, 16, 32, 64, 3, 2},
    {"resnet 64", 32, 8, 64, 64, 3, 1},       {"mnist 16", 32, 28, 16, 16, 3, 1},
    {"mnist 32", 32, 14, 32, 32, 3, 1},       {"mnist 64", 32, 7, 64, 64, 3, 1},
    {"pruned 37", 32, 16, 37, 37, 3, 1},      {"pruned 49", 32, 16, 49, 49, 3, 1},
    {"pruned 61", 32, 16, 61, 61, 3, 1},      {"pointwise 256", 32, 8, 256, 256, 1, 1},
};

double now_ms() {
    timespec time;
    clock_gettime(es::threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
}

struct Times {
    double median, best;
};

template <class F> Times measure(int repeats, const F& f) {
    std::vector<double> times;
    f();
    for (int i = 0; i < repeats; ++i) {
        const double start = now_ms();
        f();
        times.push_back(now_ms() - start);
    }
    std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
    return {times[static_cast<std::size_t>(repeats / 2)], *std::min_element(times.begin(), times.end())};
}

/// Multiply-adds of independent sums in registers on all threads.
double peak_gflops() {
    using S = es::Simd<float>;
    constexpr int sums = 12;
    constexpr Index rounds = 2000000;
    std::vector<float> results(static_cast<std::size_t>(es::threads()));
    const Times times = measure(15, [&] {
        es::parallel_for(es::threads(), [&](Index thread) {
            S::Vector sum[sums], factor = S::broadcast(0.5f);
            es::detail::unrolled<sums>([&](auto j) { sum[j] = S::broadcast(static_cast<float>(thread + j)); });
            for (Index i = 0; i < rounds; ++i) {
                es::detail::keep_in_register(factor);
                es::detail::unrolled<sums>([&](auto j) { sum[j] = sum[j] * factor + factor; });
            }
            es::detail::unrolled<sums>([&](auto j) { results[static_cast<std::size_t>(thread)] += sum[j][0]; });
        });
    });
    return 2e-6 * sums * S::lanes * rounds * es::threads() / times.median;
}

} // namespace

int main(int argc, char** argv) {
    const std::string filter = argc > 1 ? argv[1] : "";
    const int repeats = argc > 2 ? std::atoi(argv[2]) : 15;
    const double peak = peak_gflops();
    std::string json;
    std::printf("threads %d, measured peak %.0f GFLOP/s\n", es::threads(), peak);
    std::printf("%-15s %-9s %9s %9s %9s %6s\n", "layer", "direction", "ms", "best", "GFLOP/s", "peak");
    for (const Layer& layer : layers) {
        if (std::string(layer.name).find(filter) == std::string::npos) continue;
        const es::Conv2dOptions options{.stride = layer.stride, .padding = layer.taps / 2};
        const es::Random random(1, layer.name);
        const auto x = es::normal<float>({layer.batch, layer.extent, layer.extent, layer.channels}, random);
        const auto w = es::normal<float>({layer.filters, layer.taps, layer.taps, layer.channels}, random);
        const es::Tensor<float> none({0});
        const auto dy = es::detail::conv2d_forward(x, w, none, options);
        const double flops = 2.0 * static_cast<double>(dy.size() * layer.taps * layer.taps * layer.channels);
        const auto report = [&](const char* direction, const auto& f) {
            const auto [ms, best] = measure(repeats, f);
            const double rate = flops / ms * 1e-6;
            std::printf("%-15s %-9s %9.3f %9.3f %9.1f %5.0f%%\n", layer.name, direction, ms, best, rate,
                        100 * rate / peak);
            json +=
                es::join_text(json.empty() ? "" : ",\n", R"({"layer": ")", layer.name, R"(", "direction": ")",
                              direction, R"(", "ms": )", ms, R"(, "best_ms": )", best, R"(, "gflops": )", rate, "}");
        };
        report("forward", [&] { return es::detail::conv2d_forward(x, w, none, options); });
        report("data", [&] { return es::detail::conv2d_data_gradient(dy, w, x.shape(), options); });
        report("weights", [&] { return es::detail::conv2d_weight_gradient(x, dy, w.shape(), options); });
    }
    if (argc > 3)
        std::ofstream(argv[3]) << "{\"threads\": " << es::threads() << ", \"peak_gflops\": " << peak
                               << ", \"rows\": [\n"
                               << json << "\n]}\n";
}
