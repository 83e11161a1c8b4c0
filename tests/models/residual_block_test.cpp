#include "check_model.hpp"

#include <espalier/models/residual_block.hpp>

using namespace espalier;
using namespace espalier::test;
using models::Branch;
using models::ResidualBlock;
using models::Shortcut;

namespace {

std::string names(const Module<float>& module) {
    std::string text;
    for (const auto& [name, var] : module.parameters())
        if (var.size() > 0) text += join_text(name, var.shape(), " ");
    return text;
}

} // namespace

TEST_CASE("ResidualBlock: shapes of the parameters") {
    CHECK(names(ResidualBlock<float>(4, 4, 1, Shortcut::projection)) ==
          "conv1.weight[4,3,3,4] bn1.gamma[4] bn1.beta[4] conv2.weight[4,3,3,4] bn2.gamma[4] bn2.beta[4] ");
    CHECK(names(ResidualBlock<float>(2, 4, 2, Shortcut::projection)) ==
          "conv1.weight[4,3,3,2] bn1.gamma[4] bn1.beta[4] conv2.weight[4,3,3,4] bn2.gamma[4] bn2.beta[4] "
          "projection.weight[4,1,1,2] projection_bn.gamma[4] projection_bn.beta[4] ");
    CHECK(names(ResidualBlock<float>(4, 8, 1, Shortcut::projection, Branch::bottleneck)) ==
          "conv1.weight[2,1,1,4] bn1.gamma[2] bn1.beta[2] conv2.weight[2,3,3,2] bn2.gamma[2] bn2.beta[2] "
          "conv3.weight[8,1,1,2] bn3.gamma[8] bn3.beta[8] "
          "projection.weight[8,1,1,4] projection_bn.gamma[8] projection_bn.beta[8] ");
}

TEST_CASE("ResidualBlock: a bottleneck takes its stride at the 3x3 convolution") {
    ResidualBlock<double> block(8, 8, 2, Shortcut::projection, Branch::bottleneck);
    initialize(block, Init::he(), 3);
    const Tensor<double> x = random_tensor<double>({1, 4, 4, 8});
    Tensor<double> other = x.clone();
    for (Index c = 0; c < 8; ++c) other.set(x.at(0, 1, 1, c) + 1, 0, 1, 1, c); // a pixel that no strided 1x1 reads
    block.eval();
    const auto y = block.forward(Var<double>(x)), z = block.forward(Var<double>(other));
    CHECK(same_bits(y.stream.value(), z.stream.value()));
    CHECK_FALSE(same_bits(y.branch.value(), z.branch.value()));
    CHECK(y.branch.shape() == Shape{1, 2, 2, 8});
}

TEST_CASE("ResidualBlock: gradients of a stride-2 block with respect to its input and all parameters") {
    // relu has kinks: the seed is one for which no pre-activation is within ten steps of zero
    struct Case {
        Shortcut shortcut;
        Branch branch;
    };
    for (const Case c : {Case{Shortcut::padded, Branch::basic}, Case{Shortcut::projection, Branch::basic},
                         Case{Shortcut::projection, Branch::bottleneck}}) {
        ResidualBlock<double> block(2, 4, 2, c.shortcut, c.branch);
        initialize(block, Init::he(), 11);
        std::vector<Tensor<double>> inputs{random_tensor<double>({2, 4, 4, 2})};
        std::vector<std::string> names;
        for (const auto& [name, var] : block.parameters()) {
            if (var.size() == 0) continue;
            Tensor<double> value = var.value().clone();
            if (value.rank() == 1) // gamma and beta away from 1 and 0
                for (Index i = 0; i < value.size(); ++i)
                    value.mutable_data()[i] += 0.3 * random_tensor<double>({value.size()}, name.c_str()).data()[i];
            inputs.push_back(value);
            names.push_back(name);
        }
        check_gradient(
            [&](std::vector<Var<double>>& v) {
                for (std::size_t i = 0; i < names.size(); ++i) block.find(names[i]).set_value(v[i + 1].value().clone());
                const Var<double> y = block.forward(v[0]).y;
                // the block's parameters are its own leaves: hand their gradients on to v
                std::vector<Var<double>> operands{v};
                return record<double>("block", y.value(), operands, ChannelRule::same(),
                                      [&, y](const Tensor<double>& dy, const Inputs<double>& input) {
                                          block.clear_grad();
                                          y.backward(dy);
                                          for (std::size_t i = 0; i < names.size(); ++i)
                                              input[i + 1].add_grad(block.find(names[i]).grad());
                                      });
            },
            inputs);
    }
}

TEST_CASE("ResidualBlock: gradients of an excited block of stride 2 with respect to its input") {
    // relu has kinks: the seed is one for which no pre-activation is within ten steps of zero
    models::ResidualBlock<double> block(2, 4, 2, models::Shortcut::padded, models::Branch::excited);
    initialize(block, Init::he(), 3);
    check_gradient([&](auto& v) { return block.forward(v[0]).y; }, {random_tensor<double>({2, 4, 4, 2})});
}
