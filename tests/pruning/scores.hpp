#pragma once

#include "networks.hpp"

#include <espalier/pruning/criterion.hpp>

namespace espalier::test {

/// What a criterion gives the channels of one group, for images [4,4,C].
template <class M, class C>
std::vector<double> scores(M& model, const C& criterion, const std::string& group, Index channels = 3,
                           pruning::Joins joins = pruning::Joins::coupled) {
    using T = typename M::Scalar;
    const auto graph = pruning::channel_graph(model, {4, 4, channels}, joins);
    const auto score = pruning::Criterion<T>(criterion).prepare(graph);
    for (const auto& g : graph.groups())
        if (g.name == group) {
            std::vector<double> all;
            for (const auto& channel : g.channels) all.push_back(score(channel));
            return all;
        }
    FAIL("no group ", group);
    return {};
}

/// The text of what `f` throws.
template <class F> std::string error_of(const F& f) {
    try {
        f();
    } catch (const Error& error) {
        return error.what();
    }
    return "nothing thrown";
}

template <class T> void fill_filter(Var<T> weight, Index k, T value) {
    const Index inner = weight.size() / weight.size(0);
    std::fill_n(weight.mutable_value().mutable_data() + k * inner, inner, value);
}

/// Scores of all groups under every criterion of a list, as tensors: for `check_repeatable`.
template <class M> std::vector<Tensor<double>> all_scores(M& model, const pruning::Criterion<typename M::Scalar>& c) {
    const auto graph = pruning::channel_graph(model, {4, 4, 3});
    const auto score = c.prepare(graph);
    std::vector<double> all;
    for (const auto& g : graph.groups())
        for (const auto& channel : g.channels) all.push_back(score(channel));
    return {Tensor<double>::from({static_cast<Index>(all.size())}, all)};
}

/// A 1x1 convolution by 1, -1 and 0, relu, a 1x1 convolution by 2, -3 and 1, global pooling over 2x2 pixels.
template <class T> struct ByHand : Module<T> {
    Conv2d<T> a = this->child("a", convolution<T>(1, 3, 1)), b = this->child("b", convolution<T>(3, 2, 1));
    ByHand() {
        a.weight.set_value(Tensor<T>::from({3, 1, 1, 1}, {1, -1, 0}));
        b.weight.set_value(Tensor<T>::from({2, 1, 1, 3}, {2, -3, 1, 0, 0, 0}));
    }
    Var<T> forward(const Var<T>& x) { return global_avg_pool(b.forward(relu(a.forward(x)))); }
};
template <class T> const Tensor<T> image_1 = Tensor<T>::from({1, 2, 2, 1}, {1, -2, 3, 4});
template <class T> const Tensor<T> image_2 = Tensor<T>::from({1, 2, 2, 1}, {1, 1, 1, 1});
template <class T> const Tensor<T> both_images = Tensor<T>::from({2, 2, 2, 1}, {1, -2, 3, 4, 1, 1, 1, 1});

} // namespace espalier::test
