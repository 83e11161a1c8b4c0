#!/usr/bin/env python3
"""Training steps, inference and single operations on a GPU: Espalier beside PyTorch's ways (convolutions: cuDNN), which take
turns with the same inputs.

Writes GPU.md and gpu.json to a folder, anew after every row; what the targets are about comes first, and of that what need
not be compiled. A row whose results are further from a reference in double precision than its tolerance does not count, on
either side. One that fails does not end the others. Without PyTorch ours is measured alone, and not judged.
tools/gpu_check.sh builds what this needs and runs it.

usage: gpu.py --programs FOLDER --out FOLDER [--python PYTHON] [--filter REGEX] [--variants REGEX] [--rounds N] ...
"""

import argparse
import contextlib
import io
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench
from bench import PeerError, PeerLost, Server, number

# Relative l2 errors that count, of logits and loss. Gradients may be as far off, or twice as far as the best of PyTorch's
# ways: a rectifier at a value that rounding takes across zero switches a whole gradient.
TOLERANCE = {"fp32": 2e-2, "tf32": 2e-2, "bf16": 1e-1}
OF_OPERATIONS = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 2e-2}  # sums of up to 10^5 products of operands rounded so far
TARGETS = [  # what, rows, PyTorch's ways of which the fastest counts, the least ratio in each row
    ("training step, ResNet-56, to eager", "^step/resnet56/fp32$", "^eager", 4),
    ("training step, ResNet-56, to reduce-overhead", "^step/resnet56/fp32$", "^reduce-overhead", 1.3),
    ("training step, VGG-16 in bf16, to eager", "^step/vgg16/bf16$", "^eager", 1.5),
    ("training step, VGG-16 in bf16, to reduce-overhead", "^step/vgg16/bf16$", "^reduce-overhead", 1.0),
    ("convolutions in bf16 of 64 channels and more, to cuDNN", "^conv/.*/bf16$", "", 0.8),
    ("feature flow, to the fastest way", "^flow/", "", 2),
]
EAGER, COMPILED = "^eager", "^(?!eager)"
SECONDS = {"load": 60, "save": 60, "eager": 60, "compiled": 90, "go": 60}  # in which an answer must come


def rows():
    """What the targets are about comes first."""
    return sorted(all_rows(), key=lambda row: not of_target(row))


def of_target(row):
    return any(re.search(pattern, row["name"]) for _, pattern, _, _ in TARGETS)


def all_rows():
    for precision in ("fp32", "tf32", "bf16"):
        for model in ("resnet56", "vgg16"):
            yield network("step", model, precision, batch=128, flow=False)
    for model, flow in (("resnet56", True), ("vgg16", True), ("resnet20", False), ("resnet20", True)):
        yield network("step", model, "fp32", batch=128, flow=flow)
    for model in ("resnet56", "vgg16"):
        for batch in (1, 128):
            yield network("inference", model, "fp32", batch=batch)
    yield operation("flow/resnet56", op="flow", stages=[{"batch": 128, "extent": 32 >> s, "channels": 16 << s, "maps": 10}
                                                        for s in range(3)])
    for precision in ("bf16", "tf32", "fp32"):
        for channels, extent in ((64, 32), (128, 16), (256, 8), (512, 4)):  # of VGG-16
            for direction in ("forward", "data", "weights"):
                yield operation(f"conv/{channels}x{extent}/{direction}", precision, op="conv", direction=direction, batch=128,
                                extent=extent, channels=channels, filters=channels, taps=3, stride=1)
    for channels, extent in ((64, 32), (512, 4)):
        yield operation(f"batch_norm_relu/{channels}x{extent}", op="batch_norm_relu", batch=128, extent=extent,
                        channels=channels)


def network(task, model, precision, batch, **request):
    """A row of step.cpp. A group of its iterations passes between two looks at the clock, when the GPU is waited for."""
    name = model + ("+flow" if request.get("flow") else "") + (f"/{batch}" if task == "inference" else "")
    return {"name": f"{task}/{name}/{precision}", "request": {"task": task, "model": model, "batch": batch, "extent": 32, **request,
                                                              "device": "cuda", "precision": precision, "group": 10}}


