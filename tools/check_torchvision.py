#!/usr/bin/env python3
"""Compares our ResNets and VGGs with torchvision's at full size, there and back.

usage: check_torchvision.py [program: build/dev/examples/torchvision] [MODEL...]

Makes state dicts of torchvision with random weights and statistics, lets the example program read them and classify
images, and loads what it wrote back into torchvision. Logits agree to 1e-4, where the largest is near 1. Needs torch,
torchvision, numpy and safetensors; without them it says so and checks nothing. VGG-16 takes 3 GB of memory.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    import torch
    import torchvision
    from safetensors.torch import load_file, save_file
except ImportError as error:
    print(f"check_torchvision: skipped, {error}")
    sys.exit(0)

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else "build/dev/examples/torchvision"
MODELS = sys.argv[2:] or ["resnet18", "resnet34", "resnet50", "vgg11_bn", "vgg16_bn"]
TOLERANCE = 1e-4


def randomized(name):
    """A model with random scales and shifts that has seen a batch of noise, its statistics shaken a little: maps and
    logits stay near 1."""
    model = getattr(torchvision.models, name)()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in (p for n, p in model.named_parameters() if n.endswith("bias")):
            parameter.uniform_(-0.2, 0.2)  # of convolutions and linear layers, too: torchvision starts them at 0
        for norm in norms:
            norm.weight.uniform_(0.25, 0.75)
            norm.momentum = 1.0
        model.train()(torch.randn(16, 3, 64, 64))
        for norm in norms:
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
            norm.running_var *= 0.8 + 0.4 * torch.rand_like(norm.running_var)
    return model.eval()


def logits(model, images):
    with torch.no_grad():
        return model(images).double().numpy()


failed = False
with tempfile.TemporaryDirectory() as folder:
    work = Path(folder)
    for number, name in enumerate(MODELS):
        torch.manual_seed(number)
        model = randomized(name)
        images = torch.randn(2, 3, 64, 64)
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, work / "weights.safetensors")
        np.save(work / "images.npy", images.permute(0, 2, 3, 1).contiguous().numpy())
        done = subprocess.run([PROGRAM, name, *(work / file for file in (
            "weights.safetensors", "images.npy", "logits.npy", "exported.safetensors"))], capture_output=True, text=True)
        if done.returncode:
            failed = True
            print(f"{name}: FAILED\n{done.stderr}")
            continue
        single = logits(model, images)
        truth = logits(model.double(), images.double())
        back = getattr(torchvision.models, name)()
        back.load_state_dict(load_file(work / "exported.safetensors"))  # strict: every name, every shape
        there = np.abs(np.load(work / "logits.npy") - truth).max()
        again = np.abs(logits(back.double().eval(), images.double()) - truth).max()
        fine = there <= TOLERANCE and again <= TOLERANCE  # NaN is not
        failed = failed or not fine
        print(f"{name}: largest logit {np.abs(truth).max():.2f}; off by {there:.1e} here, {again:.1e} after the way back, "
              f"{np.abs(single - truth).max():.1e} in PyTorch in float: {'ok' if fine else 'FAILED'}", flush=True)
sys.exit(failed)
