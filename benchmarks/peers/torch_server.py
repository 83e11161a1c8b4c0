"""PyTorch as a peer of kernels.cpp and step.cpp, with their protocol; and the judge of everybody's results.

    {"do": "load", "row": {...}, "path": "..."}       what they saved for the row -> relative errors of their results
    {"do": "prepare", "variant": "eager"}             build and warm it -> relative errors of its results
    {"do": "go", "variant": "eager", "seconds": 1}    -> milliseconds a call, over the row's "group" of calls at least

Everything is written as a user of PyTorch would write it. Variants are eager or compiled, each contiguous or channels last;
on a GPU networks also compiled with CUDA graphs, single operations also replayed from one. A row's "precision" is fp32, tf32
or bf16: autocast in networks, tensors of it in a convolution.
The reference of all errors is this file in double precision. An error is |result - reference| / |reference|, l2 norms: the
largest of the "results", and of the "gradients" of a network's weights together.
"""

import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

FLOW_WEIGHT = 0.1  # of both terms; step.cpp has the same


def read(path, prefix):
    """The tensors `prefix:name` of a file, by name and in that order. Maps and filters become [N,C,H,W]."""
    with safe_open(path, "pt") as file:
        return {key[len(prefix) + 1:]: planes(file.get_tensor(key))
                for key in sorted(file.keys()) if key.startswith(prefix + ":")}


def planes(tensor):
    return tensor.permute(0, 3, 1, 2) if tensor.dim() == 4 else tensor


def results_of_others(path):
    with safe_open(path, "pt") as file:
        names = {key.split(":")[0] for key in file.keys()} - {"in"}
    return {name: read(path, name) for name in names}


def relative_errors(result, reference):
    """The largest error of the results, and that of all gradients of weights together, where there are some."""
    def joined(tensors):
        gradients = [t.double().flatten() for name, t in sorted(tensors.items()) if name.startswith("gradient.")]
        rest = {name: t.double() for name, t in tensors.items() if not name.startswith("gradient.")}
        return {**rest, "gradients": torch.cat(gradients)} if gradients else rest
    result, reference = joined(result), joined(reference)
    if result.keys() != reference.keys():
        raise ValueError(f"expected results {sorted(reference)}, got {sorted(result)}")
    worst = {}
    for name, expected in reference.items():
        norm = expected.norm().item()
        error = (result[name].reshape(expected.shape) - expected).norm().item()
        error = error / norm if norm > 0 else error
        kind = "gradients" if name == "gradients" else "results"
        worst[kind] = max(worst.get(kind, 0.0), error if error == error else float("inf"))  # NaN
    return worst


def feature_flow(stages, weight):
    """The weighted length and curvature of the path through each stage's maps, l1 norm, mean over elements."""
    total = 0
    for maps in stages:
        steps = [after - before for before, after in zip(maps, maps[1:])]
        bends = [after - before for before, after in zip(steps, steps[1:])]
        for difference in steps + bends:
            total = total + weight * difference.abs().mean()
    return total


def set_precision(precision):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


