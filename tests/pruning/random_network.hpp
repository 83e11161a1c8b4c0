#pragma once

#include "networks.hpp"

#include <espalier/nn/padded_shortcut.hpp>
#include <espalier/nn/several_inputs.hpp>
#include <espalier/ops/pad.hpp>

#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace espalier::test {

/// A network that a seed draws: chains, residuals of all kinds, concats, splits, padded channels, group and depthwise
/// convolutions, squeeze and excitation, modules used twice, one or two inputs, one or two outputs behind means or
/// flattened maps.
///
/// Ops are appended one by one, each to values that there are by then, the last ones above all. Maps are square. The
/// same seed draws the same network with the same weights.
template <class T> class RandomNetwork : public Module<T> {
public:
    explicit RandomNetwork(std::uint64_t seed) : draw_(seed, "random network") {
        inputs_ = pick(4) == 0 ? 2 : 1;
        for (Index i = 0; i < inputs_; ++i) values_.push_back({4 + 2 * pick(2), 1 + pick(4)});
        for (Index i = 0; i < inputs_; ++i) convolve(i, 1); // ops on the image itself may follow, but are not all
        const Index count = 2 + pick(7);
        for (Index i = 0; i < count; ++i) append();
        const Index heads = pick(4) == 0 ? 2 : 1;
        for (Index i = 0; i < heads; ++i) add_head(i);
        drop_unused();
        initialize(*this, Init::he(), seed);
        for (const auto& list : {this->parameters(), this->buffers()})
            for (const auto& [name, var] : list) { // as training would leave them: nothing is 0 or 1
                const bool positive = name.ends_with("running_var") || name.ends_with("gamma");
                if (name.ends_with("weight")) continue;
                Var<T>(var).set_value(
                    uniform<T>(var.shape(), Random(seed, name), positive ? 0.5 : -0.5, positive ? 1.5 : 0.5));
            }
    }

    /// Shapes of the inputs, without the batch.
    Index inputs() const { return inputs_; }
    Shape image(Index i) const {
        const Value& v = values_[static_cast<std::size_t>(i)];
        return {v.extent, v.extent, v.channels};
    }
    std::vector<Var<T>> forward(const Var<T>& x) const { return run({x}); }
    std::vector<Var<T>> forward(const Var<T>& x, const Var<T>& z) const { return run({x, z}); }

    /// What was appended, for the text of a failure.
    const std::string& text() const { return text_; }

private:
    using Values = std::vector<Var<T>>;
    struct Value {
        Index extent, channels;
    };
    struct Step {
        std::vector<Index> from; // numbers of the values that it reads
        std::function<Var<T>(const Values&)> run;
    };

    Index pick(Index n) { return static_cast<Index>(draw_.uniform(drawn_++) * static_cast<double>(n)); }
    std::string next(const std::string& op) {
        text_ += " " + op + std::to_string(values_.size());
        return op + std::to_string(values_.size());
    }
    Value at(Index i) const { return values_[static_cast<std::size_t>(i)]; }
    Index count() const { return static_cast<Index>(values_.size()); }
    /// A value, mostly a late one.
    Index some() { return std::min(count() - 1, count() - 1 - pick(count()) * pick(3) / 2); }
    /// Another of the same height and width, and as many channels if asked; -1 if there is none.
    Index partner(Index of, bool same_channels) {
        std::vector<Index> fitting;
        for (Index i = inputs_; i < count(); ++i)
            if (at(i).extent == at(of).extent && (!same_channels || at(i).channels == at(of).channels))
                fitting.push_back(i);
        return fitting.empty() ? -1 : fitting[static_cast<std::size_t>(pick(static_cast<Index>(fitting.size())))];
    }
    void push(Value value, const std::vector<Index>& from, std::function<Var<T>(const Values&)> step) {
        values_.push_back(value);
        steps_.push_back({from, std::move(step)});
    }
    /// Steps that no head depends on are not run: a recorded graph does not have them, so no cut could follow.
    void drop_unused() {
        std::vector<char> used(values_.size(), 0);
        for (const Step& head : heads_) used[static_cast<std::size_t>(head.from[0])] = 1;
        for (std::size_t i = steps_.size(); i-- > 0;) {
            if (used[i + static_cast<std::size_t>(inputs_)])
                for (const Index from : steps_[i].from) used[static_cast<std::size_t>(from)] = 1;
            else
                steps_[i].run = [](const Values&) { return Var<T>(); };
        }
    }

    /// Convolution, maybe batch norm, maybe an activation: what all networks are made of.
    struct Layer {
        Conv2d<T> conv;
        std::optional<BatchNorm<T>> bn;
        Index activation;
        Var<T> operator()(const Var<T>& x) const {
            Var<T> y = conv.forward(x);
            if (bn) y = bn->forward(y, activation == 1 ? Activation::relu : Activation::none);
            return activation == 1 && !bn ? relu(y) : activation == 2 ? tanh(y) : activation == 3 ? relu6(y) : y;
        }
    };
    Layer layer(const std::string& name, Index in, Index out, Index size, Index stride, Index groups) {
        Layer made{this->child(name, Conv2d<T>({.in = in,
                                                .out = out,
                                                .size = size,
                                                .stride = stride,
                                                .padding = size / 2,
                                                .groups = groups,
                                                .bias = pick(2) ? Bias::learned : Bias::none})),
                   {},
                   pick(4)};
        if (pick(3) > 0) made.bn = this->child(name + "_bn", BatchNorm<T>({.channels = out}));
        return made;
    }
    void convolve(Index from, Index groups) {
        const Index stride = at(from).extent > 3 && pick(4) == 0 ? 2 : 1;
        const Index out = groups * (1 + pick(groups == 1 ? 8 : 3));
        const Layer made =
            layer(next(groups == 1 ? "conv" : "group"), at(from).channels, out, 1 + 2 * pick(2), stride, groups);
        if (stride == 1 && groups == 1) shared_.emplace_back(at(from).channels, made);
        push({(at(from).extent + stride - 1) / stride, out}, {from},
             [=](const Values& v) { return made(v[static_cast<std::size_t>(from)]); });
    }

    void append() {
        const Index from = some(), C = at(from).channels, extent = at(from).extent;
        const auto i = static_cast<std::size_t>(from);
        switch (pick(14)) {
        case 0:
            if (extent >= 4 && from >= inputs_) {
                next("pool");
                const Index kind = pick(2);
                return push({extent / 2, C}, {from},
                            [=](const Values& v) { return kind ? max_pool2d(v[i]) : avg_pool2d(v[i]); });
            }
            [[fallthrough]];
        case 1:
            for (const Index groups : {4, 3, 2})
                if (C % groups == 0 && C > groups) return convolve(from, groups);
            [[fallthrough]];
        case 2:
            if (C > 1) return depthwise(from);
            [[fallthrough]];
        case 3:
        case 4: return residual(from);
        case 5:
        case 6:
            if (const Index other = partner(from, false); other >= 0) return concatenate(from, other);
            [[fallthrough]];
        case 7:
            if (const Index other = partner(from, true); other >= 0) return combine(from, other);
            [[fallthrough]];
        case 8: return squeeze_excite(from);
        case 10:
            if (C > 1 && from >= inputs_) return split(from);
            [[fallthrough]];
        case 11:
            if (from >= inputs_) return pad_channels(from);
            return convolve(from, 1);
        case 9:
            for (const auto& [channels, made] : shared_)
                if (channels == C) {
                    next("shared");
                    const Layer again = made;
                    return push({extent, again.conv.weight.size(0)}, {from},
                                [=](const Values& v) { return again(v[i]); });
                }
            [[fallthrough]];
        default: return convolve(from, 1);
        }
    }
    void depthwise(Index from) {
        const Index C = at(from).channels, times = 1 + pick(5) / 4;
        const Layer made = layer(next(times == 1 ? "depthwise" : "multiplied"), C, C * times, 3, 1, C);
        push({at(from).extent, C * times}, {from},
             [=](const Values& v) { return made(v[static_cast<std::size_t>(from)]); });
    }
    /// One or two blocks: identity, projection or padded shortcut, and a branch of two or three layers.
    void residual(Index from) {
        const Index C = at(from).channels, kind = pick(3), inner = 1 + pick(6);
        const Index stride = kind > 0 && at(from).extent > 3 ? 1 + pick(2) : 1;
        const Index out = kind == 0 ? C : kind == 1 ? 1 + pick(8) : C + pick(4);
        const std::string name = next("residual");
        std::vector<Layer> branch{layer(name + "_a", C, inner, 3, stride, 1)};
        if (inner > 1 && pick(3) == 0) branch.push_back(layer(name + "_depth", inner, inner, 3, 1, inner));
        branch.push_back(layer(name + "_b", inner, out, 1 + 2 * pick(2), 1, 1));
        branch.back().activation = 0;
        const Join<T> join = this->child(name + "_join", Join<T>());
        std::optional<Conv2d<T>> projection;
        std::optional<PaddedShortcut<T>> padded;
        if (kind == 1) {
            projection = this->child(name + "_projection",
                                     Conv2d<T>({.in = C, .out = out, .size = 1, .stride = stride, .bias = Bias::none}));
            text_ += "p";
        } else if (kind == 2) {
            padded = this->child(name + "_shortcut", PaddedShortcut<T>({.in = C, .out = out, .stride = stride}));
            text_ += "a";
        }
        const Activation end = pick(2) ? Activation::relu : Activation::none;
        push({(at(from).extent + stride - 1) / stride, out}, {from}, [=](const Values& v) {
            const Var<T>& x = v[static_cast<std::size_t>(from)];
            Var<T> y = x;
            for (const Layer& each : branch) y = each(y);
            const Var<T> stream = projection ? projection->forward(x) : padded ? padded->forward(x, join.width(y)) : x;
            return join.forward(stream, y, end);
        });
    }
    void concatenate(Index a, Index b) {
        next("concat");
        const Index channels = at(a).channels + at(b).channels, extent = at(a).extent;
        const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
        push({extent, channels}, {a, b}, [=](const Values& v) { return concat<T>({v[i], v[j]}, -1); });
        if (pick(2) == 0) return;
        const BatchNorm<T> bn = this->child(next("bn"), BatchNorm<T>({.channels = channels}));
        const auto last = static_cast<std::size_t>(count() - 1);
        push({extent, channels}, {count() - 1}, [=](const Values& v) { return bn.forward(v[last], Activation::relu); });
    }
    /// Two ranges of channels: one is the other's gate, or takes a layer of its own and comes back behind the other.
    void split(Index from) {
        const Index extent = at(from).extent, C = at(from).channels;
        const bool gate = C % 2 == 0 && pick(2) == 0;
        const Index first = gate ? C / 2 : 1 + pick(C - 1), out = gate ? first : 1 + pick(6);
        const std::string name = next(gate ? "gate" : "split");
        const ChannelSplit<T> ranges = this->child(name, ChannelSplit<T>({first, C - first}));
        const Layer made = layer(name + "_conv", first, out, 3, 1, 1);
        push({extent, gate ? first : C - first + out}, {from}, [=](const Values& v) {
            const std::vector<Var<T>> parts = ranges.forward(v[static_cast<std::size_t>(from)]);
            return gate ? made(parts[0]) * tanh(parts[1]) : concat<T>({parts[1], made(parts[0])}, -1);
        });
    }
    /// Zero channels on both sides.
    void pad_channels(Index from) {
        const Index before = pick(3), after = pick(3);
        next("pad");
        const auto i = static_cast<std::size_t>(from);
        push({at(from).extent, at(from).channels + before + after}, {from}, [=](const Values& v) {
            return pad(v[i], {0, 0, 0, before}, {0, 0, 0, after});
        });
    }
    void combine(Index a, Index b) {
        const Index kind = pick(3);
        next(kind == 0 ? "add" : kind == 1 ? "sub" : "mul");
        const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
        push(at(a), {a, b}, [=](const Values& v) {
            return kind == 0 ? v[i] + v[j] : kind == 1 ? v[i] - v[j] : tanh(v[i]) * tanh(v[j]);
        });
    }
    void squeeze_excite(Index from) {
        const std::string name = next("excite");
        const Index C = at(from).channels, hidden = 1 + pick(4), kind = pick(3);
        const Linear<T> squeeze = this->child(name + "_squeeze", Linear<T>({.in = C, .out = hidden}));
        const Linear<T> excite = this->child(name + "_excite", Linear<T>({.in = hidden, .out = kind == 2 ? 1 : C}));
        const auto i = static_cast<std::size_t>(from);
        push(at(from), {from}, [=](const Values& v) {
            const Var<T> gate = excite.forward(relu(squeeze.forward(global_avg_pool(v[i]))));
            return v[i] * reshape(kind == 0 ? sigmoid(gate) : tanh(gate), {gate.size(0), 1, 1, gate.size(1)});
        });
    }
    void add_head(Index number) {
        const Index from = number == 0 ? count() - 1 : some();
        const Index kind = pick(3), C = at(from).channels, pixels = at(from).extent * at(from).extent;
        const std::string name = "head" + std::to_string(number);
        text_ += kind == 2 ? " flatten" : " mean";
        const Index in = kind == 2 ? C * pixels : C, hidden = 2 + pick(6);
        const Linear<T> first = this->child(name + "_hidden", Linear<T>({.in = in, .out = hidden}));
        const Linear<T> last = this->child(name, Linear<T>({.in = hidden, .out = 2 + pick(4)}));
        heads_.push_back({{from}, [=](const Values& v) {
                              const Var<T>& x = v[static_cast<std::size_t>(from)];
                              return last.forward(relu(first.forward(kind == 2 ? flatten(x) : global_avg_pool(x))));
                          }});
    }

    std::vector<Var<T>> run(Values v) const {
        for (const Step& step : steps_) v.push_back(step.run(v));
        std::vector<Var<T>> outputs;
        for (const Step& head : heads_) outputs.push_back(head.run(v));
        return outputs;
    }

    Random draw_;
    std::uint64_t drawn_ = 0;
    Index inputs_ = 1;
    std::string text_;
    std::vector<Value> values_; // the inputs, then what each step makes
    std::vector<Step> steps_, heads_;
    std::vector<std::pair<Index, Layer>> shared_; // with the channels that they take
};

} // namespace espalier::test
