#include "support/check.hpp"
#include "support/golden.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/ops/cross_entropy.hpp>
#include <espalier/train/adam.hpp>
#include <espalier/train/schedule.hpp>
#include <espalier/train/sgd.hpp>

// Values that PyTorch computed in double (tools/golden.py), which these tests ask for in float and double.

using namespace espalier;
using namespace espalier::test;

namespace {

Tensor<double> expected(const std::string& name) { return golden("pytorch").get<double>(name); }
template <class T> Tensor<T> value(const std::string& name) { return golden("pytorch").get_converted<T>(name); }
template <class T> Var<T> operand(const std::string& name) { return parameter(value<T>(name)); }

/// Inputs are rounded to T, so results differ by the rounding of each of their terms: up to 200 of size 10 here.
constexpr double rounded_terms = 256;

/// Backward from y with the golden cotangent; y and the gradient of each operand are the golden ones.
template <class T>
void check_golden(const std::string& name, const Var<T>& y,
                  const std::vector<std::pair<const char*, Var<T>>>& operands) {
    check_close(y.value(), expected(name + ".y"), rounded_terms);
    y.backward(value<T>(name + ".dy"));
    for (const auto& operand : operands) { // no structured binding: clang 14's lambdas can't capture one
        CAPTURE(name);
        CAPTURE(operand.first);
        check_close(operand.second.grad(), expected(name + ".d" + operand.first), rounded_terms);
    }
}

} // namespace

TEST_CASE_TEMPLATE("golden: conv2d", T, float, double) {
    for (const char* which : {"plain", "strided", "dilated", "grouped", "depthwise", "pointwise", "even"}) {
        const std::string name = std::string("conv2d.") + which;
        CAPTURE(name);
        const Tensor<Index> o = golden("pytorch").get<Index>(name + ".options");
        const auto x = operand<T>(name + ".x"), w = operand<T>(name + ".w"), b = operand<T>(name + ".b");
        const Conv2dOptions options{.stride = o.at(0), .padding = o.at(1), .dilation = o.at(2), .groups = o.at(3)};
        check_golden<T>(name, conv2d(x, w, b, options), {{"x", x}, {"w", w}, {"b", b}});
    }
}

TEST_CASE_TEMPLATE("golden: batch_norm", T, float, double) {
    for (const Mode mode : {Mode::training, Mode::inference}) {
        const std::string name = mode == Mode::training ? "batch_norm.training" : "batch_norm.inference";
        CAPTURE(name);
        const auto x = operand<T>(name + ".x"), gamma = operand<T>(name + ".gamma"), beta = operand<T>(name + ".beta");
        const Var<T> mean(value<T>(name + ".mean_before")), var(value<T>(name + ".var_before"));
        const auto y = batch_norm(x, gamma, beta, mean, var, {.mode = mode, .momentum = 0.3, .epsilon = 1e-3});
        check_golden<T>(name, y, {{"x", x}, {"gamma", gamma}, {"beta", beta}});
        check_close(mean.value(), expected(name + ".mean_after"));
        check_close(var.value(), expected(name + ".var_after"));
    }
}

TEST_CASE_TEMPLATE("golden: cross_entropy", T, float, double) {
    for (const double smoothing : {0.0, 0.1}) {
        const std::string name = smoothing > 0 ? "cross_entropy.smooth" : "cross_entropy.hard";
        CAPTURE(name);
        const auto logits = operand<T>(name + ".logits");
        const auto loss =
            cross_entropy(logits, golden("pytorch").get<Index>(name + ".labels"), {.label_smoothing = smoothing});
        check_golden<T>(name, loss, {{"logits", logits}});
    }
}

