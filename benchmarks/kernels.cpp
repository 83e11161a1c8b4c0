// Single operations, timed by Google Benchmark: ours and, for convolutions, oneDNN's (peers/onednn.cpp). bench.py
// drives it, says which shapes, and judges what `save` writes. Every call does what training does, packing of weights
// included. With "device": "cuda" in the row ours is done on a GPU, captured, convolutions in the row's "precision";
// gpu.py drives that. A program with CUDA does without Google Benchmark and oneDNN.
//
//   {"do": "load", "row": {...}}                         -> the names of the variants
//   {"do": "save", "path": "..."}                        -> inputs as `in:x`, results as `espalier:y`, safetensors
//   {"do": "go", "variant": "...", "seconds": 0.1}       -> milliseconds a call, rotating through the row's "sets"

#include "kernels.hpp"
#include "server.hpp"

#include <espalier/core/simd.hpp>
#include <espalier/core/steady_clock.hpp>
#include <espalier/cpu/microkernel.hpp>
#include <espalier/io/safetensors.hpp>
#include <espalier/ops/batch_norm.hpp>
#include <espalier/ops/conv2d.hpp>
#include <espalier/ops/cross_entropy.hpp>
#include <espalier/ops/feature_flow.hpp>
#include <espalier/ops/join.hpp>
#include <espalier/ops/linear.hpp>
#include <espalier/ops/pool.hpp>
#include <espalier/tensor/random.hpp>
#include <espalier/train/captured_step.hpp>
#include <espalier/train/sgd.hpp>

#if !ESPALIER_CUDA
#include <benchmark/benchmark.h>
#endif

#include <cmath>
#include <cstring>
#include <deque>
#include <optional>