def operation(name, precision="fp32", **request):
    """A row of kernels.cpp; its inputs are four, so that all are not in the cache at once."""
    return {"name": f"{name}/{precision}",
            "request": {**request, "device": "cuda", "precision": precision, "sets": 4, "group": 20}}


def turns(wanted):
    """(row, which of PyTorch's ways), in the order in which they are measured."""
    for target in (True, False):
        for ways in (EAGER, COMPILED):
            for row in wanted:
                if of_target(row) == target and (ways == EAGER or row["request"].get("op") != "conv"):  # nothing to fuse
                    yield row, ways


class Sides:
    """Our program and PyTorch's, started when they are asked for, and anew after they were closed."""

    def __init__(self, options):
        self.commands = {"torch": [options.python, bench.ROOT / "benchmarks/peers/torch_server.py"],
                         **{name: [options.programs / name] for name in ("step", "kernels")}}
        self.servers = {}

    def of(self, name):
        if name not in self.servers:
            if name != "torch":
                self.close("step", "kernels")  # one at a time, so that all of the GPU's memory is its own
            try:
                self.servers[name] = Server(self.commands[name], dict(os.environ))
            except OSError as error:
                raise PeerError(str(error)) from error
        return self.servers[name]

    def close(self, *names):
        for name in names or list(self.servers):
            if name in self.servers:
                self.servers.pop(name).close()


def prepare_torch(row, path, wanted, sides):
    """Errors of ours and of PyTorch's ways that are ready now; why others are not."""
    missing = {}
    while True:  # a way that takes too long ends with its server, and everything else is done again
        try:
            loaded = sides.of("torch").ask("load", SECONDS["load"], row=row["request"], path=str(path))
        except PeerError as error:
            sides.close("torch")
            return {}, {**missing, "PyTorch": str(error)}
        errors = dict(loaded["errors"])
        for way in loaded["variants"]:
            if way in missing or not wanted(way):
                continue
            try:
                limit = SECONDS["eager" if re.search(EAGER, way) else "compiled"]
                errors[way] = sides.of("torch").ask("prepare", limit, variant=way)["errors"]
            except PeerError as error:
                missing[way] = str(error)
                if isinstance(error, PeerLost):
                    sides.close("torch")
                    break
        else:
            return errors, missing


def measure(row, ways, sides, options):
    """What this turn adds to a row's times, errors and missing ways."""
    path = bench.WORK / "gpu_row.safetensors"
    ours = sides.of("kernels" if "op" in row["request"] else "step")
    ours.ask("load", SECONDS["load"], row=row["request"])
    ours.ask("save", SECONDS["save"], path=str(path))
    errors, missing = prepare_torch(row, path, lambda way: re.search(ways, way) and re.search(options.variants, way), sides)
    times = {variant: [] for variant in {"espalier": None, **errors}}
    if ways == COMPILED and len(times) == 1:
        return {}, errors, missing  # ours was measured beside those that are not compiled
    seconds = options.seconds * (0.5 if "op" in row["request"] else 1)
    for round_ in range(-1, options.rounds):  # the first warms up and does not count
        for variant, ms in times.items():
            server = ours if variant == "espalier" else sides.of("torch")
            taken = server.ask("go", SECONDS["go"], variant=variant, seconds=seconds if round_ >= 0 else 0.1)["ms"]
            if round_ >= 0:
                ms.append(taken)
    return times, errors, missing


