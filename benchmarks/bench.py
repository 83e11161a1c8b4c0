#!/usr/bin/env python3
"""Espalier beside PyTorch and oneDNN: kernels, training steps, inference, memory. `./run bench` builds what it needs.

usage: bench.py [--quick] [--filter REGEX] [--rounds N] ...     all options: --help

Three programs answer its requests (kernels.cpp, step.cpp, peers/torch_server.py) and take turns, a round of each, with
the same inputs, weights, threads and processors, warmed up. Medians of all rounds go to benchmarks/results.json and, as a
table that says what its columns mean, to benchmarks/RESULTS.md. A row whose results are further from a reference in double
precision than its tolerance does not count, on either side. Each row is written when it is done.

With --quick or --filter the two files go to build/bench/ instead. All shapes are in this file.
"""

import argparse
import json
import math
import os
import platform
import re
import select
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build/bench"

# Relative l2 errors that still count. oneDNN adds up the 131,072 terms of a weight's gradient on 64x64 maps one after the
# other in float, which costs 1e-5. In a network, a rectifier at a value that rounding takes across zero switches a whole
# gradient.
TOLERANCE = {"conv": 2e-5, "op": 2e-5, "step": 2e-2, "inference": 1e-4}
LARGE_MB = 4096  # of a side between two rows: it starts anew
QUICK = r"conv/(3x64x32|64x64x32|256x256x8|16x16x32)/|batch_norm_relu/64x32|flow/resnet56|step/resnet20$|inference/resnet56/1$"


# What is measured

def row(name, kind, request, flops=0, floor_flops=0, bytes=0):
    """flops: of the textbook algorithm, padding counted. floor_flops: of the fewest operations known. bytes: least traffic."""
    return {"name": name, "kind": kind, "request": request, "flops": flops, "floor_flops": floor_flops, "bytes": bytes}


def valid_taps(extent, taps, stride):
    """Taps that fall on the map, summed over one axis of a same-padded convolution."""
    padding = taps // 2
    return sum(min(extent, p + taps - padding) - max(0, p - padding) for p in range(0, extent, stride))


def fast_macs(batch, extent, channels, filters, taps, stride):
    """Multiply-adds of the fewest: F(4x4,3x3), the 9-product form of 2x2 maps, or the taps that fall on the map."""
    macs = valid_taps(extent, taps, stride) ** 2
    if taps == 3 and stride == 1 and channels > 3:
        if extent == 2:
            macs = 9
        elif extent > 2:
            macs = min(macs, 36 * math.ceil(extent / 4) ** 2)
    return batch * channels * filters * macs


def network_convolutions(model, extent):
    """(channels, filters, extent of the input, stride) of each 3x3 convolution, in order."""
    if model.startswith("vgg"):
        counts = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}[model]
        shapes, channels = [], 3
        for s, (count, filters) in enumerate(zip(counts, (64, 128, 256, 512, 512))):
            for _ in range(count):
                shapes.append((channels, filters, extent >> s, 1))
                channels = filters
        return shapes
    blocks = (int(model.removeprefix("resnet")) - 2) // 6
    shapes, channels = [(3, 16, extent, 1)], 16
    for s, filters in enumerate((16, 32, 64)):
        for b in range(2 * blocks):
            first = s > 0 and b == 0
            shapes.append((channels, filters, extent >> (s - first), 2 if first else 1))
            channels = filters
    return shapes


