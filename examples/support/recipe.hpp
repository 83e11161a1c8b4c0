#pragma once

#include "settings.hpp"

namespace espalier::programs {

/// What the literature trains on small photographs with: SGD with Nesterov's momentum from a learning rate of 0.1,
/// which falls to a tenth after half of the epochs and again after three quarters, weight decay 5e-4, batch 128, random
/// crops of images padded by 4 pixels, horizontal flips. Fine-tuning starts from 0.01 and falls likewise.
inline Settings photo_recipe() {
    Settings recipe;
    recipe.schedule = "multi-step";
    recipe.lr = 0.1;
    recipe.finetune_lr = 0.01;
    recipe.momentum = 0.9;
    recipe.weight_decay = 5e-4;
    recipe.batch = 128;
    recipe.crop = 4;
    recipe.flip = true;
    return recipe;
}

/// The whole job on photographs in a few epochs, to see it, not to compare it: ResNet-20 in four epochs of one cycle
/// with feature flow regularization, pruned to half of its multiply-adds and fine-tuned for one epoch.
inline Settings photo_demonstration(Settings recipe) {
    recipe.out += "-demo";
    recipe.model = "resnet20";
    recipe.schedule = "one-cycle";
    recipe.epochs = 4;
    recipe.finetune_epochs = 1;
    recipe.finetune_lr = 0.02;
    recipe.ffr.gradient = recipe.ffr.curvature = 0.01;
    recipe.keep_macs = 0.5;
    return recipe;
}

} // namespace espalier::programs