class Row:
    """What all turns of a row brought."""

    def __init__(self, row):
        self.row, self.times, self.errors, self.missing, self.failures = row, {}, {}, {}, []

    def add(self, times, errors, missing):
        for variant, ms in times.items():
            self.times.setdefault(variant, []).extend(ms)
        self.errors.update(errors)
        self.missing.update(missing)

    def wrong(self):
        """Whose results do not count, and why."""
        tolerance = (OF_OPERATIONS if "op" in self.row["request"] else TOLERANCE)[self.row["request"]["precision"]]
        best = min((of["gradients"] for v, of in self.errors.items() if v != "espalier" and "gradients" in of), default=0)
        bounds = {"results": tolerance, "gradients": max(tolerance, 2 * best)}
        return {variant: f"error of {what} {error:.1e} above {bounds[what]:.0e}" for variant, of in self.errors.items()
                for what, error in of.items() if not (error <= bounds[what] and math.isfinite(error))}

    def result(self):
        """A row of gpu.json."""
        wrong = self.wrong()
        medians = {variant: statistics.median(ms) for variant, ms in self.times.items()}
        ours = medians.get("espalier")
        counts = ours is not None and "espalier" in self.errors and "espalier" not in wrong
        ratios = {v: ms / ours for v, ms in medians.items() if counts and v in self.errors and v != "espalier" and v not in wrong}
        best = min(ratios, key=ratios.get, default=None)
        why = "failed" if ours is None else "does not count" if "espalier" in wrong else None if ratios else \
            "not compared" if "espalier" in self.errors else "not judged"
        return {"name": self.row["name"], "ours_ms": ours, "peer": best, "ratio": ratios.get(best), "why_no_ratio": why,
                "ratios": ratios, "failures": self.failures, "errors": self.errors, "missing": {**self.missing, **wrong},
                "times_ms": {v: {"median": medians[v], "min": min(ms), "max": max(ms)} for v, ms in self.times.items()}}


def target_lines(results):
    lines = ["| target: PyTorch's time over ours | wanted | measured | slowest row |", "| --- | --: | --: | --- |"]
    for what, pattern, ways, least in TARGETS:
        ratios = {r["name"]: min((x for v, x in r["ratios"].items() if re.search(ways, v)), default=None)
                  for r in results if re.search(pattern, r["name"])}
        without = [name for name, ratio in ratios.items() if ratio is None]
        slowest = min((name for name in ratios if ratios[name] is not None), key=ratios.get, default=None)
        measured = "not measured" if slowest is None else f"{ratios[slowest]:.2f}" + \
            (" (missed)" if ratios[slowest] < least else "") + (f", {len(without)} rows without" if without else "")
        lines.append(f"| {what} | {least} | {measured} | {slowest or ''} |")
    return lines


def page(results, machine):
    variants = list(dict.fromkeys(v for r in results for v in r["times_ms"] if v != "espalier"))
    lines = ["# Training steps, inference and single operations on a GPU", "",
             "Written by `benchmarks/gpu.py`, not by hand; the same as numbers: [gpu.json](gpu.json).", "",
             f"{machine['gpu']}, driver {machine['driver']}; Espalier {machine['commit']}, nvcc {machine['nvcc']}; PyTorch "
             f"{machine['torch']} with cuDNN {machine['cudnn']}. Milliseconds, medians of {machine['rounds']} rounds in turn. "
             "*ratio*: time of the fastest peer over ours; above 1, Espalier is faster. *errors*: ours, of logits and loss or of "
             "an operation's results, and of gradients.", "",
             "The last part of a name is the precision on both sides. In bf16 they do not do the same: PyTorch's networks run "
             "under autocast, which keeps maps in bf16, too, and its convolutions take and give tensors of bf16; ours round "
             "operands of convolutions only, which read rounded copies, and all maps and results are float. Ours is always "
             "replayed from a CUDA graph; of PyTorch's ways those are that say replayed, reduce-overhead or max-autotune.", "",
             *target_lines(results), "",
             "| row | ours | ratio | fastest peer | " + " | ".join(variants) + " | errors |",
             "| --- | --: | --: | --- | " + "--: | " * len(variants) + "--: |"]
    for r in results:
        ratio = r["why_no_ratio"] or f"{r['ratio']:.2f}" + (" (slower)" if r["ratio"] < 1 else "")
        cells = [number(r["times_ms"][v]["median"]) if v in r["times_ms"] else "" for v in variants]
        errors = ", ".join(f"{e:.1e}" for e in r["errors"].get("espalier", {}).values())
        ours = "" if r["ours_ms"] is None else number(r["ours_ms"])
        lines.append(f"| {r['name']} | {ours} | {ratio} | {r['peer'] or ''} | {' | '.join(cells)} | {errors} |")
    notes = {}  # what went wrong, with the rows in which it did
    for r in results:
        for what in [f"failed, {why}" for why in r["failures"]] + [f"without {way}: {why}" for way, why in r["missing"].items()]:
            notes.setdefault(what.splitlines()[0][:200], []).append(r["name"])
    for what, names in notes.items():
        lines += ["", f"{', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}: {what}"]
    return "\n".join(lines) + "\n"


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def look_around(sides, options):
    """What is measured, where, and beside what."""
    gpu, _, driver = output_of("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader").partition(", ")
    nvcc = re.search(r"release \S+, V(\S+)", output_of("nvcc", "--version"))
    machine = {"name": "machine", "commit": options.commit, "gpu": gpu or "a GPU", "driver": driver.splitlines()[0] if driver else None,
               "nvcc": nvcc and nvcc[1], "rounds": options.rounds, "torch": None, "cudnn": None}
    try:
        return {**machine, **{key: value for key, value in sides.of("torch").ask("about", 120).items() if value is not None}}
    except PeerError as error:
        sides.close("torch")
        print(f"gpu: without PyTorch, nothing is judged: {error}", flush=True)
        return machine