def convolution_rows():
    shapes = {}
    for extent in (32, 64):
        for model in ("vgg16", "resnet20", "resnet56", "resnet110"):
            shapes.update(dict.fromkeys(network_convolutions(model, extent)))
    for width in (37, 49, 61):  # widths that pruning leaves
        shapes[width, width, 16, 1] = None
    rows = []
    for channels, filters, extent, stride in sorted(shapes, key=lambda s: (s[2], s)):
        for direction in ("forward", "data", "weights"):
            if channels == 3 and direction == "data":
                continue  # nobody asks for the gradient of images
            shape = {"batch": 32, "extent": extent, "channels": channels, "filters": filters, "taps": 3, "stride": stride}
            elements = 32 * channels * extent ** 2 + 9 * channels * filters + 32 * filters * (extent // stride) ** 2
            rows.append(row(f"conv/{channels}x{filters}x{extent}{'s2' if stride == 2 else ''}/{direction}", "conv",
                            {"op": "conv", "direction": direction, **shape},
                            flops=2 * 32 * channels * filters * 9 * (extent // stride) ** 2,
                            floor_flops=2 * fast_macs(**shape), bytes=4 * elements))
    return rows


def operation_rows():
    """Forward and backward together. Least traffic: each pass over a map that one after the other needs."""
    rows = []

    def add(name, passes, elements, request, flops=0):
        rows.append(row(name, "op", request, flops, flops, 4 * passes * elements))

    for channels, extent in ((64, 32), (512, 4), (16, 32), (64, 8)):
        map_ = {"batch": 128, "extent": extent, "channels": channels}
        elements = 128 * extent ** 2 * channels
        add(f"batch_norm_relu/{channels}x{extent}", 8, elements, {"op": "batch_norm_relu", **map_})
        if (channels, extent) in ((16, 32), (64, 8)):
            add(f"join/{channels}x{extent}", 6, elements, {"op": "join", **map_})
    for channels, extent in ((64, 32), (512, 4)):
        add(f"max_pool/{channels}x{extent}", 2.5, 128 * extent ** 2 * channels,
            {"op": "max_pool", "batch": 128, "extent": extent, "channels": channels})
    add("mean_pool/64x8", 2, 128 * 64 * 64, {"op": "mean_pool", "batch": 128, "extent": 8, "channels": 64})
    for channels in (512, 64):
        add(f"head/{channels}", 2, 128 * channels, {"op": "head", "batch": 128, "channels": channels, "classes": 10},
            flops=3 * 2 * 128 * 10 * channels)
    for model in ("vgg16", "resnet56"):
        sizes = [size for c, k, _, _ in network_convolutions(model, 32) for size in (9 * c * k, k, k)]
        sizes += [10 * (512 if model == "vgg16" else 64), 10]
        add(f"sgd/{model}", 5, sum(sizes), {"op": "sgd", "sizes": sizes})
    stages = [{"batch": 128, "extent": 32 >> s, "channels": 16 << s, "maps": 10} for s in range(3)]
    add("flow/resnet56", 2, sum(10 * 128 * s["extent"] ** 2 * s["channels"] for s in stages),
        {"op": "flow", "stages": stages})
    return rows


def network_rows():
    """Floors of networks are filled in from the weights that step.cpp saved: pruning chooses the widths."""
    rows = []
    for model in ("vgg16", "vgg19", "resnet20", "resnet56", "resnet110"):
        for flow in (False, True):
            rows.append(row(f"step/{model}{'+flow' if flow else ''}", "step",
                            {"task": "step", "model": model, "batch": 128, "extent": 32, "flow": flow}))
    prunings = {"": {}, "+pruned": {"keep_macs": 0.5}, "+pruned8": {"keep_macs": 0.5, "round_to": 8}}
    for model in ("vgg16", "resnet56"):
        for name, pruning in prunings.items():
            if pruning:
                rows.append(row(f"step/{model}{name}", "step",
                                {"task": "step", "model": model, "batch": 128, "extent": 32, **pruning}))
        rows.append(row(f"step/{model}@64", "step", {"task": "step", "model": model, "batch": 128, "extent": 64}))
        for batch in (1, 128):
            for name, pruning in prunings.items():
                rows.append(row(f"inference/{model}{name}/{batch}", "inference",
                                {"task": "inference", "model": model, "batch": batch, "extent": 32, **pruning}))
    rows.append(row("memory/resnet110", "memory",
                    {"task": "step", "model": "resnet110", "batch": 128, "extent": 32, "judged": False}))
    return rows


def shapes_of(path):
    """Name -> extents of the tensors of a safetensors file."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return {name: entry["shape"] for name, entry in json.loads(file.read(length)).items() if name != "__metadata__"}


def network_cost(shapes, request):
    """What a saved network takes: flops, floor_flops, bytes, and `kept`, the bytes that its backward pass must keep.

    Kept are the input of every convolution and of every batch norm, the last map, and of each parameter the value, the
    gradient and the momentum.
    """
    batch, trains = request["batch"], request["task"] == "step"
    flops = fast = maps = last = parameters = 0
    for name, shape in shapes.items():
        if not name.startswith("in:") or name.startswith("in:images") or name.endswith((".running_mean", ".running_var")):
            continue
        parameters += math.prod(shape) if not name.endswith((".kept", ":labels")) else 0
        if len(shape) != 4:
            continue
        filters, _, _, channels = shape
        stage = int(match[1]) if (match := re.match(r"in:stage(\d)\.", name)) else 1
        stride = 2 if re.match(r"in:stage[23]\.0\.conv1\.", name) else 1
        extent = request["extent"] >> (stage - 1) << (stride - 1)
        passes = (2 if channels == 3 else 3) if trains else 1
        flops += passes * 2 * batch * 9 * channels * filters * (extent // stride) ** 2
        fast += passes * 2 * fast_macs(batch, extent, channels, filters, 3, stride)
        last = batch * filters * (extent // stride) ** 2
        maps += batch * channels * extent ** 2 + last
    return {"flops": flops, "floor_flops": fast, "bytes": 4 * parameters, "kept": 4 * (maps + last + 3 * parameters)}


# Who measures

class PeerError(RuntimeError):
    pass


class PeerLost(PeerError):
    """It ended or is late with an answer: what comes next needs a new one."""


class Server:
    """A program that answers requests, a line of JSON each."""

    def __init__(self, command, environment):
        self.command = [str(word) for word in command]
        self.log = open(WORK / (Path(self.command[-1]).stem + ".log"), "ab")
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        env=environment, bufsize=0, start_new_session=True)

    def ask(self, do, limit=600, **request):
        """@raise PeerError if the answer is an error, does not come in time, or the program ends"""
        try:
            self.process.stdin.write((json.dumps({"do": do, **request}) + "\n").encode())
        except BrokenPipeError:
            pass  # what follows says it
        line, end = b"", time.monotonic() + limit
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise PeerLost(f"expected an answer within {limit:.0f} s, got none")
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part:
                raise PeerLost(f"{self.command[-1]} ended with exit code {self.process.wait()}; see {self.log.name}")
            line += part
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def resident(self, key):
        """MB of `key` in /proc: VmHWM is the peak, VmRSS what is there now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+) kB", status, re.M)[1]) / 1024

    def close(self):
        try:
            os.killpg(self.process.pid, 9)  # compilers that it started, too
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()


class Bench:
    def __init__(self, options):
        self.options = options
        WORK.mkdir(parents=True, exist_ok=True)
        for log in WORK.glob("*.log"):
            log.unlink()
        cpus = sorted(os.sched_getaffinity(0))[:options.threads]
        os.sched_setaffinity(0, cpus)  # inherited by all sides
        self.environment = dict(os.environ, OMP_NUM_THREADS=str(len(cpus)), MKL_NUM_THREADS=str(len(cpus)),
                                TORCHINDUCTOR_CACHE_DIR=str(WORK / "inductor"))
        for name in ("OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
            self.environment.pop(name, None)
        # PyTorch allocates every map anew. Left alone, glibc returns the large ones to the system each time, and fresh
        # pages cost an eager step a sixth of its time; PyTorch's tuning guide, too, says to change the allocator.
        self.keep_memory = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(1 << 28)}
        self.servers = {}
        self.cache = last_level_cache()
        self.machine = {"name": "machine", "cpu": cpu_name(), "threads": len(cpus), "cpus": cpus,
                        "instructions": vector_instructions(), "matrix_unit": has_matrix_unit(),
                        "last_level_cache_mb": self.cache / 2 ** 20,
                        "OMP_NUM_THREADS": len(cpus), "rounds": options.rounds, "system": platform.platform()}

    def server(self, kind, keeps_memory=True):
        """The running one, or a new one."""
        if kind not in self.servers:
            command = {"kernels": [self.options.programs / "kernels"], "step": [self.options.programs / "step"],
                       "torch": [self.options.python, ROOT / "benchmarks/peers/torch_server.py"]}[kind]
            self.servers[kind] = Server(command, {**self.environment, **(self.keep_memory if keeps_memory else {})})
        return self.servers[kind]

    def stop(self, *kinds):
        for kind in kinds or list(self.servers):
            if kind in self.servers:
                self.servers.pop(kind).close()

    def look_around(self):
        """Versions, and the ceilings of the machine."""
        ours, peer = self.server("kernels").ask("about"), self.server("torch").ask("about")
        self.machine.update(lanes=ours["lanes"], onednn=ours["onednn"], torch=peer["torch"], torch_threads=peer["threads"],
                            torch_capability=peer["capability"], torch_onednn=peer["onednn"])
        fma, floats = 200000, 2 * self.cache // 4
        for name, request, work in (("peak_gflops", {"op": "peak", "rounds": fma},
                                     2e-6 * ours["sums"] * ours["lanes"] * fma * ours["threads"]),
                                    ("copy_gb_per_s", {"op": "copy", "floats": floats}, 8e-6 * floats)):
            self.server("kernels").ask("load", row=request)
            times = [self.server("kernels").ask("go", variant="espalier", seconds=0.2)["ms"]
                     for _ in range(max(3, self.options.rounds))]
            self.machine[name] = work / statistics.median(times)
        print(f"{self.machine['cpu']}, {self.machine['instructions']}, {len(self.machine['cpus'])} threads on CPUs "
              f"{self.machine['cpus']}; peak {self.machine['peak_gflops']:.0f} GFLOP/s, copy "
              f"{self.machine['copy_gb_per_s']:.1f} GB/s; PyTorch {peer['torch']} ({peer['capability']}, {peer['threads']} "
              f"threads, oneDNN {peer['onednn']}), oneDNN {ours['onednn']}", flush=True)

    def prepare_torch(self, request, path):
        """Errors of all that were saved, of PyTorch's variants too; why a variant is missing; seconds that each one took."""
        failed, seconds = {}, {}
        while True:  # a compiler that takes too long is ended with its server, and everything else done again
            loaded = self.server("torch").ask("load", row=request, path=str(path))
            wanted = [v for v in loaded["variants"] if v not in failed and
                      (self.options.compile or not v.startswith("compiled"))]
            errors = {variant: max(of.values()) for variant, of in loaded["errors"].items()}
            for variant in wanted:
                limit = self.options.compile_seconds if variant.startswith("compiled") else 600
                begin = time.monotonic()
                try:
                    errors[variant] = max(self.server("torch").ask("prepare", limit, variant=variant)["errors"].values())
                    seconds[variant] = round(time.monotonic() - begin, 1)
                except PeerError as error:
                    failed[variant] = str(error)
                    if isinstance(error, PeerLost):
                        self.stop("torch")
                        break
            else:
                return errors, failed, seconds

    def measure(self, row):
        if row["kind"] == "memory":
            return self.measure_memory(row)
        # What glibc keeps of one row after another would add up to more memory than there is.
        for kind in [kind for kind, server in self.servers.items() if server.resident("VmRSS") > LARGE_MB]:
            self.stop(kind)
        program = "step" if "task" in row["request"] else "kernels"
        request = dict(row["request"])
        if program == "kernels":
            request["sets"] = max(1, math.ceil(2 * self.cache / row["bytes"]))  # together twice the last-level cache
        path = WORK / "row.safetensors"
        ours = self.server(program)
        ours_variants = ours.ask("load", row=request)["variants"]
        ours.ask("save", path=str(path))
        if program == "step":
            row.update(network_cost(shapes_of(path), request))
        errors, failed, prepared = self.prepare_torch(request, path)
        sides = {variant: ours for variant in ours_variants}
        sides.update({variant: self.server("torch") for variant in errors if variant not in sides})
        seconds = self.options.seconds * (10 if row["kind"] == "step" else 3 if row["kind"] == "inference" else 1)
        times = {variant: [] for variant in sides}
        for round_ in range(-1, self.options.rounds):  # the first warms up, one call or so, and does not count
            for variant, server in sides.items():
                ms = server.ask("go", variant=variant, seconds=seconds if round_ >= 0 else 0.01)["ms"]
                if round_ >= 0:
                    times[variant].append(ms)
        return {**summary(row, times, errors, failed, self.machine), "prepare_s": prepared}

    def measure_memory(self, row):
        """Each side in a process of its own: the largest it ever was."""
        path = WORK / "row.safetensors"
        self.stop()
        peaks, libraries = {}, {}

        def watch(variant, server, **load):
            server.ask("load", row=row["request"], **load)
            if load:
                server.ask("prepare", variant=variant)
            for _ in range(2):
                server.ask("go", variant=variant, seconds=0)
            peaks[variant] = server.resident("VmHWM")

        server = self.server("step")
        server.ask("load", row=row["request"])
        server.ask("save", path=str(path))
        self.stop("step")
        watch("espalier", self.server("step", keeps_memory=False))
        for variant in ("eager", "eager, channels last"):
            self.stop()
            server = self.server("torch", keeps_memory=False)
            server.ask("about")
            libraries[variant] = server.resident("VmRSS")  # imported, no more
            watch(variant, server, path=str(path))
        self.stop()
        kept = network_cost(shapes_of(path), row["request"])["kept"] / 2 ** 20
        peer = min((v for v in peaks if v != "espalier"), key=peaks.get)
        return {"name": row["name"], "ours_ms": None, "peer": full_name(peer, self.machine), "peer_ms": None,
                "ratio": peaks[peer] / peaks["espalier"], "share_of_floor": kept / peaks["espalier"], "error": None,
                "ours_mb": peaks["espalier"], "peer_mb": peaks[peer], "kept_mb": kept, "peaks_mb": peaks,
                "libraries_mb": libraries[peer]}


def full_name(variant, machine):
    return variant.replace("oneDNN", f"oneDNN {machine['onednn']}") if variant.startswith("oneDNN") else \
        f"PyTorch {machine['torch']} {variant}"


def summary(row, times, errors, failed, machine):
    """A row of results.json."""
    medians = {variant: statistics.median(ms) for variant, ms in times.items()}
    tolerance = TOLERANCE[row["kind"]]
    wrong = {v: f"error {e:.1e} above {tolerance:.0e}" for v, e in errors.items() if not e <= tolerance}  # NaN is wrong
    peers = [v for v in medians if v != "espalier" and v not in wrong]
    best = min(peers, key=medians.get) if peers else None
    ms = medians["espalier"]
    counts = best is not None and "espalier" not in wrong
    floor = 1e3 * max(row["floor_flops"] / (1e9 * machine["peak_gflops"]), row["bytes"] / (1e9 * machine["copy_gb_per_s"]))
    return {"name": row["name"], "ours_ms": ms, "ours_min_ms": min(times["espalier"]), "ours_max_ms": max(times["espalier"]),
            "peer": full_name(best, machine) if best else None, "peer_ms": medians[best] if best else None,
            "peer_min_ms": min(times[best]) if best else None, "peer_max_ms": max(times[best]) if best else None,
            "ratio": medians[best] / ms if counts else None, "share_of_floor": floor / ms,
            "error": errors.get("espalier"), "tolerance": tolerance, "gflops": row["flops"] / ms * 1e-6,
            "gb_per_s": row["bytes"] / ms * 1e-6, "gflop": row["flops"] * 1e-9, "floor_ms": floor,
            "times_ms": {v: {"median": medians[v], "min": min(t), "max": max(t)} for v, t in times.items()},
            "errors": errors, "missing": {**failed, **wrong}}


# What is written

def number(value, digits=3):
    """Three digits that count, no exponents."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def ratio_text(result):
    if result["ratio"] is None:
        return "does not count"
    return f"{result['ratio']:.2f}" + (" (slower)" if result["ratio"] < 1 else "")


def short(peer):
    """`PyTorch 2.5 eager, channels last` -> `PyTorch eager, channels last`: versions are said once, above."""
    return re.sub(r"^(PyTorch|oneDNN) \S+( \(.*?\))?", r"\1", peer or "none")


def table(results):
    lines = ["| row | ours, ms | (min to max) | fastest peer | its ms | (min to max) | ratio | GFLOP/s | of the floor | error |",
             "| --- | --: | --: | --- | --: | --: | --: | --: | --: | --: |"]
    for r in results:
        lines.append("| " + " | ".join((
            r["name"], number(r["ours_ms"]), f"{number(r['ours_min_ms'])} to {number(r['ours_max_ms'])}", short(r["peer"]),
            number(r["peer_ms"]), f"{number(r['peer_min_ms'])} to {number(r['peer_max_ms'])}" if r["peer"] else "",
            ratio_text(r), number(r["gflops"]) if r["gflops"] else "", f"{100 * r['share_of_floor']:.0f} %",
            f"{r['error']:.1e}" if r["error"] is not None else "")) + " |")
    return lines


def peers_table(results):
    variants = list(dict.fromkeys(v for r in results for v in r["times_ms"] if v != "espalier"))
    lines = ["| row | " + " | ".join(variants) + " |", "| --- |" + " --: |" * len(variants)]
    for r in results:
        cells = []
        for v in variants:
            cells.append(number(r["times_ms"][v]["median"]) if v in r["times_ms"] else "")
            if v in r["missing"]:
                cells[-1] = f"{cells[-1]} [{r['missing'][v].splitlines()[0][:60]}]".strip()
        lines.append(f"| {r['name']} | " + " | ".join(cells) + " |")
    return lines


def proportions(results):
    """Rows of pruned networks and of feature flow over the rows without."""
    by_name = {r["name"]: r for r in results if r.get("ours_ms")}
    lines = []
    for r in by_name.values():
        base = by_name.get(re.sub(r"\+(pruned8?|flow)", "", r["name"]))
        if base is None or base is r:
            continue
        peers = [min((t["median"] for v, t in x["times_ms"].items() if v != "espalier" and v not in x["missing"]), default=None)
                 for x in (r, base)]
        theirs = f"{peers[0] / peers[1]:.2f}" if None not in peers else ""
        lines.append(f"| {r['name']} | {r['gflop'] / base['gflop']:.2f} | {r['ours_ms'] / base['ours_ms']:.2f} | {theirs} |")
    return ["| row | multiply-adds | time, ours | time, fastest peer |", "| --- | --: | --: | --: |", *lines] if lines else []


def page(results, machine, docs="../docs"):
    """RESULTS.md, from which the folder of the documentation is at `docs`."""
    of = {kind: [r for r in results if r["name"].split("/")[0] == kind] for kind in ("step", "inference", "memory", "conv")}
    others = [r for r in results if r["name"].split("/")[0] not in of]
    losses = [r for r in results if r["ratio"] is not None and r["ratio"] < 1]
    lines = ["# Results of the benchmarks", "", "Written by `./run bench`, not by hand; the same as numbers: "
             f"[results.json](results.json). [How it is measured]({docs}/performance.md#how-it-is-measured).", "",
             f"{machine['cpu']}, {machine['instructions']}{' and AMX' if machine.get('matrix_unit') else ''}, "
             f"{machine['threads']} threads (`OMP_NUM_THREADS="
             f"{machine['OMP_NUM_THREADS']}`, all sides on CPUs {', '.join(map(str, machine['cpus']))}). Measured in the same "
             f"run: {number(machine['peak_gflops'])} GFLOP/s of multiply-adds in registers, {number(machine['copy_gb_per_s'])} "
             f"GB/s read and written by a copy. PyTorch {machine['torch']}: {machine['torch_capability']}, "
             f"{machine['torch_threads']} threads, its oneDNN {machine['torch_onednn']}. oneDNN alone: {machine['onednn']}. "
             f"Medians of {machine['rounds']} rounds in turn. glibc keeps the memory that PyTorch frees "
             "(`MALLOC_MMAP_MAX_=0`), which makes it faster; not in the rows about memory.", "",
             "*ratio*: time of the fastest peer over ours; above 1, Espalier is faster. *GFLOP/s*: of the textbook algorithm, "
             "padding counted. *of the floor*: the time that the machine must take, over ours: the larger of the fewest "
             "known multiply-adds at the peak (F(4x4,3x3), 9 products for 2x2 maps, else the taps that fall on the map; of "
             "networks, their convolutions) and of the bytes that must move at the copy's speed (operands and results once; of "
             "networks, their parameters). *error*: ours against double precision, l2 norm over that of the reference; a row "
             "counts where both sides stay below "
             + ", ".join(f"{t:.0e} ({k})" for k, t in TOLERANCE.items()).replace("(op)", "(other kernels)") + ".", "",
             f"{len(results)} rows, {len(losses)} of them slower than the fastest peer"
             + (": " + ", ".join(r["name"] for r in losses) if losses else "") + "."
             + (f" {kept} of them were measured in an earlier run, beside the ceilings of that run."
                if (kept := machine.get("rows_of_earlier_runs")) else "")]
    for title, kind, intro in (
            ("Training steps", "step", "Forward, loss, backward, update by SGD with momentum; batch 128."),
            ("Inference", "inference", "The number is the batch size; `pruned`: to half of the multiply-adds, `pruned8` in widths "
             "that are multiples of 8.")):
        if of[kind]:
            lines += ["", f"## {title}", "", intro, "", *table(of[kind]), "", "All peers, ms:", "", *peers_table(of[kind])]
    if shares := proportions(results):
        lines += ["", "## What pruning saves, and feature flow costs", "",
                  "Each row over the same row without `pruned`, `pruned8` (widths that are multiples of 8) or `flow`.", "", *shares]
    if of["memory"]:
        lines += ["", "## Memory", "", "Largest resident size of a process that makes two steps of batch 128, everything "
                  "included. *must keep*: inputs of all convolutions and batch norms, and values, gradients and momenta of "
                  "the parameters. *libraries*: what the peer takes once imported.", "",
                  "| row | ours, MB | must keep, MB | least peer | its MB | libraries, MB | ratio |",
                  "| --- | --: | --: | --- | --: | --: | --: |"]
        lines += [f"| {r['name']} | {r['ours_mb']:.0f} | {r['kept_mb']:.0f} | {short(r['peer'])} | {r['peer_mb']:.0f} | "
                  f"{r['libraries_mb']:.0f} | {ratio_text(r)} |" for r in of["memory"]]
    if of["conv"]:
        lines += ["", "## Convolutions", "", "3x3, batch 32; channels x filters x extent of the input, s2: stride 2. Buffers "
                  "rotate through twice the last-level cache. oneDNN takes its own layouts, and reorders are not timed.", "",
                  *table(of["conv"])]
    if others:
        lines += ["", "## Other operations", "", "Forward and backward, batch 128; channels x extent. Buffers rotate.", "",
                  *table(others)]
    return "\n".join(lines) + "\n"


def earlier(folder, machine):
    """Rows that an earlier run on such a machine, beside the same peers, left in a folder."""
    try:
        *rows, before = json.loads((folder / "results.json").read_text())
    except FileNotFoundError:
        return []
    for key in ("cpu", "instructions", "threads", "torch", "onednn", "rounds"):
        if before.get(key) != machine[key]:
            sys.exit(f"bench: expected rows of the same {key} in {folder / 'results.json'}, {machine[key]}, got {before.get(key)}")
    return rows


def not_measured(before, results):
    """Rows of an earlier run that were not measured since."""
    names = {r["name"] for r in results}
    return [r for r in before if r["name"] not in names]


def finite(value):
    """With null in place of NaN and infinities, for which JSON has no word: the error of a result that is wrong."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(results, machine, folder):
    folder.mkdir(parents=True, exist_ok=True)
    nothing = dict.fromkeys(("ours_ms", "peer", "peer_ms", "ratio", "share_of_floor", "error"))
    rows = ",\n".join(json.dumps(finite(r), allow_nan=False) for r in [*results, {**nothing, **machine}])
    text_of = {"results.json": f"[\n{rows}\n]\n",
               "RESULTS.md": page(results, machine, os.path.relpath(ROOT / "docs", folder))}
    for name, text in text_of.items():
        draft = folder / (name + ".new")
        draft.write_text(text)
        os.replace(draft, folder / name)


# The machine

def cpu_name():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def vector_instructions():
    flags = set(re.findall(r"\b(?:avx\w*|fma|asimd)\b", Path("/proc/cpuinfo").read_text()))
    return next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("asimd", "NEON"))
                 if flag in flags), "no AVX")


