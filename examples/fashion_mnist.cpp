// Fashion-MNIST: 60,000 training and 10,000 test images of clothing, 28 x 28, one channel, ten classes.

#include "support/experiment.hpp"

#include <espalier/data/idx.hpp>

using namespace espalier;

int main(int argc, char** argv) {
    programs::Settings recipe;
    recipe.data = "/usr/share/datasets/fashion-mnist";
    recipe.out = "runs/fashion_mnist";
    recipe.epochs = 20;
    recipe.finetune_epochs = 5;
    recipe.crop = 2;
    recipe.flip = true;

    programs::Settings demo = recipe; // a few minutes on two cores
    demo.out = "runs/demo";
    demo.epochs = 2;
    demo.finetune_epochs = 1;
    demo.finetune_lr = 0.1;
    demo.crop = 0;
    demo.ffr.gradient = demo.ffr.curvature = 0.01;
    demo.keep_macs = 0.5;
    demo.joins = pruning::Joins::indexed;
    demo.round_to = 8; // whole vectors

    return programs::run(
        {.name = "fashion_mnist",
         .summary = "Train, prune and fine-tune on Fashion-MNIST.",
         .published = "Debian package dataset-fashion-mnist, or github.com/zalandoresearch/fashion-mnist",
         .recipe = recipe,
         .demonstration = demo,
         .load = [](const programs::Settings& s, Split split) { return data::FashionMnist(s.data, split); }},
        argc, argv);
}
