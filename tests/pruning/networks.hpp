#pragma once

#include "support/check.hpp"

#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/channel_split.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/join.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/activation.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/ops/concat.hpp>
#include <espalier/ops/pool.hpp>
#include <espalier/ops/reshape.hpp>

#include <memory>
#include <string>
#include <utility>

// Small networks, one for each way in which channels can be coupled.

namespace espalier::test {

template <class T>
Conv2d<T> convolution(Index in, Index out, Index size = 3, Index groups = 1, Bias bias = Bias::none) {
    return Conv2d<T>({.in = in, .out = out, .size = size, .padding = size / 2, .groups = groups, .bias = bias});
}

/// Gives every parameter and buffer a value of its own, as training would: shifts and means that are not zero above
/// all.
template <class T> void shake(const Module<T>& model) {
    for (const auto& list : {model.parameters(), model.buffers()})
        for (const auto& [name, var] : list) {
            Var<T> v = var;
            const bool positive = name.ends_with("running_var") || name.ends_with("gamma");
            v.set_value(uniform<T>(v.shape(), Random(5, name), positive ? 0.5 : -0.5, positive ? 1.5 : 0.5));
        }
}

template <class T> struct ConvBn : Module<T> {
    ConvBn(Index in, Index out, Index size = 3, Index groups = 1)
        : conv(this->child("conv", convolution<T>(in, out, size, groups))),
          bn(this->child("bn", BatchNorm<T>({.channels = out}))) {}
    Var<T> forward(const Var<T>& x, Activation activation = Activation::relu) const {
        return bn.forward(conv.forward(x), activation);
    }
    Conv2d<T> conv;
    BatchNorm<T> bn;
};

/// conv-bn-relu twice, pooling, classifier; the second convolution has a bias as well.
template <class T> struct Chain : Module<T> {
    ConvBn<T> a = this->child("a", ConvBn<T>(3, 8));
    Conv2d<T> b = this->child("b", convolution<T>(8, 6, 3, 1, Bias::learned));
    BatchNorm<T> b_bn = this->child("b_bn", BatchNorm<T>({.channels = 6}));
    Linear<T> head = this->child("head", Linear<T>({.in = 6, .out = 4}));
    Var<T> forward(const Var<T>& x) {
        return head.forward(global_avg_pool(b_bn.forward(b.forward(a.forward(x)), Activation::relu)));
    }
};

template <class T> struct Block : Module<T> {
    Block(Index width, Index inner)
        : a(this->child("a", ConvBn<T>(width, inner))), b(this->child("b", ConvBn<T>(inner, width))),
          join(this->child("join", Join<T>())) {}
    Var<T> forward(const Var<T>& x) const {
        return join.forward(x, b.forward(a.forward(x), Activation::none), Activation::relu);
    }
    ConvBn<T> a, b;
    Join<T> join;
};

/// Three blocks with identity shortcuts: one stream.
template <class T> struct Residual : Module<T> {
    ConvBn<T> stem = this->child("stem", ConvBn<T>(3, 8));
    Block<T> one = this->child("one", Block<T>(8, 6)), two = this->child("two", Block<T>(8, 6)),
             three = this->child("three", Block<T>(8, 6));
    Linear<T> head = this->child("head", Linear<T>({.in = 8, .out = 4}));
    Var<T> forward(const Var<T>& x) {
        return head.forward(global_avg_pool(three.forward(two.forward(one.forward(stem.forward(x))))));
    }
};

/// A concat of a tensor with itself, one of concats, and batch norm over it.
template <class T> struct Concats : Module<T> {
    ConvBn<T> a = this->child("a", ConvBn<T>(3, 5)), b = this->child("b", ConvBn<T>(3, 4));
    BatchNorm<T> bn = this->child("bn", BatchNorm<T>({.channels = 14}));
    ConvBn<T> c = this->child("c", ConvBn<T>(14, 6));
    Linear<T> head = this->child("head", Linear<T>({.in = 6, .out = 4}));
    Var<T> forward(const Var<T>& x) {
        const Var<T> left = a.forward(x), twice = concat<T>({left, left}, -1);
        return head.forward(
            global_avg_pool(c.forward(bn.forward(concat<T>({twice, b.forward(x)}, -1), Activation::relu))));
    }
};

/// Depthwise, then pointwise.
template <class T> struct Depthwise : Module<T> {
    ConvBn<T> stem = this->child("stem", ConvBn<T>(3, 6)), depth = this->child("depth", ConvBn<T>(6, 6, 3, 6)),
              point = this->child("point", ConvBn<T>(6, 8, 1));
    Linear<T> head = this->child("head", Linear<T>({.in = 8, .out = 4}));
    Var<T> forward(const Var<T>& x) {
        return head.forward(global_avg_pool(point.forward(depth.forward(stem.forward(x)))));
    }
};

/// A convolution in two groups, which lose the same channels.
template <class T> struct Grouped : Module<T> {
    ConvBn<T> stem = this->child("stem", ConvBn<T>(3, 4)), grouped = this->child("grouped", ConvBn<T>(4, 6, 3, 2)),
              last = this->child("last", ConvBn<T>(6, 5));
    Linear<T> head = this->child("head", Linear<T>({.in = 5, .out = 4}));
    Var<T> forward(const Var<T>& x) {
        return head.forward(global_avg_pool(last.forward(grouped.forward(stem.forward(x)))));
    }
};

/// Flattened maps of 4 x 4 pixels into a linear layer.
template <class T> struct Flattened : Module<T> {
    ConvBn<T> a = this->child("a", ConvBn<T>(3, 6));
    Linear<T> hidden = this->child("hidden", Linear<T>({.in = 96, .out = 10})),
              head = this->child("head", Linear<T>({.in = 10, .out = 4}));
    Var<T> forward(const Var<T>& x) { return head.forward(relu(hidden.forward(flatten(a.forward(x))))); }
};

/// Squeeze and excitation: channels multiplied by a weight that is broadcast over pixels, and by one number an image.
template <class T> struct Excited : Module<T> {
    ConvBn<T> a = this->child("a", ConvBn<T>(3, 6));
    Linear<T> squeeze = this->child("squeeze", Linear<T>({.in = 6, .out = 3})),
              excite = this->child("excite", Linear<T>({.in = 3, .out = 6})),
              gate = this->child("gate", Linear<T>({.in = 3, .out = 1}));
    ConvBn<T> b = this->child("b", ConvBn<T>(6, 5));
    Linear<T> head = this->child("head", Linear<T>({.in = 5, .out = 4}));
    Var<T> forward(const Var<T>& x) {
        const Var<T> y = a.forward(x), small = relu(squeeze.forward(global_avg_pool(y)));
        const Var<T> weight = reshape(tanh(excite.forward(small)), Shape{x.size(0), 1, 1, y.size(-1)});
        const Var<T> factor = reshape(tanh(gate.forward(small)), Shape{x.size(0), 1, 1, 1});
        return head.forward(global_avg_pool(b.forward(mul(mul(y, weight), factor))));
    }
};

/// A convolution with one filter in the middle.
template <class T> struct OneFilter : Module<T> {
    ConvBn<T> a = this->child("a", ConvBn<T>(3, 1)), b = this->child("b", ConvBn<T>(1, 6));
    Linear<T> head = this->child("head", Linear<T>({.in = 6, .out = 4}));
    Var<T> forward(const Var<T>& x) { return head.forward(global_avg_pool(b.forward(a.forward(x)))); }
};

/// One convolution used twice.
template <class T> struct Shared : Module<T> {
    ConvBn<T> stem = this->child("stem", ConvBn<T>(3, 6)), again = this->child("again", ConvBn<T>(6, 6));
    Linear<T> head = this->child("head", Linear<T>({.in = 6, .out = 4}));
    Var<T> forward(const Var<T>& x) {
        return head.forward(global_avg_pool(again.forward(again.forward(stem.forward(x)))));
    }
};

/// Two images and five numbers; two answers.
template <class T> struct Several : Module<T> {
    ConvBn<T> a = this->child("a", ConvBn<T>(3, 6)), b = this->child("b", ConvBn<T>(1, 6)),
              c = this->child("c", ConvBn<T>(6, 5));
    Linear<T> numbers = this->child("numbers", Linear<T>({.in = 5, .out = 6})),
              classes = this->child("classes", Linear<T>({.in = 11, .out = 4})),
              side = this->child("side", Linear<T>({.in = 6, .out = 2}));
    std::pair<Var<T>, Var<T>> forward(const Var<T>& x, const Var<T>& large, const Var<T>& row) {
        const Var<T> y = global_avg_pool(b.forward(large)) + relu(numbers.forward(row));
        return {classes.forward(concat({global_avg_pool(c.forward(a.forward(x))), y}, -1)), side.forward(y)};
    }
};

/// A split into two ways, one of which is split again into a map and its gate; all of it is put together again.
template <class T> struct Divided : Module<T> {
    ConvBn<T> stem = this->child("stem", ConvBn<T>(3, 12));
    ChannelSplit<T> ways = this->child("ways", ChannelSplit<T>({4, 8})),
                    gated = this->child("gated", ChannelSplit<T>({4, 4}));
    ConvBn<T> a = this->child("a", ConvBn<T>(4, 5)), b = this->child("b", ConvBn<T>(9, 6));
    Linear<T> head = this->child("head", Linear<T>({.in = 6, .out = 4}));
    Var<T> forward(const Var<T>& x) {
        const auto parts = ways.forward(stem.forward(x));
        const auto halves = gated.forward(parts[1]);
        const Var<T> y = concat<T>({a.forward(parts[0]), halves[0] * tanh(halves[1])}, -1);
        return head.forward(global_avg_pool(b.forward(y)));
    }
};

/// An op of somebody who did not say how channels pass through it.
template <class T> Var<T> undeclared_op(const Var<T>& x) {
    return record<T>("mystery", x.value().clone(), {x}, ChannelRule(),
                     [](const Tensor<T>& dy, const Inputs<T>& input) { input[0].add_grad(dy); });
}
template <class T> struct Undeclared : Module<T> {
    ConvBn<T> a = this->child("a", ConvBn<T>(3, 6)), b = this->child("b", ConvBn<T>(6, 5));
    Linear<T> head = this->child("head", Linear<T>({.in = 5, .out = 4}));
    Var<T> forward(const Var<T>& x) { return head.forward(global_avg_pool(b.forward(undeclared_op(a.forward(x))))); }
};

} // namespace espalier::test
