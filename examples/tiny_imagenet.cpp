// Tiny ImageNet: 100,000 training and 10,000 validation photographs, 64 x 64, three channels, 200 classes.

#include "support/experiment.hpp"

#include <espalier/data/tiny_imagenet.hpp>

using namespace espalier;

int main(int argc, char** argv) {
    // The recipe of the pruning literature: 300 epochs from a learning rate of 0.1, which falls to a tenth at 150 and
    // at 225, as in Wang et al. 2020, "Picking Winning Tickets Before Training by Preserving Gradient Flow"; weight
    // decay 2e-4 as in Wang et al. 2019, "EigenDamage" (configurations of its code, for VGG-19). Batch and augmentation
    // are those of CIFAR, and fine-tuning takes half of the epochs.
    programs::Settings recipe;
    recipe.data = "data/tiny-imagenet-200";
    recipe.out = "runs/tiny_imagenet";
    recipe.model = "resnet18";
    recipe.epochs = 300;
    recipe.finetune_epochs = 150;
    recipe.finetune_lr = 0.01;
    recipe.weight_decay = 2e-4;
    recipe.schedule = "multi-step";
    recipe.crop = 4;
    recipe.flip = true;

    programs::Settings demo = recipe;
    demo.out = "runs/tiny_imagenet-demo";
    demo.model = "resnet20";
    demo.schedule = "one-cycle";
    demo.epochs = 4;
    demo.finetune_epochs = 1;
    demo.finetune_lr = 0.02;
    demo.ffr.gradient = demo.ffr.curvature = 0.01;
    demo.keep_macs = 0.5;

    return programs::run(
        {.name = "tiny_imagenet",
         .summary = "Train, prune and fine-tune on Tiny ImageNet; its validation images are the test set.",
         .published = "tiny-imagenet-200.zip, cs231n.stanford.edu/tiny-imagenet-200.zip",
         .recipe = recipe,
         .demonstration = demo,
         .flags = {{"--cache", "folder for the decoded images (empty: that of the data)", "", {}}},
         .load =
             [](const programs::Settings& s, Split split) {
                 const auto cache = s.flags.find("--cache");
                 return data::TinyImageNet(s.data, split, {.cache = cache == s.flags.end() ? "" : cache->second});
             }},
        argc, argv);
}
