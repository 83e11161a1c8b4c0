#!/usr/bin/env python3
"""Writes tests/golden/torchvision.safetensors: logits of torchvision's models, for tests/io/torchvision_test.cpp.

    python3 tools/torchvision_golden.py [output]

Needs torch, torchvision, numpy and safetensors; the committed file names the versions it was made with in its metadata.
The weights are too large to commit, so both sides make them from the names: `values` here and there. The file holds
logits, computed in double, and the names and shapes of each state dict in torchvision's order.
"""

import sys

import numpy as np
import safetensors
import torch
import torchvision
from safetensors.numpy import save_file

torch.set_num_threads(1)


def unit(name, count):
    """Multiples of 2^-24 in [0, 1): splitmix64 of (FNV-1a of the name) + i times its constant, upper 24 bits."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    x = np.uint64(h) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return ((x ^ x >> np.uint64(31)) >> np.uint64(40)).astype(np.float64) * 2.0**-24


def values(name, shape, gain=1.0):
    """Float elements of a tensor of this name: weights of He's variance, scales of batch norm around `gain`."""
    center, radius = 0.0, 0.125  # of biases, shifts and means
    if name.endswith("running_var"):
        center, radius = 1.0, 0.5
    elif name.endswith("weight") and len(shape) == 1:
        center, radius = gain, gain / 2
    elif name.endswith("weight"):
        radius = np.sqrt(6 / np.prod(shape[1:]))
    elif name == "images":
        radius = 2.0
    x = center + (2 * unit(name, int(np.prod(shape))) - 1) * radius
    return x.astype(np.float32).reshape(shape)


def small_vgg(model):
    """64 hidden units in place of 4096, which would be a hundred million weights and test nothing more."""
    model.classifier[0] = torch.nn.Linear(512 * 7 * 7, 64)
    model.classifier[3] = torch.nn.Linear(64, 64)
    model.classifier[6] = torch.nn.Linear(64, 10)
    return model


models = {  # with gains that leave logits near 1; residual sums grow with depth
    "resnet18": (torchvision.models.resnet18(num_classes=10), 0.625),
    "resnet50": (torchvision.models.resnet50(num_classes=10), 0.625),
    "vgg11_bn": (small_vgg(torchvision.models.vgg11_bn(num_classes=10)), 0.875),
}
tensors, metadata = {}, {}
images = torch.from_numpy(values("images", (2, 64, 64, 3))).double().permute(0, 3, 1, 2)
for name, (model, gain) in models.items():
    state = model.state_dict()
    metadata[name] = "\n".join(" ".join([key, *map(str, tensor.shape)]) for key, tensor in state.items())
    for key, tensor in state.items():
        if not key.endswith("num_batches_tracked"):
            state[key] = torch.from_numpy(values(key, tuple(tensor.shape), gain))
    model.load_state_dict(state)
    with torch.no_grad():
        tensors[name] = model.double().eval()(images).numpy()
    print(name, "logits", tensors[name].min(), "to", tensors[name].max(), "deviation", tensors[name].std())
versions = dict(torch=torch.__version__, torchvision=torchvision.__version__, safetensors=safetensors.__version__)
metadata["made by"] = "tools/torchvision_golden.py with " + ", ".join(f"{p} {v}" for p, v in versions.items())
path = sys.argv[1] if len(sys.argv) > 1 else "tests/golden/torchvision.safetensors"
save_file(tensors, path, metadata=metadata)
