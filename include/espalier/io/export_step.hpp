#pragma once

#include <espalier/autograd/attributes.hpp>
#include <espalier/ops/fused_activation.hpp>
#include <espalier/tensor/tensor.hpp>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

// Not part of espalier.hpp: few programs export.

namespace espalier::inline ESPALIER_BACKEND {

/// A value of an export graph: the image, a constant, or what a step makes.
struct ExportValue {
    std::string name;        ///< a constant's dotted name in the model, or the step's name
    Shape shape;             ///< of one image: activations have no batch axis here
    Tensor<double> constant; ///< undefined for what depends on the image
};

/// One op of an export graph. Axes don't count the batch: an image is [H,W,C].
///
/// | op                                   | inputs                        | attributes                                |
/// | ------------------------------------ | ----------------------------- | ----------------------------------------- |
/// | conv2d                               | x, w [K,R,S,C/groups], [b]    | stride, padding, dilation, groups         |
/// | linear                               | x [C], w [K,C], [b]           |                                           |
/// | batch_norm                           | x, gamma, beta, mean, variance | epsilon                                  |
/// | join                                 | stream, branch, [constant]    | if indexed `channels`; constant 0 there   |
/// | place                                | x [H,W,C]                     | stride; `channels` of the result          |
/// | add, sub, mul                        | a, b (either may be constant) |                                           |
/// | relu, relu6, sigmoid, tanh, exp, log, abs, sqrt, softmax (last axis), reshape | x |                          |
/// | scale                                | x                             | factor                                    |
/// | max_pool2d, avg_pool2d, global_max_pool | x                          | rows, columns, stride, padding            |
/// | sum, mean                            | x                             | divisor, axis ...                         |
/// | concat                               | x ...                         | axis                                      |
/// | slice                                | x                             | axis, begin, step                         |
/// | pad                                  | x                             | value, before ...                         |
struct ExportStep {
    std::string op;   ///< as in the table
    std::string name; ///< unique: the module whose parameters it uses, `stage1.0.conv1`, or op and number
    std::vector<std::size_t> inputs;  ///< numbers of values, in the order of the table
    std::size_t output = 0;           ///< number of the value it makes
    Attributes attributes = {};       ///< as in the table
    std::vector<Index> channels = {}; ///< of a stream or result that the operand's channels go to; see the table
    Activation activation = Activation::none; ///< applied to the result
};

/// A network as exporters see it: the ops that the logits depend on, inputs before users, and their constants.
struct ExportGraph {
    std::vector<ExportValue> values; ///< the first is the image
    std::vector<ExportStep> steps;   ///< inputs before users
    std::size_t output = 0;          ///< number of the value that is the result
    Tensor<double> sample, expected; ///< an image, uniform in [-1, 1), and what the model made of it

    /// Values of a step.
    /// @{
    const ExportValue& input(const ExportStep& step, std::size_t i) const { return values[step.inputs[i]]; }
    const ExportValue& result(const ExportStep& step) const { return values[step.output]; }
    /// @}
    /// How many steps read a value; the output of the graph is read once more.
    std::size_t uses(std::size_t value) const {
        std::size_t count = value == output;
        for (const ExportStep& step : steps)
            count += static_cast<std::size_t>(std::count(step.inputs.begin(), step.inputs.end(), value));
        return count;
    }
    /// Removes steps whose result nobody reads.
    void drop_dead_steps() {
        for (std::size_t i = steps.size(); i-- > 0;)
            if (uses(steps[i].output) == 0) steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(i));
    }
};

namespace detail {

/// Names, each given once: a second `conv` is `conv_2`.
class UniqueNames {
public:
    std::string operator()(const std::string& base) {
        std::string name = base;
        for (int number = 2; !taken_.insert(name).second; ++number) name = join_text(base, "_", number);
        return name;
    }

private:
    std::set<std::string> taken_;
};

} // namespace detail

} // namespace espalier::inline ESPALIER_BACKEND