def run(options, wanted):
    """All turns for which there is time. @return names of rows that failed or whose results are wrong"""
    begin, taken, sides = time.monotonic(), {}, Sides(options)
    try:
        machine = look_around(sides, options)
        for row, ways in turns(wanted):
            if time.monotonic() - begin > options.limit:
                print(f"gpu: no time left for {row['name']}, {'eager' if ways == EAGER else 'compiled'}")
                continue
            of = taken.setdefault(row["name"], Row(row))
            try:
                of.add(*measure(row, ways, sides, options))
            except (PeerError, KeyError, ValueError) as error:  # no answer, or one that is none
                of.failures.append(f"{'eager' if ways == EAGER else 'compiled'}: {type(error).__name__}: {error}")
                sides.close()
            results = [r.result() for r in taken.values()]
            result = of.result()
            ours = "" if result["ours_ms"] is None else f"{number(result['ours_ms'])} ms, "
            print(f"{time.monotonic() - begin:4.0f} s  {row['name']}: {ours}"
                  f"{result['why_no_ratio'] or 'ratio ' + number(result['ratio']) + ' to ' + result['peer']}", flush=True)
            (options.out / "GPU.md").write_text(page(results, machine))
            (options.out / "gpu.json").write_text(json.dumps([machine, *results], indent=1) + "\n")
    finally:
        sides.close()
    if not any(row.times for row in taken.values()):
        sys.exit("gpu: nothing was measured")
    return [name for name, row in taken.items() if row.failures or "espalier" in row.wrong()]


FAKE = """#!{python}
import json, os, sys, time
name = os.path.basename(sys.argv[0])  # step, kernels or torch
for line in sys.stdin:
    request = json.loads(line)
    model, do, answer = request.get("row", {{}}).get("model", ""), request["do"], {{}}
    if do == "about":
        answer = {{"torch": "9", "cudnn": 1, "gpu": None}}
    elif do == "load" and name == "torch":
        slow = model == "slow"
        answer = {{"variants": ["eager", "compiled", "reduce-overhead, channels last"],
                  "errors": {{"espalier": {{"results": 0.9 if model == "wrong" else 1e-3, "gradients": 0.3}}}}}}
    elif do == "load" and model == "broken":
        answer = {{"error": "out of memory"}}
    elif do == "load" and model == "dying":
        sys.exit(3)
    elif do == "prepare":
        if slow and request["variant"] != "eager":
            time.sleep(60)
        answer = {{"errors": {{"results": 1e-3, "gradients": 0.2}}}}
    elif do == "go":
        answer = {{"ms": 2 if name != "torch" else 8 if request["variant"] == "eager" else 3}}
    print(json.dumps(answer), flush=True)
"""


