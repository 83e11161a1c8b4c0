#pragma once

#include "support/check.hpp"

#include <espalier/models/model.hpp>

#include <set>
#include <string>

// What the tests of every model ask.

namespace espalier::test {

/// Multiply-adds of convolutions and linear layers for one image, from the recorded graph.
template <class T> Index multiply_adds(const Var<T>& logits) {
    Index macs = 0;
    for (const auto& node : topological_order(logits.node()))
        if (const int weight = node->rule.weight(); weight >= 0)
            macs += node->rule.positions() * node->inputs[static_cast<std::size_t>(weight)]->shape.size();
    return macs;
}

/// Logits have the right shape, every parameter that has elements gets a finite gradient, names are unique, copies are
/// handles, the seed alone decides the weights, and inference changes nothing.
template <class M> void check_model(M model, M twin, M other_seed, const Shape& batch) {
    using T = typename M::Scalar;
    const Var<T> x(random_tensor<T>(batch));
    const models::Output<T> out = model.forward(x);
    CHECK(out.logits.shape() == Shape{batch[0], model.options().classes});
    out.logits.backward(uniform<T>(out.logits.shape(), Random(7, "cotangent"), -1, 1));

    std::set<std::string> names;
    Index elements = 0;
    bool differs = false;
    for (const NamedVar<T>& named : model.parameters()) {
        const std::string& name =
            named.name; // clang 14 captures no structured bindings, and doctest's messages are lambdas
        const Var<T>& var = named.var;
        CHECK_MESSAGE(names.insert(name).second, name);
        CHECK(same_bits(var.value(), twin.find(name).value()));
        differs = differs || !same_bits(var.value(), other_seed.find(name).value());
        elements += var.size();
        if (var.size() == 0) continue;
        REQUIRE_MESSAGE(var.grad().defined(), name);
        double largest = 0;
        bool finite = true;
        for (const T g : var.grad()) {
            finite = finite && std::isfinite(g);
            largest = std::max(largest, static_cast<double>(std::abs(g)));
        }
        CHECK_MESSAGE(finite, name);
        CHECK_MESSAGE(largest > 0, name);
    }
    for (const NamedVar<T>& buffer : model.buffers()) CHECK_MESSAGE(names.insert(buffer.name).second, buffer.name);
    CHECK(differs);
    CHECK(elements == model.parameter_count());

    M copy = model;
    CHECK(copy.parameters()[0].var.node() == model.parameters()[0].var.node());
    copy.eval();
    std::vector<Tensor<T>> before;
    for (const auto& [name, var] : model.buffers()) before.push_back(var.value().clone());
    const Tensor<T> answer = model.forward(x).logits.value();
    CHECK(same_bits(answer, model.forward(x).logits.value()));
    for (std::size_t i = 0; i < before.size(); ++i) CHECK(same_bits(before[i], model.buffers()[i].var.value()));
}

/// The same bits after forward and backward with 1 and 2 threads: logits, all gradients, all buffers.
template <class Make> void check_model_repeatable(const Make& make, const Shape& batch) {
    check_repeatable([&] {
        auto model = make();
        using T = typename decltype(model)::Scalar;
        const auto out = model.forward(Var<T>(random_tensor<T>(batch)));
        out.logits.backward(uniform<T>(out.logits.shape(), Random(7, "cotangent"), -1, 1));
        std::vector<Tensor<T>> all{out.logits.value()};
        for (const auto& [name, var] : model.parameters())
            if (var.grad().defined()) all.push_back(var.grad());
        for (const auto& [name, var] : model.buffers()) all.push_back(var.value());
        return all;
    });
}

} // namespace espalier::test
