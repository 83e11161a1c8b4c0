// CIFAR-100: 50,000 training and 10,000 test photographs, 32 x 32, three channels, 100 classes in 20 superclasses.

#include "support/experiment.hpp"
#include "support/recipe.hpp"

#include <espalier/data/cifar.hpp>

using namespace espalier;

int main(int argc, char** argv) {
    // The recipe of the pruning literature for CIFAR: Wang et al. 2021, "Neural Pruning via Growing Regularization"
    // (README of its code): 200 epochs, a learning rate of 0.1 that falls to a tenth at 100 and at 150, weight decay
    // 5e-4, batch 128; fine-tuning for 120 epochs from 0.01, with the same falls. For VGG-19 it takes a batch of 256.
    programs::Settings recipe = programs::photo_recipe(); // SGD from 0.1, a tenth at 1/2 and 3/4; crops, flips
    recipe.data = "data/cifar-100-binary";
    recipe.out = "runs/cifar100";
    recipe.model = "resnet56";
    recipe.epochs = 200;
    recipe.finetune_epochs = 120;

    return programs::run(
        {.name = "cifar100",
         .summary = "Train, prune and fine-tune on CIFAR-100.",
         .published = "binary version, www.cs.toronto.edu/~kriz/cifar.html",
         .recipe = recipe,
         .demonstration = programs::photo_demonstration(recipe),
         .flags = {{"--labels", "fine: 100 classes; coarse: 20 superclasses", "fine", {"fine", "coarse"}}},
         .load =
             [](const programs::Settings& s, Split split) {
                 return data::Cifar100(s.data, split,
                                       s.flags.at("--labels") == "coarse" ? CifarLabels::coarse : CifarLabels::fine);
             }},
        argc, argv);
}