def self_test():
    expected_names = [row["name"] for row in rows()]
    assert len(set(expected_names)) == len(expected_names) and "conv/512x4/weights/tf32" in expected_names, expected_names
    for what, pattern, _, _ in TARGETS:
        assert any(re.search(pattern, name) for name in expected_names), what
    order = [(row["name"], ways) for row, ways in turns(list(rows()))]
    assert order[0] == ("step/resnet56/fp32", EAGER) and ("step/vgg16/bf16", COMPILED) in order[:20], order[:20]

    judged = Row(network("step", "x", "bf16", 1))
    judged.add({"espalier": [2, 1, 3], "eager": [4, 4, 5], "other": [1, 1, 1]},
               {"espalier": {"results": 0.05, "gradients": 0.7}, "eager": {"results": 0.05, "gradients": 0.4},
                "other": {"results": 0.2, "gradients": 0.9}}, {})
    assert (judged.result()["ratio"], judged.result()["peer"]) == (2.0, "eager"), judged.result()
    judged.add({}, {"espalier": {"results": float("nan")}}, {})
    assert judged.result()["why_no_ratio"] == "does not count", judged.result()

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        bench.WORK = Path(folder)
        for name in ("step", "kernels", "torch"):
            Path(folder, name).write_text(FAKE.format(python=sys.executable))
            Path(folder, name).chmod(0o755)
        options = argparse.Namespace(programs=Path(folder), out=Path(folder), python=Path(folder, "torch"), rounds=3, seconds=0,
                                     limit=1e9, variants="^eager|^reduce", commit="v1")
        SECONDS["compiled"] = 0.3
        models = {model: network("step", model, "fp32", 128)
                  for model in ("dying", "broken", "good", "slow", "wrong")}
        wanted = [*models.values(), network("step", "resnet56", "fp32", 128)]
        assert run(options, wanted) == [models[m]["name"] for m in ("dying", "broken", "wrong")]
        machine, *results = json.loads(Path(folder, "gpu.json").read_text())
        by_name = {r["name"]: r for r in results}
        assert machine["torch"] == "9" and len(results) == len(wanted), results
        good, slow = by_name["step/good/fp32"], by_name["step/slow/fp32"]
        assert (good["ratio"], good["peer"], len(good["ratios"])) == (1.5, "reduce-overhead, channels last", 2), good
        assert slow["ratio"] == 4 and "within" in slow["missing"]["reduce-overhead, channels last"], slow
        text = Path(folder, "GPU.md").read_text()
        for part in ("to eager | 4 | 4.00 | step/resnet56/fp32 |", "reduce-overhead | 1.3 | 1.50 |", "| 0.8 | not measured |",
                     "| step/good/fp32 | 2.00 | 1.50 |", "| step/broken/fp32 |  | failed |", "exit code 3",
                     "| step/wrong/fp32 | 2.00 | does not count |", "1.0e-03, 3.0e-01 |", "Espalier v1"):
            assert part in text, (part, text)

        options.python = Path(folder, "no such program")
        assert run(options, [models["good"]]) == []
        assert "| step/good/fp32 | 2.00 | not judged |" in Path(folder, "GPU.md").read_text()
        for limit, which in ((-1, "good"), (1e9, "broken")):
            options.limit = limit
            try:
                raise AssertionError(run(options, [models[which]]))
            except SystemExit as error:
                assert "nothing was measured" in str(error), error
    print("gpu: self-test: arithmetic and page are right, and what fails or is late ends nothing else")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, help="where step and kernels are, compiled with CUDA")
    parser.add_argument("--out", type=Path, help="folder for GPU.md and gpu.json")
    parser.add_argument("--work", type=Path, default=bench.WORK, help="folder for logs and tensors")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with torch and safetensors")
    parser.add_argument("--commit", default="of unknown version", help="what is measured, for the page")
    parser.add_argument("--filter", default="", help="only rows in whose name this is found")
    parser.add_argument("--variants", default="", help="only PyTorch's ways in whose name this is found, as in: eager|reduce")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="a turn; of single operations half of it")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which no further row is begun")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.programs or not options.out:
        parser.error("expected --programs and --out")
    wanted = [row for row in rows() if re.search(options.filter, row["name"])]
    bench.WORK = options.work
    for folder in (options.work, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    for log in bench.WORK.glob("*.log"):
        log.unlink()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("gpu: stopped"))  # so that the servers, in sessions of their own, end, too
    failed = run(options, wanted)
    if failed:
        sys.exit(f"gpu: {len(failed)} rows failed, or what came out is wrong: {', '.join(failed)}")


if __name__ == "__main__":
    main()
