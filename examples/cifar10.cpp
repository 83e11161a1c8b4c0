// CIFAR-10: 50,000 training and 10,000 test photographs, 32 x 32, three channels, ten classes.

#include "support/experiment.hpp"

#include <espalier/data/cifar.hpp>

using namespace espalier;

int main(int argc, char** argv) {
    programs::Settings recipe; // the usual one for ResNets on CIFAR, see docs/feature_flow.md
    recipe.data = "data/cifar-10-batches-bin";
    recipe.out = "runs/cifar10";
    recipe.model = "resnet56";
    recipe.epochs = 200;
    recipe.finetune_epochs = 100;
    recipe.finetune_lr = 0.01;
    recipe.schedule = "multi-step";
    recipe.crop = 4;
    recipe.flip = true;

    programs::Settings demo = recipe;
    demo.out = "runs/cifar10-demo";
    demo.model = "resnet20";
    demo.schedule = "one-cycle";
    demo.epochs = 4;
    demo.finetune_epochs = 1;
    demo.finetune_lr = 0.02;
    demo.ffr.gradient = demo.ffr.curvature = 0.01;
    demo.keep_macs = 0.5;

    return programs::run(
        {.name = "cifar10",
         .summary = "Train, prune and fine-tune on CIFAR-10.",
         .published = "binary version, www.cs.toronto.edu/~kriz/cifar.html",
         .recipe = recipe,
         .demonstration = demo,
         .load = [](const programs::Settings& s, Split split) { return data::Cifar10(s.data, split); }},
        argc, argv);
}
