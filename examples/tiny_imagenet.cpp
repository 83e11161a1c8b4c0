// Tiny ImageNet: 100,000 training and 10,000 validation photographs, 64 x 64, three channels, 200 classes.

#include "support/experiment.hpp"
#include "support/recipe.hpp"

#include <espalier/data/tiny_imagenet.hpp>

using namespace espalier;

int main(int argc, char** argv) {
    // The recipe of the pruning literature: 300 epochs from a learning rate of 0.1, which falls to a tenth at 150 and
    // at 225, as in Wang et al. 2020, "Picking Winning Tickets Before Training by Preserving Gradient Flow"; weight
    // decay 2e-4 as in Wang et al. 2019, "EigenDamage" (configurations of its code, for VGG-19). Batch and augmentation
    // are those of CIFAR, and fine-tuning takes half of the epochs.
    programs::Settings recipe = programs::photo_recipe(); // SGD from 0.1, a tenth at 1/2 and 3/4; crops, flips
    recipe.data = "data/tiny-imagenet-200";
    recipe.out = "runs/tiny_imagenet";
    recipe.model = "resnet18";
    recipe.epochs = 300;
    recipe.finetune_epochs = 150;
    recipe.weight_decay = 2e-4;

    return programs::run(
        {.name = "tiny_imagenet",
         .summary = "Train, prune and fine-tune on Tiny ImageNet; its validation images are the test set.",
         .published = "tiny-imagenet-200.zip, cs231n.stanford.edu/tiny-imagenet-200.zip",
         .recipe = recipe,
         .demonstration = programs::photo_demonstration(recipe),
         .flags = {{"--cache", "folder for the decoded images (empty: that of the data)", "", {}}},
         .load =
             [](const programs::Settings& s, Split split) {
                 const auto cache = s.flags.find("--cache");
                 return data::TinyImageNet(s.data, split, {.cache = cache == s.flags.end() ? "" : cache->second});
             }},
        argc, argv);
}