def replayed(run):
    """It as a CUDA graph: a replay costs the host next to nothing."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # what is tuned or made once is so before the capture
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


class Kernel:
    """One operation, forward or forward and backward, rotating through sets of equal inputs."""

    def __init__(self, row, path):
        self.row = row
        self.device = torch.device(row.get("device", "cpu"))
        self.precision = row.get("precision", "fp32")
        set_precision(self.precision)
        self.inputs = {name: tensor.to(self.device) for name, tensor in read(path, "in").items()}
        self.calls = {}
        reference = self.results({name: t.double() if t.is_floating_point() else t for name, t in self.inputs.items()})
        self.reference = reference
        self.errors = {name: relative_errors({key: t.to(self.device) for key, t in result.items()}, reference)
                       for name, result in results_of_others(path).items()}

    def variants(self):
        if self.row["op"] == "sgd":
            return ["eager", "eager, fused SGD"]
        layouts = ["", ", channels last"] if any(t.dim() == 4 for t in self.inputs.values()) else [""]
        ways = ["eager"] if self.row["op"] == "conv" else ["eager", "compiled"]  # one convolution: nothing to fuse
        how = ["", ", replayed"] if self.device.type == "cuda" else [""]
        return [way + layout + once for way in ways for layout in layouts for once in how]

    def function(self):
        """y = f(tensors)"""
        row = self.row
        if row["op"] == "conv":
            strides, padding = [row["stride"]] * 2, [row["taps"] // 2] * 2
            if row["direction"] == "forward":
                return lambda x, w, dy: torch.conv2d(x, w, None, strides, padding)
            wanted = [row["direction"] == "data", row["direction"] == "weights", False]
            return lambda x, w, dy: torch.ops.aten.convolution_backward(
                dy, x, w, None, strides, padding, [1, 1], False, [0, 0], 1, wanted)[wanted.index(True)]
        if row["op"] == "batch_norm_relu":
            running = [make(row["channels"], device=self.device) for make in (torch.zeros, torch.ones)]
            return lambda x, gamma, beta: F.relu(
                F.batch_norm(x, *(t.to(x.dtype) for t in running) if x.dtype == torch.double else running, gamma, beta,
                             training=True), inplace=True)
        if row["op"] == "join":
            return lambda a, b: F.relu(a + b, inplace=True)
        if row["op"] == "max_pool":
            return lambda x: F.max_pool2d(x, 2)
        if row["op"] == "mean_pool":
            return lambda x: x.mean((2, 3))
        if row["op"] == "head":
            return lambda x, w, b, labels: F.cross_entropy(F.linear(x, w, b), labels)
        counts = [stage["maps"] for stage in row["stages"]]
        starts = [sum(counts[:i]) for i in range(len(counts))]
        return lambda **maps: feature_flow([list(maps.values())[s:s + n] for s, n in zip(starts, counts)], 1)

    def call(self, inputs, f):
        """A closure that does it once, and one that says what came out."""
        if self.row["op"] == "sgd":
            return self.sgd(inputs, fused=False)
        if self.row["op"] == "conv":
            def run():
                run.y = f(inputs["x"], inputs["w"], inputs["dy"])  # stays, as the output of a layer does
            return run, lambda: {"result": run.y}
        dy = inputs.get("dy")
        operands = {name: t.requires_grad_() if t.is_floating_point() else t for name, t in inputs.items() if name != "dy"}
        wanted = {name: t for name, t in operands.items() if t.requires_grad}

        def run():
            for tensor in wanted.values():
                tensor.grad = None
            y = f(**operands)
            y.backward(dy)
            run.y = y.detach()
        return run, lambda: {"y": run.y, **{"d" + name: t.grad for name, t in wanted.items()}}

    def sgd(self, inputs, fused):
        parameters = [nn.Parameter(t.clone()) for name, t in inputs.items() if name[0] == "p"]
        for parameter, name in zip(parameters, [name for name in inputs if name[0] == "p"]):
            parameter.grad = inputs["g" + name[1:]]
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, fused=fused)
        names = [name for name in inputs if name[0] == "p"]
        return optimizer.step, lambda: {name: p.detach() for name, p in zip(names, parameters)}

    def results(self, inputs):
        run, results = self.call({name: t.clone() for name, t in inputs.items()}, self.function() if self.row["op"] != "sgd" else None)
        run()
        run()  # twice, as kernels.cpp
        return results()

    def prepare(self, variant):
        layout = torch.channels_last if "channels last" in variant else torch.contiguous_format
        type_ = torch.bfloat16 if self.precision == "bf16" else torch.float32

        def laid_out(t):
            t = t.to(type_) if t.is_floating_point() else t
            return t.clone(memory_format=layout if t.dim() == 4 else torch.contiguous_format)
        if self.row["op"] == "sgd":
            run, results = self.sgd({name: laid_out(t) for name, t in self.inputs.items()}, fused="fused" in variant)
            runs = [run]
        else:
            f = self.function()
            if variant.startswith("compiled"):
                f = torch.compile(f, dynamic=False)
            calls = [self.call({name: laid_out(t) for name, t in self.inputs.items()}, f) for _ in range(self.row["sets"])]
            runs, results = [run for run, _ in calls], calls[0][1]
        runs[0]()
        runs[0]()
        errors = relative_errors(results(), self.reference)
        if variant.endswith("replayed"):
            runs = [replayed(run) for run in runs]
        at = 0

        def rotate():
            nonlocal at
            runs[at]()
            at = (at + 1) % len(runs)
        self.calls[variant] = rotate
        return errors


class Stage(nn.Module):
    """Convolutions with batch norm of a VGG, named conv1, bn1, conv2, ..."""

    def __init__(self, weights, prefix):
        super().__init__()
        self.count = 0
        while f"{prefix}.conv{self.count + 1}.weight" in weights:
            self.count += 1
            add_convolution(self, weights, prefix, f"conv{self.count}", f"bn{self.count}", 1)


def add_convolution(module, weights, prefix, conv, bn, stride):
    K, C, R, _ = weights[f"{prefix}.{conv}.weight" if prefix else f"{conv}.weight"].shape
    module.add_module(conv, nn.Conv2d(C, K, R, stride, R // 2, bias=False))
    module.add_module(bn, nn.BatchNorm2d(K))


class Vgg(nn.Module):
    def __init__(self, weights):
        super().__init__()
        for s in range(1, 6):
            self.add_module(f"stage{s}", Stage(weights, f"stage{s}"))
        self.linear = nn.Linear(*reversed(weights["linear.weight"].shape))

    def forward(self, x):
        flow = []
        for s in range(1, 6):
            stage = getattr(self, f"stage{s}")
            entry = x if s > 1 else None
            for i in range(1, stage.count + 1):
                x = F.relu(getattr(stage, f"bn{i}")(getattr(stage, f"conv{i}")(x)), inplace=True)
                if entry is not None or not flow or flow[-1][-1].shape != x.shape:
                    flow.append([entry, x] if entry is not None and entry.shape == x.shape else [x])
                    entry = None
                else:
                    flow[-1].append(x)
            if min(x.shape[2:]) >= 2:
                x = F.max_pool2d(x, 2)
        return self.linear(x.mean((2, 3))), flow


class Block(nn.Module):
    """Two convolutions around which every `stride`-th pixel passes, among zero channels at the places that are not `kept`."""

    def __init__(self, weights, prefix, stride):
        super().__init__()
        add_convolution(self, weights, prefix, "conv1", "bn1", stride)
        add_convolution(self, weights, prefix, "conv2", "bn2", 1)
        self.stride, self.kept = stride, weights.get(f"{prefix}.shortcut.kept")
        if self.kept is not None:
            channels, self.kept = len(self.kept), self.kept.tolist()
            self.front = self.kept[0] if self.kept == list(range(self.kept[0], self.kept[0] + channels)) else None

    def shortcut(self, x, width):
        if self.kept is None:
            return x
        x = x[:, :, ::self.stride, ::self.stride]
        if self.front is not None:
            return F.pad(x, (0, 0, 0, 0, self.front, width - self.front - x.shape[1]))
        y = x.new_zeros(x.shape[0], width, *x.shape[2:])
        y[:, self.kept] = x
        return y

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        stream = self.shortcut(x, y.shape[1])
        y += stream
        return F.relu(y, inplace=True), stream


class ResNet(nn.Module):
    def __init__(self, weights):
        super().__init__()
        add_convolution(self, weights, "", "conv", "bn", 1)
        for s in range(1, 4):
            blocks = 0
            while f"stage{s}.{blocks}.conv1.weight" in weights:
                blocks += 1
            self.add_module(f"stage{s}", nn.ModuleList(
                Block(weights, f"stage{s}.{b}", 2 if s > 1 and b == 0 else 1) for b in range(blocks)))
        self.linear = nn.Linear(*reversed(weights["linear.weight"].shape))

    def forward(self, x):
        flow = []
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        for s in range(1, 4):
            maps = []
            for block in getattr(self, f"stage{s}"):
                x, stream = block(x)
                maps += [x] if maps else [stream, x]
            flow.append(maps)
        return self.linear(x.mean((2, 3))), flow


def renamed(name):
    """A parameter of ours as PyTorch calls it."""
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")


class Network:
    """A training step, or inference, of a whole network."""

    def __init__(self, row, path):
        self.row = row
        self.device = torch.device(row.get("device", "cpu"))
        tensors = {name: tensor.to(self.device) for name, tensor in read(path, "in").items()}
        self.precision = row.get("precision", "fp32")
        set_precision(self.precision)
        self.images, self.labels = tensors.pop("images"), tensors.pop("labels")
        self.weights = tensors
        self.trains = row["task"] == "step"
        self.calls, self.errors, self.reference = {}, {}, None
        if not row.get("judged", True):
            return
        self.reference = self.results(self.network().double(), self.images.double())
        for name, result in results_of_others(path).items():
            result = {renamed(key): t for key, t in result.items() if not key.endswith(".constant")}
            self.errors[name] = relative_errors({key: t.to(self.device) for key, t in result.items()}, self.reference)

    def variants(self):
        graphs = ["reduce-overhead, channels last", "max-autotune, channels last"] if self.device.type == "cuda" else []
        return ["eager", "eager, channels last", "compiled", "compiled, channels last", *graphs]

    def network(self):
        net = (Vgg if self.row["model"].startswith("vgg") else ResNet)(self.weights)
        values = {renamed(name): t for name, t in self.weights.items() if not name.endswith((".constant", ".kept"))}
        missing, unexpected = net.load_state_dict(values, strict=False)
        if unexpected or any("num_batches_tracked" not in name for name in missing):
            raise ValueError(f"expected the same names, got none for {missing} and too many: {unexpected}")
        return net.to(self.device).train(self.trains)

    def forward(self, net, images):
        low = self.precision == "bf16" and images.dtype == torch.float32  # the reference stays in double
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            logits, flow = net(images)
        if not self.trains:
            return logits, None
        loss = F.cross_entropy(logits, self.labels)
        return logits, loss + feature_flow(flow, FLOW_WEIGHT) if self.row.get("flow") else loss

    def results(self, net, images, forward=None):
        forward = forward or self.forward
        if not self.trains:
            with torch.inference_mode():
                return {"logits": forward(net, images)[0].clone()}
        logits, loss = forward(net, images)
        loss.backward()
        return {"logits": logits.detach(), "loss": loss.detach(),
                **{f"gradient.{name}": p.grad for name, p in net.named_parameters()}}

    def prepare(self, variant):
        layout = torch.channels_last if "channels last" in variant else torch.contiguous_format
        net, images = self.network().to(memory_format=layout), self.images.contiguous(memory_format=layout)
        forward = self.forward
        how = variant.split(",")[0]
        if how != "eager":  # not dynamic: layouts differ between ways, and each is compiled for its own
            torch._inductor.config.freezing = not self.trains  # constant weights: batch norm is folded, filters are packed
            forward = torch.compile(self.forward, mode=None if how == "compiled" else how, dynamic=False)
        results = self.results(net, images, forward)
        errors = None if self.reference is None else relative_errors(results, self.reference)
        if not self.trains:
            def run():
                with torch.inference_mode():
                    forward(net, images)
        else:
            optimizer = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4, fused=True)

            def run():
                optimizer.zero_grad(set_to_none=True)
                forward(net, images)[1].backward()
                optimizer.step()
        run()
        self.calls[variant] = run
        return errors


def go(call, seconds, group):
    """Milliseconds a call; a group of calls passes between two looks at the clock, as in step.cpp and kernels.cpp."""
    start = time.perf_counter()
    iterations, passed = 0, 0
    while iterations == 0 or passed < seconds:
        for _ in range(group):
            call()
        iterations += group
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        passed = time.perf_counter() - start
    return 1e3 * passed / iterations


def main():
    task = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "about":
                answer = {"torch": torch.__version__, "threads": torch.get_num_threads(),
                          "capability": torch.backends.cpu.get_cpu_capability(),
                          "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                          "cudnn": torch.backends.cudnn.version(),
                          "onednn": next((w.split()[3] for w in torch.__config__.show().splitlines() if "MKL-DNN" in w), "")}
            elif request["do"] == "load":
                task = None  # frees the memory of the row before
                if "torch._dynamo" in sys.modules:  # else nothing was compiled; here, not between ways, which stay compiled
                    torch._dynamo.reset()
                row = request["row"]
                task = (Network if "task" in row else Kernel)(row, request["path"])
                answer = {"variants": task.variants(), "errors": task.errors}
            elif request["do"] == "prepare":
                answer = {"errors": task.prepare(request["variant"])}
            elif request["do"] == "go":
                answer = {"ms": go(task.calls[request["variant"]], request["seconds"], task.row.get("group", 1))}
            else:
                raise ValueError(f"expected a command, got {request}")
        except Exception as error:  # whatever goes wrong in a compiler: the driver prints it and goes on without
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    ANSWERS = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what compilers print on the standard output is no answer
    main()