TEST_CASE_TEMPLATE("golden: sgd, adam and adamw, six steps each", T, float, double) {
    const auto check = [](const std::string& name, const auto& make) {
        CAPTURE(name);
        const Var<T> p = operand<T>(name + ".start");
        const auto optimizer = make(std::vector<NamedVar<T>>{{"p", p}});
        const Tensor<T> g = value<T>(name + ".gradients");
        const Tensor<double> after = expected(name + ".after");
        for (Index step = 0; step < g.size(0); ++step) {
            optimizer->clear_grad();
            p.node()->add_grad(g.rows(step, step + 1).reshape(p.shape()));
            optimizer->step();
            check_close(p.value(), after.rows(step, step + 1).reshape(p.shape()), 64); // ten roundings a step
        }
    };
    const auto sgd = [](const SgdOptions& options) {
        return [=](const auto& parameters) { return std::make_unique<Sgd<T>>(parameters, options); };
    };
    const auto adam = [](const AdamOptions& options) {
        return [=](const auto& parameters) { return std::make_unique<Adam<T>>(parameters, options); };
    };
    check("sgd.plain", sgd({.learning_rate = 0.1}));
    check("sgd.momentum", sgd({.learning_rate = 0.1, .momentum = 0.9}));
    check("sgd.nesterov",
          sgd({.learning_rate = 0.1, .momentum = 0.9, .form = Momentum::nesterov, .weight_decay = 0.05}));
    check("adam.plain", adam({.learning_rate = 0.1}));
    check("adam.decay",
          adam({.learning_rate = 0.01, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-4, .weight_decay = 0.05}));
    check("adamw", adam({.learning_rate = 0.01,
                         .beta1 = 0.8,
                         .beta2 = 0.95,
                         .epsilon = 1e-4,
                         .form = DecayForm::decoupled,
                         .weight_decay = 0.5}));
}

TEST_CASE("golden: schedules") {
    const auto check = [](const char* name, const Schedule& schedule) {
        CAPTURE(name);
        const Tensor<double> rates = expected(std::string("schedules.") + name);
        for (Index step = 0; step < rates.size(); ++step)
            CHECK(schedule(step) == doctest::Approx(rates.at(step)).epsilon(1e-12)); // PyTorch's cosine is recursive
    };
    check("multi_step", schedules::multi_step({.learning_rate = 0.5, .milestones = {3, 7}, .factor = 0.2}));
    check("cosine", schedules::cosine({.learning_rate = 0.5, .steps = 12, .last = 0.01}));
    check("one_cycle", schedules::one_cycle({.learning_rate = 0.5, .steps = 12}));
}

TEST_CASE_TEMPLATE("golden: twenty training steps of ResNet-20 have PyTorch's losses", T, float, double) {
    const std::string prefix = "resnet20.";
    auto net = models::resnet20<T>({.classes = 10});
    for (auto& [name, var] : net.parameters()) {
        const std::string last = name.substr(name.find_last_of('.') + 1);
        if (last == "gamma" || last == "beta" || last == "constant") continue; // start at 1, 0 and empty on both sides
        const double scale = expected(prefix + name + ".scale").item();
        Tensor<T> weight = golden("pytorch").get<std::uint8_t>(prefix + name).template cast<T>();
        for (Index i = 0; i < weight.size(); ++i)
            weight.mutable_data()[i] = (weight.data()[i] - T(128)) * static_cast<T>(scale);
        REQUIRE(weight.shape() == var.shape());
        var.set_value(weight);
    }
    Tensor<T> images = golden("pytorch").get<std::uint8_t>(prefix + "images").template cast<T>();
    for (Index i = 0; i < images.size(); ++i) images.mutable_data()[i] = (images.data()[i] - T(128)) / T(64);
    const Tensor<Index> labels = golden("pytorch").get<Index>(prefix + "labels");
    // Rounding grows from step to step, in PyTorch as here, so float follows the run of a small rate (tools/golden.py).
    const bool single = std::is_same_v<T, float>;
    const std::string run = prefix + (single ? "gentle" : "usual");
    const double tolerance = single ? 1e-4 : 1e-10;
    const Tensor<double> losses = expected(run + ".losses");
    const double rate = expected(run + ".rate").item();

    Sgd<T> sgd(net, {.learning_rate = rate, .momentum = 0.9, .form = Momentum::nesterov, .weight_decay = 5e-4});
    REQUIRE(losses.size() == 20);
    const Index size = golden("pytorch").get<Index>(run + ".size").item();
    for (Index step = 0; step < losses.size(); ++step) {
        const Index first = step * size % images.size(0);
        const auto loss = cross_entropy(net.forward(Var<T>(images.rows(first, first + size))).logits,
                                        labels.rows(first, first + size));
        net.clear_grad();
        loss.backward();
        sgd.step();
        CAPTURE(step);
        CHECK(std::abs(static_cast<double>(loss.item()) / losses.at(step) - 1) < tolerance);
    }
    net.eval();
    const double evaluated = static_cast<double>(cross_entropy(net.forward(Var<T>(images)).logits, labels).item());
    CHECK(std::abs(evaluated / expected(run + ".evaluated").item() - 1) < tolerance);
}
