// Prune a network of your own: one written in this file, with a block and an op that the library has never seen.
//
//     prune_your_own
//
// Nothing in the network says how it is to be pruned. docs/surgery.md#a-network-of-your-own walks through it.

#include <espalier/autograd/var.hpp>
#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/join.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/ops/activation.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/ops/pool.hpp>
#include <espalier/ops/reshape.hpp>
#include <espalier/pruning/criteria.hpp>
#include <espalier/pruning/latency.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>

#include <algorithm>
#include <iostream>

namespace es = espalier;
using Var = es::Var<float>;
using Tensor = es::Tensor<float>;

/// An op: y = x relu6(x + 3) / 6, element by element ("hard swish"). `ChannelRule::same()` is all that pruning asks of
/// it.
static Var hard_swish(const Var& x) {
    const Tensor input = x.value();
    Tensor y = es::empty_like(input);
    for (es::Index i = 0; i < y.size(); ++i) {
        const float v = input.data()[i];
        y.mutable_data()[i] = v * std::clamp(v + 3, 0.0f, 6.0f) / 6;
    }
    return es::record<float>("hard_swish", y, {x}, es::ChannelRule::same(),
                             [input](const Tensor& dy, const es::Inputs<float>& in) {
                                 Tensor dx = es::empty_like(input);
                                 for (es::Index i = 0; i < dx.size(); ++i) {
                                     const float v = input.data()[i];
                                     const float slope = v <= -3 ? 0 : v >= 3 ? 1 : (2 * v + 3) / 6;
                                     dx.mutable_data()[i] = slope * dy.data()[i];
                                 }
                                 in[0].add_grad(std::move(dx));
                             });
}

static es::Conv2d<float> convolution(es::Index in, es::Index out, es::Index stream) {
    return es::Conv2d<float>({.in = in, .out = out, .size = 3, .padding = 1, .bias = es::Bias::none},
                             es::Random(1, "layer").substream(static_cast<std::uint64_t>(stream)));
}

/// A block: two convolutions, a gate that weighs channels by what the whole map says (squeeze and excitation), and the
/// input added to it.
struct GatedBlock : es::Module<float> {
    GatedBlock(es::Index width, es::Index stream)
        : a(child("a", convolution(width, width, stream))), b(child("b", convolution(width, width, stream + 1))) {}

    Var forward(const Var& x) const {
        const Var y = b_bn.forward(b.forward(hard_swish(a_bn.forward(a.forward(x)))));
        const Var gate = es::tanh(excite.forward(hard_swish(squeeze.forward(es::global_avg_pool(y)))));
        return join.forward(x, y * es::reshape(gate, {x.size(0), 1, 1, gate.size(1)}));
    }

    es::Conv2d<float> a, b;
    es::BatchNorm<float> a_bn = child("a_bn", es::BatchNorm<float>({.channels = a.weight.size(0)})),
                         b_bn = child("b_bn", es::BatchNorm<float>({.channels = b.weight.size(0)}));
    es::Linear<float> squeeze = child("squeeze", es::Linear<float>({.in = b.weight.size(0), .out = 8})),
                      excite = child("excite", es::Linear<float>({.in = 8, .out = b.weight.size(0)}));
    es::Join<float> join = child("join", es::Join<float>());
};

struct Network : es::Module<float> {
    es::Conv2d<float> stem = child("stem", convolution(3, 64, 0));
    GatedBlock one = child("one", GatedBlock(64, 1)), two = child("two", GatedBlock(64, 3));
    es::Linear<float> head = child("head", es::Linear<float>({.in = 64, .out = 10}));

    Var forward(const Var& x) { // [N,H,W,3] -> [N,10]
        return head.forward(es::global_avg_pool(two.forward(one.forward(hard_swish(stem.forward(x))))));
    }
};

int main() {
    try {
        Network net; // train it here
        const es::Shape image{32, 32, 3};
        const es::Latency before = es::measure_latency(net, image);

        const auto plan = es::pruning::plan(net, image, {.criterion = es::FilterNorm{}, .keep_macs = 0.5});
        std::cout << to_text(plan);
        const auto cut = es::pruning::apply(plan, net); // optimizers and averages follow: apply(plan, net, &optimizer)
        std::cout << to_text(cut.certificate) << "\n";

        const es::Latency after = es::measure_latency(net, image); // and fine-tune it here
        std::cout << "milliseconds an image: " << before.median << " before (" << before.lowest << " to "
                  << before.highest << "), " << after.median << " after (" << after.lowest << " to " << after.highest
                  << "): " << (clearly_faster(before, after) ? "faster" : "no win beyond the noise") << "\n";
        return cut.certificate.holds() ? 0 : 1;
    } catch (const es::Error& error) {
        std::cerr << "prune_your_own: " << error.what() << "\n";
        return 1;
    }
}
