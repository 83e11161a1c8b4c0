#include "support/check.hpp"

#include <espalier/data/loader.hpp>
#include <espalier/ops/activation.hpp>
#include <espalier/ops/adaptive_pool.hpp>
#include <espalier/ops/batch_norm.hpp>
#include <espalier/ops/concat.hpp>
#include <espalier/ops/conv2d.hpp>
#include <espalier/ops/cross_entropy.hpp>
#include <espalier/ops/dropout.hpp>
#include <espalier/ops/feature_flow.hpp>
#include <espalier/ops/linear.hpp>
#include <espalier/ops/mse.hpp>
#include <espalier/ops/pad.hpp>
#include <espalier/ops/place.hpp>
#include <espalier/ops/pool.hpp>
#include <espalier/ops/slice.hpp>
#include <espalier/regularizers/group_sparsity.hpp>
#include <espalier/regularizers/growing_l2.hpp>
#include <espalier/train/adam.hpp>
#include <espalier/train/ema.hpp>
#include <espalier/train/masks.hpp>
#include <espalier/train/sgd.hpp>

// Every op once on the device under test, forward and backward, beside the CPU: on shapes so small that the slowest
// checks (races on an emulated GPU, compute-sanitizer on a real one) end soon. The op's own tests say what is right.

using namespace espalier;
using namespace espalier::test;

namespace {

template <class T> using Op = std::function<Var<T>(std::vector<Var<T>>&)>;

template <class T> using Draw = Tensor<T> (*)(const Shape&, const char*);

template <class T>
std::vector<Tensor<T>> run_on(Device device, const Op<T>& op, const std::vector<Shape>& shapes,
                              Draw<T> draw = random_tensor<T>) {
    std::vector<Var<T>> x;
    for (std::size_t i = 0; i < shapes.size(); ++i)
        x.push_back(parameter(draw(shapes[i], join_text("x", i).c_str()).to(device)));
    const Var<T> y = op(x);
    y.backward(draw(y.shape(), "dy").to(device));
    std::vector<Tensor<T>> results{y.value()};
    for (const Var<T>& v : x) results.push_back(v.grad().defined() ? v.grad() : zeros_like(v.value()));
    return results;
}
// A relative error of 64 roundings, for sums of up to some hundred terms of about 1 in other orders.
template <class T> void same_as_cpu(const char* name, const std::vector<Shape>& shapes, const Op<T>& op) {
    CAPTURE(name);
    const auto expected = run_on<T>(Device::cpu, op, shapes), got = run_on<T>(device_under_test(), op, shapes);
    for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        check_close(got[i], expected[i].template cast<double>(), 64);
    }
}

} // namespace

TEST_CASE_TEMPLATE("every op on the device as on the CPU: elements", T, float, double) {
    const auto check = [](const char* name, const std::vector<Shape>& shapes, const Op<T>& op) {
        same_as_cpu<T>(name, shapes, op);
    };
    const Shape map{2, 3, 3, 5};
    check("add", {map, {5}}, [](auto& v) { return v[0] + v[1]; });
    check("sub", {map, {3, 1, 5}}, [](auto& v) { return v[0] - v[1]; });
    check("mul", {map, {1}}, [](auto& v) { return v[0] * v[1]; });
    check("scale", {map}, [](auto& v) { return 0.3 * v[0]; });
    check("relu", {map}, [](auto& v) { return relu(v[0]); });
    check("relu6", {map}, [](auto& v) { return relu6(10 * v[0]); });
    check("sigmoid", {map}, [](auto& v) { return sigmoid(v[0]); });
    check("tanh", {map}, [](auto& v) { return tanh(v[0]); });
    check("exp", {map}, [](auto& v) { return exp(v[0]); });
    check("log", {map}, [](auto& v) { return log(exp(v[0])); });
    check("abs", {map}, [](auto& v) { return abs(v[0]); });
    check("sqrt", {map}, [](auto& v) { return sqrt(exp(v[0])); });
    check("sum", {map}, [](auto& v) { return sum(v[0], {1, 2}); });
    check("mean", {{2, 40, 3}}, [](auto& v) { return mean(v[0]); });
    for (const Norm kind : {Norm::l1, Norm::l2, Norm::squared_l2})
        check("norm", {map}, [kind](auto& v) { return norm(v[0], {0, 1, 2}, kind); });
    check("mse", {map, map}, [](auto& v) { return mse(v[0], v[1]); });
    check("softmax", {{3, 7}}, [](auto& v) { return softmax(v[0]); });
    check("cross_entropy", {{3, 7}}, [](auto& v) {
        const auto labels = Tensor<Index>::from({3}, {6, 0, 2}, v[0].device());
        return cross_entropy(v[0], labels, {.label_smoothing = 0.1});
    });
    check("concat", {map, {2, 3, 3, 2}}, [](auto& v) { return concat({v[0], v[1]}, -1); });
    check("slice", {map}, [](auto& v) { return slice(v[0], 1, 0, 3, 2); });
    check("pad", {map}, [](auto& v) { return pad(v[0], {0, 1, 1, 2}, {0, 0, 1, 1}); });
    check("reshape", {map}, [](auto& v) { return flatten(v[0]); });
    check("dropout", {map}, [](auto& v) { return dropout(v[0], 0.4, Random(1, "dropout")); });
}