namespace espalier::bench {
namespace {

/// A row made ready: what everybody is given, and who can do it.
struct Work {
    TensorFile inputs;
    std::vector<Variant> variants;
};

Index number(const Json& row, const char* key) { return row.at(key).get<Index>(); }

Tensor<float> input(Work& work, const std::string& name, const Shape& shape) {
    const auto values = normal<float>(shape, Random(1, name));
    work.inputs.add("in:" + name, values);
    return values;
}

/// `sets` copies of a tensor on a device.
std::vector<Tensor<float>> copies(const Tensor<float>& tensor, Index sets, Device device) {
    std::vector<Tensor<float>> all;
    for (Index set = 0; set < sets; ++set) all.push_back(tensor.clone().to(device));
    return all;
}

Work convolution(const Json& row, Index sets) {
    Work work;
    const Index N = number(row, "batch"), C = number(row, "channels"), K = number(row, "filters");
    const Index H = number(row, "extent"), R = number(row, "taps");
    const Conv2dOptions options{.stride = number(row, "stride"), .padding = R / 2};
    const Index P = options.output(H, R);
    const auto x = input(work, "x", {N, H, H, C}), w = input(work, "w", {K, R, R, C}),
               dy = input(work, "dy", {N, P, P, K});
    const auto direction = row.at("direction").get<std::string>();
    const Device device = device_of(row);
    if (device == Device::cpu) work.variants = onednn_convolutions({x, w, dy, options, direction}, sets);

    const auto xs = copies(x, sets, device), ws = copies(w, sets, device), dys = copies(dy, sets, device);
    const Tensor<float> none({0}, device);
    auto out = std::make_shared<std::vector<Tensor<float>>>(static_cast<std::size_t>(sets)); // rotates, too
    work.variants.push_back(
        {"espalier",
         [=](Index index) {
             const auto set = static_cast<std::size_t>(index);
             Tensor<float>& result = (*out)[set];
             if (direction == "forward") {
                 result = detail::conv2d_forward<float>(xs[set], ws[set], none, options,
                                                        true); // as in training
             } else if (direction == "data") {
                 result = empty_like(xs[set]);
                 detail::conv2d_data_gradient<float>(dys[set], ws[set], options, result, false);
             } else {
                 result = detail::conv2d_weight_gradient<float>(xs[set], dys[set], w.shape(), options);
             }
         },
         [out] {
             return std::vector<std::pair<std::string, Tensor<float>>>{{"result", out->front()}};
         },
         device});
    return work;
}

/// An operation on parameters, forward and backward: y = f(parameters) with the gradient dy, or 1 for a scalar.
using Function = std::function<Var<float>(std::vector<Var<float>>&)>;

Work differentiated(Work work, const std::vector<std::pair<std::string, Tensor<float>>>& parameters, Index sets,
                    Device device, const Function& f) {
    std::vector<Tensor<float>> dys;
    if (work.inputs.contains("in:dy")) dys = copies(work.inputs.get<float>("in:dy"), sets, device);
    auto operands = std::make_shared<std::vector<std::vector<Var<float>>>>();
    for (Index set = 0; set < sets; ++set) {
        auto& vars = operands->emplace_back();
        for (const auto& [name, value] : parameters) vars.push_back(parameter(value.clone().to(device)));
    }
    auto y = std::make_shared<Tensor<float>>();
    work.variants.push_back({"espalier",
                             [=](Index index) {
                                 const auto set = static_cast<std::size_t>(index);
                                 std::vector<Var<float>>& vars = (*operands)[set];
                                 for (Var<float>& var : vars) var.clear_grad();
                                 const Var<float> result = f(vars);
                                 dys.empty() ? result.backward() : result.backward(dys[set]);
                                 if (set == 0) *y = result.value();
                             },
                             [=] {
                                 std::vector<std::pair<std::string, Tensor<float>>> results{{"y", *y}};
                                 for (std::size_t i = 0; i < parameters.size(); ++i)
                                     results.emplace_back("d" + parameters[i].first, operands->front()[i].grad());
                                 return results;
                             },
                             device});
    return work;
}

Shape map_of(const Json& row) {
    return {number(row, "batch"), number(row, "extent"), number(row, "extent"), number(row, "channels")};
}

Work batch_norm_relu(const Json& row, Index sets) {
    Work work;
    const Shape shape = map_of(row), channels{shape[3]};
    const auto x = input(work, "x", shape), gamma = input(work, "gamma", channels),
               beta = input(work, "beta", channels);
    input(work, "dy", shape);
    const Device device = device_of(row);
    const Var<float> mean(Tensor<float>::zeros(channels, device)), variance(Tensor<float>::full(channels, 1, device));
    return differentiated(std::move(work), {{"x", x}, {"gamma", gamma}, {"beta", beta}}, sets, device, [=](auto& in) {
        return batch_norm(in[0], in[1], in[2], mean, variance, {.activation = Activation::relu});
    });
}

Work residual_join(const Json& row, Index sets) {
    Work work;
    const auto a = input(work, "a", map_of(row)), b = input(work, "b", map_of(row));
    input(work, "dy", map_of(row));
    return differentiated(std::move(work), {{"a", a}, {"b", b}}, sets, device_of(row),
                          [state = std::make_shared<JoinState<float>>()](auto& in) {
                              return join(in[0], in[1], state, Activation::relu);
                          });
}

Work max_pooling(const Json& row, Index sets) {
    Work work;
    Shape shape = map_of(row);
    const auto x = input(work, "x", shape);
    shape[1] /= 2;
    shape[2] /= 2;
    input(work, "dy", shape);
    return differentiated(std::move(work), {{"x", x}}, sets, device_of(row),
                          [](auto& in) { return max_pool2d(in[0]); });
}

Work mean_pooling(const Json& row, Index sets) {
    Work work;
    const auto x = input(work, "x", map_of(row));
    input(work, "dy", {number(row, "batch"), number(row, "channels")});
    return differentiated(std::move(work), {{"x", x}}, sets, device_of(row),
                          [](auto& in) { return global_avg_pool(in[0]); });
}

/// The last linear layer with the loss.
Work head(const Json& row, Index sets) {
    Work work;
    const Index N = number(row, "batch"), C = number(row, "channels"), K = number(row, "classes");
    const auto x = input(work, "x", {N, C}), w = input(work, "w", {K, C}), b = input(work, "b", {K});
    Tensor<Index> labels({N});
    for (Index n = 0; n < N; ++n) labels.mutable_data()[n] = n % K;
    work.inputs.add("in:labels", labels);
    return differentiated(
        std::move(work), {{"x", x}, {"w", w}, {"b", b}}, sets, device_of(row),
        [labels = labels.to(device_of(row))](auto& in) { return cross_entropy(linear(in[0], in[1], in[2]), labels); });
}

/// The maps of all stages are multiples of 1/256: their differences are exact, so that no rounding changes a sign.
Work flow(const Json& row, Index sets) {
    Work work;
    std::vector<std::pair<std::string, Tensor<float>>> maps;
    std::vector<std::size_t> counts;
    for (const Json& stage : row.at("stages")) {
        counts.push_back(stage.at("maps").get<std::size_t>());
        for (std::size_t l = 0; l < counts.back(); ++l) {
            const std::string name = join_text("stage", counts.size(), ".", l);
            auto map = normal<float>(map_of(stage), Random(1, name));
            for (Index i = 0; i < map.size(); ++i) map.mutable_data()[i] = std::nearbyint(256 * map.data()[i]) / 256;
            work.inputs.add("in:" + name, map);
            maps.emplace_back(name, map);
        }
    }
    return differentiated(std::move(work), maps, sets, device_of(row), [counts](auto& in) {
        std::vector<std::vector<Var<float>>> stages;
        auto next = in.begin();
        for (const std::size_t count : counts) {
            const auto end = next + static_cast<std::ptrdiff_t>(count);
            stages.emplace_back(next, end);
            next = end;
        }
        return feature_flow(stages);
    });
}

/// Updates with momentum and weight decay of one tensor for each of the row's "sizes".
Work sgd(const Json& row, Index) {
    Work work;
    std::vector<NamedVar<float>> parameters;
    for (const Json& size : row.at("sizes")) {
        const std::string count = std::to_string(parameters.size());
        Var<float> p = parameter(input(work, "p" + count, {size.get<Index>()}).clone().to(device_of(row)));
        p.node()->add_grad(input(work, "g" + count, p.shape()).to(device_of(row)));
        parameters.push_back({count, p});
    }
    const SgdOptions options{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 5e-4};
    auto optimizer = std::make_shared<Sgd<float>>(parameters, options);
    work.variants.push_back({"espalier", [optimizer](Index) { optimizer->step(); },
                             [parameters] {
                                 std::vector<std::pair<std::string, Tensor<float>>> results;
                                 for (const auto& [name, p] : parameters) results.emplace_back("p" + name, p.value());
                                 return results;
                             },
                             device_of(row)});
    return work;
}

/// The ceilings of the machine: multiply-adds of independent sums in registers, and copying, on all threads.
/// @{
constexpr int fma_sums = 12; // enough to fill the latency of two pipes, few enough for 16 registers
Work peak(const Json& row, Index) {
    auto results = std::make_shared<std::vector<float>>(static_cast<std::size_t>(threads()));
    const auto run = [results, rounds = number(row, "rounds")](Index) {
        parallel_for(threads(), [&](Index thread) {
            using S = Simd<float>;
            S::Vector sum[fma_sums], factor = S::broadcast(0.5f);
            detail::unrolled<fma_sums>([&](auto j) { sum[j] = S::broadcast(static_cast<float>(thread + j)); });
            for (Index i = 0; i < rounds; ++i) {
                detail::keep_in_register(factor);
                detail::unrolled<fma_sums>([&](auto j) { sum[j] = sum[j] * factor + factor; });
            }
            detail::unrolled<fma_sums>([&](auto j) { (*results)[static_cast<std::size_t>(thread)] += sum[j][0]; });
        });
    };
    return {TensorFile(), {{"espalier", run, {}, Device::cpu}}};
}
Work copy(const Json& row, Index) {
    const auto from = Tensor<float>::full({number(row, "floats")}, 1);
    auto to = empty_like(from);
    const auto run = [from, to](Index) mutable {
        const Index part = (from.size() + threads() - 1) / threads();
        float* const target = to.mutable_data();
        parallel_ranges(from.size(), part, [&](Index begin, Index end) {
            std::memcpy(target + begin, from.data() + begin, static_cast<std::size_t>(end - begin) * sizeof(float));
        });
    };
    return {TensorFile(), {{"espalier", run, {}, Device::cpu}}};
}
/// @}

const std::map<std::string, std::function<Work(const Json&, Index)>> operations{{"conv", convolution},
                                                                                {"batch_norm_relu", batch_norm_relu},
                                                                                {"join", residual_join},
                                                                                {"max_pool", max_pooling},
                                                                                {"mean_pool", mean_pooling},
                                                                                {"head", head},
                                                                                {"flow", flow},
                                                                                {"sgd", sgd},
                                                                                {"peak", peak},
                                                                                {"copy", copy}};

/// It, with the calls of each set captured in a CUDA graph: what is timed is kernels and not the host that queues them.
Variant captured(Variant variant, Index sets) {
    auto steps = std::make_shared<std::deque<CapturedStep>>();
    for (Index set = 0; set < sets; ++set) steps->emplace_back(variant.device, [run = variant.run, set] { run(set); });
    variant.run = [steps](Index set) { (*steps)[static_cast<std::size_t>(set)](); };
    return variant;
}

/// Milliseconds a call.
/// @{
#if ESPALIER_CUDA
double time(const Variant& variant, Index sets, Index group, double seconds) {
    const double start = steady_seconds();
    double passed = 0;
    Index calls = 0;
    while (calls == 0 || passed < seconds) {
        for (Index i = 0; i < group; ++i, ++calls) variant.run(calls % sets);
        synchronise(variant.device);
        passed = steady_seconds() - start;
    }
    return 1e3 * passed / static_cast<double>(calls);
}
#else
/// Keeps the time of the last benchmark.
struct LastTime : benchmark::BenchmarkReporter {
    double milliseconds = 0;
    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs)
            milliseconds = 1e3 * run.real_accumulated_time / static_cast<double>(run.iterations);
    }
};

