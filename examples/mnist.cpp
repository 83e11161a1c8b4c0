// MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28, one channel, ten classes.

#include "support/experiment.hpp"

#include <espalier/data/idx.hpp>

using namespace espalier;

int main(int argc, char** argv) {
    // The recipe that comes with Caffe's LeNet (lenet_solver.prototxt), where the literature on pruning LeNet-5 starts:
    // 10,000 steps of 64 images (11 epochs), learning rate 0.01, momentum 0.9, weight decay 5e-4, no augmentation. Here
    // the momentum is Nesterov's and the learning rate falls by half a cosine, not by a power of the step.
    programs::Settings recipe;
    recipe.data = "data/mnist";
    recipe.out = "runs/mnist";
    recipe.model = "lenet5";
    recipe.batch = 64;
    recipe.epochs = 11;
    recipe.lr = 0.01;
    recipe.finetune_epochs = 5;
    recipe.finetune_lr = 0.005;
    recipe.schedule = "cosine";

    programs::Settings demo = recipe;
    demo.out = "runs/mnist-demo";
    demo.epochs = 3;
    demo.finetune_epochs = 1;
    demo.keep_macs = 0.5;

    return programs::run({.name = "mnist",
                          .summary = "Train, prune and fine-tune on MNIST.",
                          .published = "four IDX files, github.com/cvdfoundation/mnist",
                          .recipe = recipe,
                          .demonstration = demo,
                          .load = [](const programs::Settings& s, Split split) { return data::Mnist(s.data, split); }},
                         argc, argv);
}