TEST_CASE_TEMPLATE("every op on the device as on the CPU: products", T, float, double) {
    const auto check = [](const char* name, const std::vector<Shape>& shapes, const Op<T>& op) {
        same_as_cpu<T>(name, shapes, op);
    };
    check("matmul", {{5, 7}, {7, 3}}, [](auto& v) { return matmul(v[0], v[1]); });
    check("linear", {{5, 7}, {3, 7}, {3}}, [](auto& v) { return linear(v[0], v[1], v[2]); });
    const auto conv = [&](const Shape& x, const Shape& w, const Conv2dOptions& o) {
        check("conv2d", {x, w, {w[0]}}, [o](auto& v) { return conv2d(v[0], v[1], v[2], o); });
    };
    conv({2, 5, 4, 3}, {5, 3, 3, 3}, {.padding = 1});
    conv({1, 6, 5, 3}, {4, 3, 3, 3}, {.stride = 2, .padding = 1});
    conv({1, 6, 6, 2}, {3, 3, 3, 2}, {.padding = 2, .dilation = 2});
    conv({1, 4, 4, 4}, {6, 3, 3, 2}, {.padding = 1, .groups = 2});
    conv({1, 5, 5, 4}, {4, 3, 3, 1}, {.stride = 2, .padding = 1, .groups = 4});
    conv({2, 3, 3, 5}, {7, 1, 1, 5}, {});
    const PathScope exact(Path::fixed_order);
    conv({1, 4, 4, 3}, {5, 3, 3, 3}, {.padding = 1});
    check("linear", {{5, 7}, {3, 7}, {3}}, [](auto& v) { return linear(v[0], v[1], v[2]); });
}

TEST_CASE_TEMPLATE("every product on the device as on the CPU: tensor cores", T, float) {
    const auto check = [](const std::vector<Shape>& shapes, const Op<T>& op) {
        const auto expected = run_on<T>(Device::cpu, op, shapes, whole_numbers);
        for (const MatmulPrecision precision : {MatmulPrecision::tf32, MatmulPrecision::bf16}) {
            const MatmulPrecisionScope scope(precision);
            const auto got = run_on<T>(device_under_test(), op, shapes, whole_numbers);
            for (std::size_t i = 0; i < expected.size(); ++i) CHECK(same_bits(got[i], expected[i])); // exact sums
        }
    };
    const auto conv = [&](const Shape& x, const Shape& w, const Conv2dOptions& o) {
        check({x, w, {w[0]}}, [o](auto& v) { return conv2d(v[0], v[1], v[2], o); });
    };
    conv({2, 5, 4, 3}, {5, 3, 3, 3}, {.padding = 1});
    conv({1, 6, 5, 8}, {12, 3, 3, 8}, {.stride = 2, .padding = 1});
    conv({1, 4, 4, 4}, {6, 3, 3, 2}, {.padding = 1, .groups = 2});
    conv({1, 3, 3, 40}, {72, 1, 1, 40}, {});
    check({{8, 12}, {4, 12}, {4}}, [](auto& v) { return linear(v[0], v[1], v[2]); });
}

TEST_CASE_TEMPLATE("every op on the device as on the CPU: maps", T, float, double) {
    const auto check = [](const char* name, const std::vector<Shape>& shapes, const Op<T>& op) {
        same_as_cpu<T>(name, shapes, op);
    };
    const Shape map{2, 4, 3, 5};
    for (const Mode mode : {Mode::training, Mode::inference})
        for (const Activation activation : {Activation::none, Activation::relu})
            check("batch_norm", {map, {5}, {5}}, [=](auto& v) {
                const Var<T> mean(Tensor<T>::full({5}, T(0.1), v[0].device()));
                const Var<T> variance(Tensor<T>::full({5}, T(0.7), v[0].device()));
                return batch_norm(v[0], v[1], v[2], mean, variance, {.mode = mode, .activation = activation});
            });
    check("batch_norm of a convolution", {map, {6, 3, 3, 5}, {6}, {6}}, [](auto& v) { // which adds up its moments
        const auto ones = [&] { return Var<T>(Tensor<T>::ones({6}, v[0].device())); };
        return batch_norm(conv2d(v[0], v[1], {.padding = 1}), v[2], v[3], ones(), ones());
    });
    check("max_pool2d", {map}, [](auto& v) { return max_pool2d(v[0], {.size = 3, .stride = 2, .padding = 1}); });
    check("avg_pool2d", {map}, [](auto& v) { return avg_pool2d(v[0], {.size = 2}); });
    check("adaptive_avg_pool2d", {map}, [](auto& v) { return adaptive_avg_pool2d(v[0], 2); });
    check("global_avg_pool", {map}, [](auto& v) { return global_avg_pool(v[0]); });
    check("global_max_pool", {map}, [](auto& v) { return global_max_pool(v[0]); });
    for (const Activation activation : {Activation::none, Activation::relu}) {
        check("join", {map, map},
              [=](auto& v) { return join(v[0], v[1], std::make_shared<JoinState<T>>(), activation); });
        check("indexed join", {map, {2, 4, 3, 2}, {5}}, [=](auto& v) {
            const auto state = std::make_shared<JoinState<T>>();
            state->kept = {1, 3};
            state->constant = v[2];
            return join(v[0], v[1], state, activation);
        });
    }
    check("place", {map}, [](auto& v) {
        const auto state = std::make_shared<JoinState<T>>();
        state->kept = {0, 2, 3, 5, 6};
        return place(v[0], state, 8, 2);
    });
    for (const FlowNorm kind : {FlowNorm::l1, FlowNorm::l2, FlowNorm::squared_l2})
        for (const FlowDifference difference : {FlowDifference::features, FlowDifference::branches})
            check("feature_flow", {map, map, map, {2, 2, 2, 7}, {2, 2, 2, 7}}, [=](auto& v) {
                return feature_flow<T>({{v[0], v[1], v[2]}, {v[3], v[4]}}, {.norm = kind, .difference = difference});
            });
}

