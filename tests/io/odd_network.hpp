#pragma once

#include "pruning/networks.hpp"

#include <espalier/ops/adaptive_pool.hpp>
#include <espalier/ops/pad.hpp>
#include <espalier/ops/slice.hpp>
#include <espalier/ops/softmax.hpp>

namespace espalier::test {

/// Slices, paddings, strides, pools and arithmetic that the models of the library don't use.
template <class T> struct Odd : Module<T> {
    Conv2d<T> dilated =
                  this->child("dilated", Conv2d<T>({.in = 3, .out = 7, .stride = 2, .padding = 2, .dilation = 2})),
              grouped = this->child("grouped", Conv2d<T>({.in = 4, .out = 6, .padding = 1, .groups = 2})),
              depth = this->child("depth", Conv2d<T>({.in = 6, .out = 6, .size = 3, .padding = 2, .groups = 6}));
    BatchNorm<T> alone = this->child("alone", BatchNorm<T>({.channels = 10}));
    Linear<T> head = this->child("head", Linear<T>({.in = 24, .out = 5, .bias = Bias::none}));
    Var<T> table = this->add_parameter("table", random_tensor<T>({4, 1}));
    Var<T> forward(const Var<T>& x) {
        Var<T> y = dilated.forward(x);                                                    // [5,6,7]
        const Var<T> left = slice(y, -1, 0, 4), right = slice(y, -1, 1, 7, 2);            // 4 and 3 channels
        y = concat({grouped.forward(sigmoid(left) - tanh(left)), slice(y, 3, 2, 6)}, -1); // 10
        y = relu(alone.forward(max_pool2d(y, {.size = 3, .stride = 2, .padding = 1}), Activation::none)); // [3,3,10]
        y = relu6(depth.forward(slice(y, -1, 3, 9)) * 40);                                                // [5,5,6]
        y = pad(y, {0, 1, 0, 0}, {0, 0, 2, 0}, -0.25);                                                    // [6,7,6]
        y = avg_pool2d(y, {.size = 2, .stride = 2, .padding = 1});                                        // [4,4,6]
        y = adaptive_avg_pool2d(concat({y, y, slice(y, 2, 0, 1)}, 2), 4);          // [4,9,6]: uneven windows
        y = adaptive_avg_pool2d(slice(adaptive_avg_pool2d(y, 6), 1, 1, 5), 4) + y; // repeated pixels
        y = mul(y, sqrt(abs(table)));                                              // broadcast along columns
        const Var<T> peak = global_max_pool(exp(y)), rows = mean(y, {2}), all = sum(y, {1, 2, 3}, Keep::yes);
        y = concat({rows, log(reshape(peak, {x.size(0), 1, 6}))}, 1); // [5,6]
        y = slice(y, 1, 1, 5) + reshape(scale(all, 0.01), {x.size(0), 1, 1});
        const Var<T> share = softmax(scale(head.forward(flatten(y)), 10));
        return share * reshape(mean(right, {1, 2, 3}), {x.size(0), 1});
    }
};

template <class T> void empty_batch_norm(BatchNorm<T>& bn) {
    for (Var<T>* v : {&bn.gamma, &bn.beta, &bn.running_mean, &bn.running_var}) v->set_value(Tensor<T>({0}));
}

/// Takes all filters from the end of a branch, as surgery may; the constant of its indexed join stays.
template <class T> void empty_branch(Block<T>& block) {
    const Index stream = block.b.conv.weight.size(0), inner = block.b.conv.weight.size(3);
    block.join.state()->kept.clear();
    block.join.state()->constant.set_value(random_tensor<T>({stream}));
    block.b.conv.weight.set_value(Tensor<T>::zeros({0, 3, 3, inner}));
    empty_batch_norm(block.b.bn);
}

/// Takes all filters from a network that has no branch, as surgery never does.
template <class T> void empty_map(OneFilter<T>& model) {
    model.a.conv.weight.set_value(Tensor<T>({0, 3, 3, 3}));
    empty_batch_norm(model.a.bn);
    model.b.conv.weight.set_value(Tensor<T>({6, 3, 3, 0}));
}

} // namespace espalier::test
