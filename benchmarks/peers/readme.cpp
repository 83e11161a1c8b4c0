// The README's program in libtorch, for tools/compile_budget.py: the same images, network, optimizer and loss, as far
// as libtorch goes. It has no pruning, so that part has no counterpart here.
#include <torch/torch.h>

#include <iostream>

namespace nn = torch::nn;

struct BlockImpl : nn::Module {
    BlockImpl(int64_t in, int64_t out, int64_t stride)
        : conv1(register_module("conv1",
                                nn::Conv2d(nn::Conv2dOptions(in, out, 3).stride(stride).padding(1).bias(false)))),
          bn1(register_module("bn1", nn::BatchNorm2d(out))),
          conv2(register_module("conv2", nn::Conv2d(nn::Conv2dOptions(out, out, 3).padding(1).bias(false)))),
          bn2(register_module("bn2", nn::BatchNorm2d(out))) {}
    torch::Tensor forward(const torch::Tensor& x) {
        const auto branch = bn2(conv2(torch::relu(bn1(conv1(x)))));
        auto stream = x;
        if (branch.sizes() != x.sizes()) {
            stream = stream.slice(2, 0, torch::nullopt, 2).slice(3, 0, torch::nullopt, 2);
            stream = nn::functional::pad(stream, nn::functional::PadFuncOptions({0, 0, 0, 0, 0, x.size(1)}));
        }
        return torch::relu(branch + stream);
    }
    nn::Conv2d conv1;
    nn::BatchNorm2d bn1;
    nn::Conv2d conv2;
    nn::BatchNorm2d bn2;
};
TORCH_MODULE(Block);

int main() {
    nn::Sequential model(nn::Conv2d(nn::Conv2dOptions(3, 16, 3).padding(1).bias(false)), nn::BatchNorm2d(16),
                         nn::ReLU());
    for (int64_t width : {16, 32, 64})
        for (int64_t block = 0; block < 3; ++block)
            model->push_back(
                Block(block == 0 && width > 16 ? width / 2 : width, width, block == 0 && width > 16 ? 2 : 1));
    model->extend(*nn::Sequential(nn::AdaptiveAvgPool2d(1), nn::Flatten(), nn::Linear(64, 10)));
    const auto images = torch::rand({512, 3, 16, 16}), labels = torch::randint(10, {512}, torch::kLong);
    torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9).weight_decay(5e-4));
    for (int epoch = 0; epoch < 3; ++epoch)
        for (int64_t first = 0; first < 512; first += 64) {
            const auto logits = model->forward(images.slice(0, first, first + 64));
            const auto loss = nn::functional::cross_entropy(logits, labels.slice(0, first, first + 64));
            optimizer.zero_grad();
            loss.backward();
            optimizer.step();
        }
    std::cout << model->forward(images).argmax(1).eq(labels).to(torch::kFloat).mean().item<float>() << "\n";
}
