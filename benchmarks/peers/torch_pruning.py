"""Torch-Pruning as a peer of pruning.cpp, with its protocol; and the judge of its results.

    {"do": "load", "model": "vgg16", "path": "..."}   weights, images, labels, scores and logits -> difference of the logits
    {"do": "groups"}                                  -> the channels of all groups that may be cut, milliseconds
    {"do": "prune", "criterion": "l1", "rule": "theirs", "ranking": "local", "ratio": 0.5, "path": "..."}
                                                      -> what the network that pruning.cpp left at `path` has in common with
                                                         the one pruned here

Networks are written as a user of PyTorch would, under the names of our files. `rule` says whose formula a criterion takes:
"theirs" is the class of Torch-Pruning as it comes, "ours" an Importance written here, as its users write their own.
"""

import copy
import json
import os
import sys
import time

sys.path.remove(os.path.dirname(os.path.abspath(__file__)))  # this file has the name of the package

import torch
import torch.nn.functional as F
import torch_pruning as tp
from safetensors.torch import load_file
from torch import nn


# Networks

def convolution(inputs, outputs, size=3, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


class Stage(nn.Module):
    def forward(self, x):
        for i in range(1, len(self._modules) // 2 + 1):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return x


class Vgg16(nn.Module):
    def __init__(self):
        super().__init__()
        channels = 3
        for s, (count, width) in enumerate(zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512))):
            stage = Stage()
            for i in range(1, count + 1):
                stage.add_module(f"conv{i}", convolution(channels, width))
                stage.add_module(f"bn{i}", nn.BatchNorm2d(width))
                channels = width
            self.add_module(f"stage{s + 1}", stage)
        self.linear = nn.Linear(channels, 10)

    def forward(self, x):
        for s in range(1, 6):
            x = F.max_pool2d(getattr(self, f"stage{s}")(x), 2)
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, padded):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = convolution(outputs, outputs), nn.BatchNorm2d(outputs)
        self.front = (outputs - inputs) // 2 if padded and inputs != outputs else 0
        if inputs != outputs and not padded:
            self.projection, self.projection_bn = convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.front:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.front, self.front))
        elif hasattr(self, "projection"):
            x = self.projection_bn(self.projection(x))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, depth, padded=False):
        super().__init__()
        self.conv, self.bn = convolution(3, 16), nn.BatchNorm2d(16)
        channels = 16
        for s, width in enumerate((16, 32, 64)):
            blocks = nn.Sequential()
            for b in range((depth - 2) // 6):
                blocks.append(Block(channels, width, 2 if s > 0 and b == 0 else 1, padded))
                channels = width
            self.add_module(f"stage{s + 1}", blocks)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.stage3(self.stage2(self.stage1(F.relu(self.bn(self.conv(x))))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class PreactivatedConv(nn.Module):
    def __init__(self, inputs, outputs, size):
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(inputs), convolution(inputs, outputs, size)

    def forward(self, x):
        return self.conv(F.relu(self.bn(x)))


class DenseNet(nn.Module):
    def __init__(self, depth, growth):
        super().__init__()
        layers, channels = (depth - 4) // 6, 2 * growth
        self.conv = convolution(3, channels)
        for b in range(1, 4):
            block = nn.Module()
            for l in range(layers):
                block.add_module(f"squeeze{l}", PreactivatedConv(channels, 4 * growth, 1))
                block.add_module(f"grow{l}", PreactivatedConv(4 * growth, growth, 3))
                channels += growth
            self.add_module(f"block{b}", block)
            if b < 3:
                self.add_module(f"transition{b}", PreactivatedConv(channels, channels // 2, 1))
                channels //= 2
        self.layers, self.bn, self.linear = layers, nn.BatchNorm2d(channels), nn.Linear(channels, 10)

    def forward(self, x):
        x = self.conv(x)
        for b in range(1, 4):
            block = getattr(self, f"block{b}")
            for l in range(self.layers):
                x = torch.cat([x, getattr(block, f"grow{l}")(getattr(block, f"squeeze{l}")(x))], 1)
            if b < 3:
                x = F.avg_pool2d(getattr(self, f"transition{b}")(x), 2)
        return self.linear(F.adaptive_avg_pool2d(F.relu(self.bn(x)), 1).flatten(1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        self.joins = stride == 1 and inputs == outputs
        if expansion != 1:
            self.expand, self.expand_bn = convolution(inputs, wide, 1), nn.BatchNorm2d(wide)
        self.depthwise, self.depthwise_bn = convolution(wide, wide, 3, stride, wide), nn.BatchNorm2d(wide)
        self.project, self.project_bn = convolution(wide, outputs, 1), nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = F.relu6(self.expand_bn(self.expand(x))) if hasattr(self, "expand") else x
        y = self.project_bn(self.project(F.relu6(self.depthwise_bn(self.depthwise(y)))))
        return x + y if self.joins else y


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, channels, self.count = convolution(3, 32), nn.BatchNorm2d(32), 32, 0
        for expansion, width, blocks, stride in ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                                 (6, 160, 3, 2), (6, 320, 1, 1)):
            for b in range(blocks):
                self.count += 1
                self.add_module(f"block{self.count}", InvertedResidual(channels, width, stride if b == 0 else 1, expansion))
                channels = width
        self.head, self.head_bn = convolution(channels, 1280, 1), nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, 10)

    def forward(self, x):
        x = F.relu6(self.bn(self.conv(x)))
        for b in range(1, self.count + 1):
            x = getattr(self, f"block{b}")(x)
        return self.linear(F.adaptive_avg_pool2d(F.relu6(self.head_bn(self.head(x))), 1).flatten(1))


NETWORKS = {"vgg16": Vgg16, "resnet20": lambda: ResNet(20), "resnet56": lambda: ResNet(56),
            "resnet20, option A": lambda: ResNet(20, padded=True), "densenet-bc-100-12": lambda: DenseNet(100, 12),
            "mobilenetv2": MobileNetV2}


# Names and orders of our files

def renamed(name):
    """A parameter of ours as PyTorch calls it."""
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")


def in_our_order(tensor):
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


def in_their_order(tensor):
    return tensor.permute(0, 3, 1, 2).contiguous() if tensor.dim() == 4 else tensor


def is_weight(name):
    return not name.startswith(("images", "labels", "logits", "scores:")) and not name.endswith((".kept", ".constant"))


def entries(module, is_output):
    """Names (of ours) and axes of what pruning the channels of a layer slices."""
    if isinstance(module, nn.BatchNorm2d):
        return [(name, 0) for name in ("gamma", "beta", "running_mean", "running_var")]
    axis = 0 if is_output else 3 if isinstance(module, nn.Conv2d) else 1
    return [("weight", axis)] + ([("bias", 0)] if is_output and module.bias is not None else [])


# Criteria, by our formulas: for each layer that makes channels, a score each; several layers count by their mean

class OverMakers(tp.importance.Importance):
    def __init__(self, score, normalization):
        self.normalize = tp.importance.MagnitudeImportance(normalizer=normalization)._normalize
        self.normalization = normalization
        self.score = score  # of (layer, name of the layer): one number for each of its filters
        self.makers = (tp.prune_conv_out_channels, tp.prune_linear_out_channels, tp.prune_depthwise_conv_out_channels)

    @torch.no_grad()
    def __call__(self, group):
        total, count = torch.zeros(len(group[0].idxs), dtype=torch.float64), 0
        for item in group:
            layer, handler = item.dep.target.module, item.dep.handler
            if handler in self.makers:
                name = item.dep.target.name.split(" ")[0]
                total.index_add_(0, torch.tensor(item.root_idxs), self.score(layer, name)[item.idxs])
                count += 1
        return self.normalize(total / count, self.normalization)


def filters(weight):
    return weight.double().flatten(1)


def criterion(request, scores):
    importance, name = tp.importance, request["criterion"]
    if request["rule"] == "theirs":
        return {"l1": lambda: importance.MagnitudeImportance(p=1), "l2": lambda: importance.MagnitudeImportance(p=2),
                "bn scale": importance.BNScaleImportance, "fpgm": importance.FPGMImportance,
                "taylor": importance.TaylorImportance}[name]()
    normalization = request["normalization"] if request["normalization"] != "none" else None
    return OverMakers({
        "given": lambda _, name: scores[name + ".weight"].double(),
        "l1": lambda layer, _: filters(layer.weight).abs().sum(1),
        "l2": lambda layer, _: filters(layer.weight).norm(dim=1),
        "fpgm": lambda layer, _: torch.cdist(filters(layer.weight), filters(layer.weight)).sum(1),
        "taylor": lambda layer, _: (filters(layer.weight) * filters(layer.weight.grad)).square().sum(1),
    }[name], normalization)


class Task:
    def __init__(self, request):
        file = load_file(request["path"])
        self.net = NETWORKS[request["model"]]()
        values = {renamed(name): in_their_order(t) for name, t in file.items() if is_weight(name)}
        missing, unexpected = self.net.load_state_dict(values, strict=False)
        if unexpected or any("num_batches_tracked" not in name for name in missing):
            raise ValueError(f"expected the same names, got none for {missing} and too many: {unexpected}")
        self.net.eval()
        self.images, self.labels = in_their_order(file["images"]), file["labels"]
        self.scores = {name[len("scores:"):]: t for name, t in file.items() if name.startswith("scores:")}
        self.error = difference(self.logits(self.net), file["logits"])

    def logits(self, net):
        with torch.inference_mode():
            return net(self.images)

    def graph(self, net):
        return tp.DependencyGraph().build_dependency(net, example_inputs=self.images[:1])

    def groups(self, request):
        start = time.perf_counter()
        graph = self.graph(self.net)
        groups = list(graph.get_all_groups(ignored_layers=[self.net.linear], root_module_types=[nn.Conv2d, nn.Linear]))
        passed = time.perf_counter() - start
        paths = {module: name for name, module in self.net.named_modules()}
        channels = []
        for group in groups:
            found = [set() for _ in group[0].idxs]
            for i, (dep, idxs) in enumerate(group):
                if dep.target.module not in paths:
                    continue  # an operation, not a layer
                for name, axis in entries(dep.target.module, graph.is_out_channel_pruning_fn(dep.handler)):
                    for index, root in zip(idxs, group[i].root_idxs):
                        found[root].add((f"{paths[dep.target.module]}.{name}", axis, index))
            channels += [sorted(channel) for channel in found]
        return {"channels": channels, "groups": len(groups), "ms": 1e3 * passed}

    def prune(self, request):
        net = copy.deepcopy(self.net)
        if request["criterion"] == "taylor":
            F.cross_entropy(net(self.images), self.labels).backward()
        start = time.perf_counter()
        pruner = tp.pruner.BasePruner(
            net, self.images[:1], criterion(request, self.scores),
            global_pruning=request["ranking"] == "global", pruning_ratio=request["ratio"], ignored_layers=[net.linear])
        pruner.step()
        passed = time.perf_counter() - start
        file = load_file(request["path"])
        # Weights are random, so equal bits are the same channels.
        state = net.state_dict()
        differing = [name for name, t in file.items()
                     if is_weight(name) and not torch.equal(in_our_order(state[renamed(name)]), t)]
        widths = {name: [in_our_order(state[renamed(name)]).shape[0], t.shape[0]] for name, t in file.items()
                  if is_weight(name) and in_our_order(state[renamed(name)]).shape != t.shape and t.dim() > 1}
        count = lambda module: sum(p.numel() for p in module.parameters())
        return {"parameters": count(net), "differing": differing, "widths": widths, "ms": 1e3 * passed,
                "error_of_logits": difference(self.logits(net), file["logits"])}


def difference(result, reference):
    """Largest difference over largest logit."""
    return ((result - reference).abs().max() / reference.abs().max()).item()


def main():
    task = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if request["do"] == "about":
                answer = {"torch": torch.__version__, "torch_pruning": tp.__version__}
            elif request["do"] == "load":
                task = Task(request)
                answer = {"error_of_logits": task.error}
            else:
                answer = {"groups": task.groups, "prune": task.prune}[request["do"]](request)
        except Exception as error:  # the peer's, too: what it can't do is a result
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