def has_matrix_unit():
    return re.search(r"\bamx_bf16\b", Path("/proc/cpuinfo").read_text()) is not None


def last_level_cache():
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(s[:-1]) << {"K": 10, "M": 20, "G": 30}[s[-1]] for s in sizes), default=32 << 20)


def python_with_torch(given, *more):
    """The interpreter that was asked for, or one with the newest PyTorch under build/bench/venv, and with more packages."""
    if given:
        return given
    python = WORK / "venv/bin/python"
    if not (WORK / "venv/complete").exists():
        print("setting up PyTorch in build/bench/venv", flush=True)
        shutil.rmtree(WORK / "venv", ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", WORK / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "numpy", "safetensors"], check=True)
        (WORK / "venv/complete").touch()
    if more:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *more], check=True)
    return python


def self_test():
    """The arithmetic and the page, without any peer."""
    def expect(got, wanted, what):
        if got != wanted:
            sys.exit(f"bench: self-test: {what}: expected {wanted}, got {got}")

    expect(valid_taps(4, 3, 1), 10, "taps of 4 pixels")
    expect(valid_taps(8, 3, 2), 11, "taps of 8 pixels at stride 2")
    expect(valid_taps(1, 3, 1), 1, "taps of 1 pixel")
    expect(fast_macs(1, 32, 64, 64, 3, 1), 64 * 36 * 64 * 64, "F(4x4,3x3)")
    expect(fast_macs(2, 2, 8, 8, 3, 1), 2 * 9 * 64, "2x2 maps")
    expect(fast_macs(1, 1, 8, 8, 3, 1), 64, "1x1 maps")
    expect(fast_macs(1, 4, 3, 8, 3, 1), 100 * 24, "the stem")
    vgg, resnet = network_convolutions("vgg16", 32), network_convolutions("resnet56", 32)
    expect((len(vgg), vgg[-1]), (13, (512, 512, 2, 1)), "VGG-16")
    expect((len(resnet), resnet[19], resnet[20]), (55, (16, 32, 32, 2), (32, 32, 16, 1)), "ResNet-56")
    macs = sum(9 * c * k * (e // s) ** 2 for c, k, e, s in vgg)
    expect(round(macs / 1e6, 1), 313.2, "multiply-adds of VGG-16")
    rows = [*convolution_rows(), *operation_rows(), *network_rows()]
    expect(len({r["name"] for r in rows}), len(rows), "names that are unique")
    shapes = {"in:conv.weight": [16, 3, 3, 3], "in:stage2.0.conv1.weight": [32, 3, 3, 16], "in:images": [2, 8, 8, 3]}
    cost = network_cost(shapes, {"batch": 2, "extent": 8, "task": "step"})
    expect(cost["flops"], 2 * 2 * 9 * (2 * 3 * 16 * 64 + 3 * 16 * 32 * 16), "flops of a step")
    expect(cost["kept"], 4 * (2 * (3 + 16 + 16) * 64 + 2 * 2 * 32 * 16 + 3 * 9 * (48 + 512)), "bytes that are kept")

    machine = {"name": "machine", "cpu": "a CPU", "instructions": "AVX2", "threads": 2, "cpus": [0, 1], "OMP_NUM_THREADS": 2,
               "peak_gflops": 100.0, "copy_gb_per_s": 10.0, "torch": "9.0", "torch_capability": "AVX2", "torch_threads": 2,
               "torch_onednn": "v9", "onednn": "2.6 (AVX2)", "rounds": 3}
    made = row("step/x", "step", {}, flops=4e8, floor_flops=1e8)
    fast = summary(made, {"espalier": [2.0, 1.0, 4.0], "eager": [9.0, 8.0, 7.0], "compiled": [1.0] * 3},
                   {"espalier": 1e-6, "eager": 1e-6, "compiled": 0.5}, {}, machine)
    expect((fast["ratio"], fast["peer"], fast["share_of_floor"], fast["gflops"]), (4.0, "PyTorch 9.0 eager", 0.5, 200.0),
           "a row: a peer that is wrong does not count")
    slow = summary(row("step/x+flow", "step", {}, 4e8, 1e8), {"espalier": [4.0], "eager": [2.0]},
                   {"espalier": 1e-6, "eager": 1e-6}, {"compiled": "no compiler"}, machine)
    wrong = summary(row("conv/y", "conv", {}), {"espalier": [4.0], "oneDNN direct": [8.0]},
                    {"espalier": float("nan"), "oneDNN direct": 0}, {}, machine)
    expect((slow["ratio"], wrong["ratio"], wrong["peer"]), (0.5, None, "oneDNN 2.6 (AVX2) direct"), "rows that do not count")
    text = page([fast, slow, wrong], machine)
    for part in ("| 4.00 |", "0.50 (slower)", "does not count", "1 of them slower than the fastest peer: step/x+flow.",
                 "[no compiler]", "| step/x+flow | 1.00 | 2.00 | 0.25 |", "| PyTorch eager |", "| oneDNN direct |"):
        expect(part in text, True, f"{part!r} in the page")
    with tempfile.TemporaryDirectory() as name:
        expect(earlier(Path(name), machine), [], "no earlier run")
        write([fast, slow, wrong], machine, Path(name))
        kept = not_measured(earlier(Path(name), machine), [{"name": "step/x+flow"}])
        expect([r["name"] for r in kept], ["step/x", "conv/y"], "rows of an earlier run")
    expect([number(v) for v in (1234.5, 12.34, 0.01234, 0)], ["1234", "12.3", "0.0123", "0"], "numbers")
    print("bench: self-test: arithmetic and page are right")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="\n\n".join(__doc__.split("\n\n")[2:]),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rows, three rounds, nothing compiled: two minutes")
    parser.add_argument("--filter", help="only rows in whose name this is found, as in: step/.*flow")
    parser.add_argument("--rounds", type=int, help="rounds that count; 5, or 3 with --quick")
    parser.add_argument("--seconds", type=float, default=0.1, help="a kernel's turn; of inference 3, of steps 10 times that")
    parser.add_argument("--threads", type=int, help="threads and processors of every side; all if not said")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--compile-seconds", type=float, default=300, help="give a compilation up after so long")
    parser.add_argument("--python", help="an interpreter with torch, numpy and safetensors; else one is set up")
    parser.add_argument("--programs", type=Path, default=ROOT / "build/release/benchmarks", help="where kernels and step are")
    parser.add_argument("--out", type=Path, help="folder for RESULTS.md and results.json")
    parser.add_argument("--keep", action="store_true", help="keep the rows that are in --out already and not measured now")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--self-test", action="store_true", help="check this program's arithmetic and stop")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if options.quick:
        options.compile = False
    options.rounds = options.rounds or (3 if options.quick else 5)
    wanted = [r for r in [*network_rows(), *operation_rows(), *convolution_rows()]
              if re.search(options.filter or (QUICK if options.quick else ""), r["name"])]
    if options.list:
        return print("\n".join(r["name"] for r in wanted))
    if not wanted:
        sys.exit(f"bench: expected a filter that some row's name matches, got {options.filter}")
    options.python = python_with_torch(options.python)

    folder = options.out or (WORK if options.quick or options.filter else ROOT / "benchmarks")
    bench, results, start = Bench(options), [], time.monotonic()
    weight = {"step": 10, "inference": 4, "memory": 6, "conv": 1, "op": 2}
    try:
        bench.look_around()
        before = earlier(folder, bench.machine) if options.keep else []
        order = {r["name"]: i for i, r in enumerate([*network_rows(), *operation_rows(), *convolution_rows()])}
        for i, r in enumerate(wanted):
            results.append(bench.measure(r))
            # What is done stays if the rest is not waited for, and what an earlier run left until it is measured anew.
            kept = not_measured(before, results)
            bench.machine["rows_of_earlier_runs"] = len(kept)
            write(sorted([*kept, *results], key=lambda r: order.get(r["name"], len(order))), bench.machine, folder)
            done, all_ = (sum(weight[x["kind"]] for x in rows) for rows in (wanted[:i + 1], wanted))
            passed = time.monotonic() - start
            print(progress(results[-1], i + 1, len(wanted), passed, passed * (all_ - done) / done), flush=True)
        print(f"wrote {folder / 'RESULTS.md'} and results.json")
    except KeyboardInterrupt:
        sys.exit(f"\nbench: stopped; {folder / 'RESULTS.md'} has the {len(results)} rows that were measured" if results else
                 "\nbench: stopped, nothing written")
    except PeerError as error:
        sys.exit(f"bench: {error}")
    finally:
        bench.stop()


def progress(result, at, count, passed, left):
    what = f"{result['ours_mb']:.0f} MB" if result["ours_ms"] is None else f"{number(result['ours_ms'])} ms"
    theirs = result.get("peer_mb") if result["ours_ms"] is None else result["peer_ms"]
    missing = "".join(f"\n    without {v}: {why.splitlines()[0][:160]}" for v, why in result.get("missing", {}).items())
    return (f"[{at}/{count}, {passed / 60:.1f} min, {left / 60:.0f} left] {result['name']}: {what}, "
            f"{short(result['peer'])} {number(theirs)}, ratio {ratio_text(result)}{missing}")


if __name__ == "__main__":
    main()
