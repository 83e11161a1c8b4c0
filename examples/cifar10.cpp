// CIFAR-10: 50,000 training and 10,000 test photographs, 32 x 32, three channels, ten classes.

#include "support/experiment.hpp"
#include "support/recipe.hpp"

#include <espalier/data/cifar.hpp>

using namespace espalier;

int main(int argc, char** argv) {
    // The usual recipe for ResNets on CIFAR; fine-tuning takes half of the epochs.
    programs::Settings recipe = programs::photo_recipe(); // SGD from 0.1, a tenth at 1/2 and 3/4; crops, flips
    recipe.data = "data/cifar-10-batches-bin";
    recipe.out = "runs/cifar10";
    recipe.model = "resnet56";
    recipe.epochs = 200;
    recipe.finetune_epochs = 100;

    return programs::run(
        {.name = "cifar10",
         .summary = "Train, prune and fine-tune on CIFAR-10.",
         .published = "binary version, www.cs.toronto.edu/~kriz/cifar.html",
         .recipe = recipe,
         .demonstration = programs::photo_demonstration(recipe),
         .load = [](const programs::Settings& s, Split split) { return data::Cifar10(s.data, split); }},
        argc, argv);
}