TEST_CASE_TEMPLATE("every op on the device as on the CPU: batches", T, float, double) {
    ImageSet set{Tensor<std::uint8_t>({3, 8, 12, 3}), Tensor<Index>::from({3}, {2, 0, 1}), 3, "", {}};
    for (Index i = 0; i < set.images.size(); ++i)
        set.images.mutable_data()[i] = static_cast<std::uint8_t>(i * 37 % 256);
    for (const Index downscale : {1, 2}) {
        LoaderOptions options{.size = 2,
                              .augment = {.crop = 1, .flip = Flip::horizontal, .cutout = 2},
                              .normalize = measure(set),
                              .downscale = downscale};
        auto expected = Loader<T>(set, options).epoch(1);
        options.device = device_under_test();
        auto epoch = Loader<T>(set, options).epoch(1);
        auto batch = expected.begin();
        for (const auto& [images, labels] : epoch) {
            CHECK(same_bits(images, batch->images));
            CHECK(same_bits(labels, batch->labels));
            ++batch;
        }
    }
}

TEST_CASE_TEMPLATE("every op on the device as on the CPU: penalties of channels", T, float, double) {
    const std::vector<Shape> shapes{{4, 3, 3, 2}, {4}, {3, 2, 2, 4}};
    const auto channels = [](std::vector<Var<T>>& v) -> CoupledChannels<T> {
        return {.axes = {{v[0], 0, {0, 0, 1, 2}}, {v[1], 0, {0, 0, 1, -1}}, {v[2], 3, {0, 0, 1, 2}}, {v[2], 1, {3, 4}}},
                .group = {0, 0, 0, 1, 1}};
    };
    for (const Norm kind : {Norm::l1, Norm::l2, Norm::squared_l2}) {
        same_as_cpu<T>("channel_penalty", shapes, [=](auto& v) {
            return channel_penalty(channels(v), {0.5, 2, 1, 3, 0.25}, kind);
        });
        same_as_cpu<T>("group_sparsity", shapes, [=](auto& v) { return group_sparsity(channels(v), {.norm = kind}); });
    }
    same_as_cpu<T>("GrowingL2", shapes, [=](auto& v) { return GrowingL2<T>(channels(v), {.increment = 0.1})(25); });
}

TEST_CASE_TEMPLATE("every update on the device as on the CPU", T, float, double) {
    struct Weights : Module<T> {
        Var<T> weight = this->add_parameter("weight", random_tensor<T>({3, 5}, "w"));
    };
    const auto check = [](const auto& make) {
        std::vector<Tensor<T>> results;
        for (const Device device : {Device::cpu, device_under_test()}) {
            Weights model;
            model.to(device);
            const auto optimizer = make(model);
            Ema<T> averages(model, {.decay = 0.5});
            Masks<T> masks(model);
            auto kept = Tensor<std::uint8_t>::ones({3, 5});
            kept.set(0, 1, 2);
            masks.set({{{"weight", model.weight}, kept}});
            for (int step = 0; step < 3; ++step) {
                model.clear_grad();
                sum(exp(model.weight)).backward();
                optimizer->step();
                masks.apply(*optimizer);
                averages.update();
            }
            averages.swap();
            results.push_back(model.weight.value());
            averages.swap();
            results.push_back(model.weight.value());
            CHECK(model.weight.value().at(1, 2) == 0);
        }
        check_close(results[2], results[0].template cast<double>(), 16);
        check_close(results[3], results[1].template cast<double>(), 16);
    };
    for (const double momentum : {0.0, 0.9})
        check([=](Module<T>& m) {
            return std::make_unique<Sgd<T>>(m, SgdOptions{.momentum = momentum, .weight_decay = 0.1});
        });
    check([](Module<T>& m) {
        return std::make_unique<Sgd<T>>(m, SgdOptions{.momentum = 0.9, .form = Momentum::nesterov});
    });
    check([](Module<T>& m) { return std::make_unique<Adam<T>>(m, AdamOptions{.weight_decay = 0.1}); });
}
