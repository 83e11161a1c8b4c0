#!/usr/bin/env python3
"""Writes tests/golden/pytorch.safetensors: what PyTorch computes, for tests/train/golden_test.cpp to compare with.

    python3 tools/golden.py [output]

Needs torch, numpy and safetensors; the committed file names the versions it was made with in its metadata. Everything is
computed in double on one CPU thread from fixed seeds, so running this again changes at most the last digits.

Layouts are Espalier's: activations [N,H,W,C], filters [K,R,S,C]. Weights of ResNet-20 are multiples of a power of two and
stored as bytes, value = (byte - 128) * scale, which is exact in float and keeps the file small.
"""

import copy
import sys

import numpy as np
import safetensors
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

torch.set_default_dtype(torch.float64)
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)

tensors = {}


def put(name, tensor):
    tensors[name] = np.array(tensor.detach().numpy(), order="C")


def last(x):
    """[N,C,H,W] to [N,H,W,C]; filters [K,C,R,S] to [K,R,S,C]."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


def gradients(name, y, named):
    """Stores the result y, a random cotangent dy, and the operands with their gradients."""
    dy = torch.randn(y.shape)
    y.backward(dy)
    put(f"{name}.y", last(y))
    put(f"{name}.dy", last(dy))
    for operand, x in named.items():
        put(f"{name}.{operand}", last(x))
        if x.grad is not None:
            put(f"{name}.d{operand}", last(x.grad))


def conv2d():
    cases = {  # C, K, size, options
        "plain": (3, 4, 3, dict(padding=1)),
        "strided": (4, 5, 3, dict(stride=2, padding=1)),
        "dilated": (2, 3, 3, dict(dilation=2, padding=2)),
        "grouped": (6, 4, 3, dict(groups=2)),
        "depthwise": (4, 4, 5, dict(groups=4, padding=2, stride=2)),
        "pointwise": (5, 7, 1, dict()),
        "even": (2, 3, 4, dict(stride=3)),
    }
    for case, (C, K, size, options) in cases.items():
        x = torch.randn(2, C, 9, 8, requires_grad=True)
        w = torch.randn(K, C // options.get("groups", 1), size, size, requires_grad=True)
        b = torch.randn(K, requires_grad=True)
        name = f"conv2d.{case}"
        gradients(name, F.conv2d(x, w, b, **options), dict(x=x, w=w, b=b))
        numbers = [options.get("stride", 1), options.get("padding", 0), options.get("dilation", 1), options.get("groups", 1)]
        put(f"{name}.options", torch.tensor(numbers))


def batch_norm():
    for case, training in dict(training=True, inference=False).items():
        name = f"batch_norm.{case}"
        x = (3 * torch.randn(4, 3, 5, 2) + 1).requires_grad_()
        gamma, beta = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
        mean, var = torch.randn(3), torch.rand(3) + 0.5
        put(f"{name}.mean_before", mean)
        put(f"{name}.var_before", var)
        y = F.batch_norm(x, mean, var, gamma, beta, training=training, momentum=0.3, eps=1e-3)
        gradients(name, y, dict(x=x, gamma=gamma, beta=beta))
        put(f"{name}.mean_after", mean)
        put(f"{name}.var_after", var)


def cross_entropy():
    for case, smoothing in dict(hard=0.0, smooth=0.1).items():
        logits = (5 * torch.randn(6, 7)).requires_grad_()
        labels = torch.randint(7, (6,))
        gradients(f"cross_entropy.{case}", F.cross_entropy(logits, labels, label_smoothing=smoothing), dict(logits=logits))
        put(f"cross_entropy.{case}.labels", labels)


def optimizers():
    made = {
        "sgd.plain": lambda p: torch.optim.SGD(p, lr=0.1),
        "sgd.momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "sgd.nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
        "adam.plain": lambda p: torch.optim.Adam(p, lr=0.1),
        "adam.decay": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.05),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.5),
    }
    for name, make in made.items():
        p = torch.nn.Parameter(torch.randn(3, 4))
        put(f"{name}.start", p)
        optimizer = make([p])
        g, after = torch.randn(6, 3, 4), []
        for gradient in g:
            p.grad = gradient.clone()
            optimizer.step()
            after.append(p.detach().clone())
        put(f"{name}.gradients", g)
        put(f"{name}.after", torch.stack(after))


def schedules():
    from torch.optim import lr_scheduler as s

    made = {
        "multi_step": (lambda o: s.MultiStepLR(o, [3, 7], gamma=0.2), 12),
        "cosine": (lambda o: s.CosineAnnealingLR(o, 12, eta_min=0.01), 13),
        "one_cycle": (lambda o: s.OneCycleLR(o, max_lr=0.5, total_steps=12, cycle_momentum=False), 12),
    }
    for name, (make, steps) in made.items():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        scheduler, rates = make(optimizer), []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        put(f"schedules.{name}", torch.tensor(rates))


class Block(torch.nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(outputs)
        self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x):
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        front = self.added // 2  # option A: zero channels in front and behind, every second pixel
        stream = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.added - front))
        return F.relu(stream + branch)


class ResNet20(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = torch.nn.BatchNorm2d(16)
        self.stage1 = torch.nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
        self.stage2 = torch.nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.stage3 = torch.nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = torch.nn.Linear(64, classes)

    def forward(self, x):
        y = F.relu(self.bn(self.conv(x)))
        return self.linear(self.stage3(self.stage2(self.stage1(y))).mean((2, 3)))


def resnet20(steps=20, pool=48):
    """Losses of two runs of `steps` steps from the same weights; step i trains on images [i * size, (i + 1) * size) of
    the pool, round and round. Rounding grows from step to step, since relu has kinks: at the usual rate of 0.05 even
    PyTorch in float leaves PyTorch in double by 1e-4 after three steps. So that run is for double, the gentle one for float.
    """
    net = ResNet20(classes=10)
    for name, parameter in net.named_parameters():
        if ".bn" in f".{name}":
            continue  # gamma 1, beta 0
        weight = torch.randn(parameter.shape) * (2 / max(1, parameter[0].numel())) ** 0.5
        scale = 2.0 ** torch.ceil(torch.log2(weight.abs().max() / 127))
        byte = torch.clamp(torch.round(weight / scale) + 128, 0, 255)
        parameter.data = (byte - 128) * scale
        put(f"resnet20.{name}", last(byte).to(torch.uint8))
        put(f"resnet20.{name}.scale", scale)
    labels = torch.arange(pool) % 10
    pattern = torch.randn(10, 3, 32, 32)
    images = torch.clamp(128 + 30 * pattern[labels] + 30 * torch.randn(pool, 3, 32, 32), 0, 255).to(torch.uint8)
    put("resnet20.images", last(images))
    put("resnet20.labels", labels)
    x = (images.to(torch.float64) - 128) / 64  # exact in float
    start = copy.deepcopy(net.state_dict())
    for run, rate, size in [("usual", 0.05, 8), ("gentle", 3e-4, 16)]:
        net.load_state_dict(start)
        net.train()
        optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
        losses = []
        for step in range(steps):
            rows = slice(step * size % pool, step * size % pool + size)
            loss = F.cross_entropy(net(x[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        net.eval()
        put(f"resnet20.{run}.losses", torch.stack(losses))
        put(f"resnet20.{run}.evaluated", F.cross_entropy(net(x), labels))
        put(f"resnet20.{run}.rate", torch.tensor(rate))
        put(f"resnet20.{run}.size", torch.tensor(size))


for number, subject in enumerate([conv2d, batch_norm, cross_entropy, optimizers, schedules, resnet20]):
    torch.manual_seed(20210602 + number)
    subject()
versions = dict(torch=torch.__version__, numpy=np.__version__, safetensors=safetensors.__version__)
text = "tools/golden.py with " + ", ".join(f"{package} {version}" for package, version in versions.items())
path = sys.argv[1] if len(sys.argv) > 1 else "tests/golden/pytorch.safetensors"
save_file(tensors, path, metadata={"made by": text})
print(f"{path}: {len(tensors)} tensors, by {text}")