double time(const Variant& variant, Index sets, Index, double seconds) {
    benchmark::ClearRegisteredBenchmarks();
    benchmark::RegisterBenchmark(variant.name.c_str(),
                                 [&](benchmark::State& state) {
                                     Index set = 0;
                                     for ([[maybe_unused]] auto iteration : state) {
                                         variant.run(set);
                                         set = set + 1 < sets ? set + 1 : 0;
                                     }
                                 })
        ->UseRealTime()
        ->MinTime(seconds);
    LastTime reporter;
    benchmark::RunSpecifiedBenchmarks(&reporter, "all");
    return reporter.milliseconds;
}
#endif
/// @}

} // namespace
} // namespace espalier::bench

int main() {
    using namespace espalier;
    using namespace espalier::bench;
    Work work;
    std::optional<MatmulPrecisionScope> precision; // of the row
    Index sets = 1, group = 1;
    const auto load = [&](const Json& request) {
        const Json& row = request.at("row");
        work = Work();
        MemoryPool::instance(device_of(row)).release_cached();
        precision.reset();
        precision.emplace(precision_of(row));
        sets = row.value("sets", Index(1));
        group = group_of(row);
        work = operations.at(row.at("op").get<std::string>())(row, sets);
        for (Variant& variant : work.variants)
            if (variant.device != Device::cpu) variant = captured(std::move(variant), sets);
        Json names = Json::array();
        for (const Variant& variant : work.variants) names.push_back(variant.name);
        return Json{{"variants", names}};
    };
    const auto save = [&](const Json& request) {
        TensorFile file = work.inputs;
        for (const Variant& variant : work.variants) {
            variant.run(0);
            variant.run(0); // twice: an optimizer's momentum shows only then
            for (const auto& [name, tensor] : variant.results()) file.add(variant.name + ":" + name, tensor);
        }
        write_safetensors(file, request.at("path").get<std::string>());
        return Json::object();
    };
    const auto go = [&](const Json& request) {
        for (const Variant& variant : work.variants)
            if (variant.name == request.at("variant"))
                return Json{{"ms", time(variant, sets, group, request.at("seconds").get<double>())}};
        throw StateError("go: expected a variant of the row, got " + request.dump());
    };
    const auto about = [](const Json&) {
        return Json{
            {"threads", threads()}, {"lanes", Simd<float>::lanes}, {"sums", fma_sums}, {"onednn", onednn_version()}};
    };
    return serve({{"load", load}, {"save", save}, {"go", go}, {"about", about}});
}
