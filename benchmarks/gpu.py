#!/usr/bin/env python3
"""Training steps, inference and single operations on a GPU: Espalier beside PyTorch's ways (convolutions: cuDNN), which take
turns with the same inputs.

Writes GPU.md and gpu.json to a folder. A row whose results are further from a reference in double precision than its
tolerance does not count, on either side. tools/gpu_check.sh builds what this needs and runs it.

usage: gpu.py --programs FOLDER --out FOLDER [--python PYTHON] [--filter REGEX] [--variants REGEX] [--rounds N] ...
"""

import argparse
import json
import os
import re
import statistics
import sys
import time
from pathlib import Path

import bench
from bench import PeerError, Server, number

# Relative l2 errors that count, by precision: a rectifier at a value that rounding takes across zero switches a gradient,
# so it is the logits' and gradients' together that half of the bits are left of.
TOLERANCE = {"fp32": 2e-2, "tf32": 1e-1, "bf16": 5e-1}
OF_OPERATIONS = {"fp32": 1e-4, "tf32": 5e-3}  # sums of up to 10^5 products, rounded once each


def rows():
    for model in ("resnet56", "vgg16", "resnet20"):
        for flow in (False, True):
            yield {"name": f"step/{model}{'+flow' if flow else ''}/fp32",
                   "request": {"task": "step", "model": model, "batch": 128, "extent": 32, "flow": flow, "device": "cuda",
                               "precision": "fp32"}}
    for model in ("resnet56", "vgg16"):
        for batch in (1, 128):
            yield {"name": f"inference/{model}/{batch}/fp32",
                   "request": {"task": "inference", "model": model, "batch": batch, "extent": 32, "device": "cuda",
                               "precision": "fp32"}}


    for channels, extent in ((64, 32), (128, 16), (256, 8), (512, 4)):  # of VGG-16
        for direction in ("forward", "data", "weights"):
            for precision in ("fp32", "tf32"):
                yield operation(f"conv/{channels}x{extent}/{direction}", precision, op="conv", direction=direction, batch=128,
                                extent=extent, channels=channels, filters=channels, taps=3, stride=1)
    for channels, extent in ((64, 32), (512, 4)):
        yield operation(f"batch_norm_relu/{channels}x{extent}", op="batch_norm_relu", batch=128, extent=extent,
                        channels=channels)
    yield operation("flow/resnet56", op="flow", stages=[{"batch": 128, "extent": 32 >> s, "channels": 16 << s, "maps": 10}
                                                        for s in range(3)])


def operation(name, precision="fp32", **request):
    """A row of kernels.cpp; its inputs are four, so that all are not in the cache at once."""
    return {"name": f"{name}/{precision}", "request": {**request, "device": "cuda", "precision": precision, "sets": 4}}


def measure(row, ours, torch, options):
    path = bench.WORK / "gpu_row.safetensors"
    ours.ask("load", row=row["request"])
    ours.ask("save", path=str(path))
    loaded = torch.ask("load", row=row["request"], path=str(path))
    errors, missing = dict(loaded["errors"]), {}
    for variant in loaded["variants"]:
        if not re.search(options.variants, variant):
            continue
        try:
            errors[variant] = torch.ask("prepare", 300, variant=variant)["error_of_results"]
        except PeerError as error:
            missing[variant] = str(error)
            if torch.process.poll() is not None:
                raise
    times = {variant: [] for variant in errors}
    for round_ in range(-1, options.rounds):  # the first warms up and does not count
        for variant, ms in times.items():
            server = ours if variant == "espalier" else torch
            taken = server.ask("go", variant=variant, seconds=options.seconds if round_ >= 0 else 0.1)["ms"]
            if round_ >= 0:
                ms.append(taken)
    return result_of(row, times, errors, missing)


def result_of(row, times, errors, missing):
    tolerance = (OF_OPERATIONS if "op" in row["request"] else TOLERANCE)[row["request"]["precision"]]
    medians = {variant: statistics.median(ms) for variant, ms in times.items()}
    wrong = {v: f"error {e:.1e} above {tolerance:.0e}" for v, e in errors.items() if not e <= tolerance}  # NaN is wrong
    peers = {v: ms for v, ms in medians.items() if v != "espalier" and v not in wrong}
    best = min(peers, key=peers.get, default=None)
    return {"name": row["name"], "ours_ms": medians["espalier"], "error": errors["espalier"], "tolerance": tolerance,
            "peer": best, "peer_ms": peers.get(best), "errors": errors, "missing": {**missing, **wrong},
            "ratio": peers[best] / medians["espalier"] if best and "espalier" not in wrong else None,
            "times_ms": {v: {"median": medians[v], "min": min(ms), "max": max(ms)} for v, ms in times.items()}}


def page(results, machine):
    variants = list(dict.fromkeys(v for r in results for v in r["times_ms"] if v != "espalier"))
    lines = ["# Training steps, inference and single operations on a GPU", "",
             "Written by `benchmarks/gpu.py`, not by hand; the same as numbers: [gpu.json](gpu.json).", "",
             f"{machine['gpu']}; PyTorch {machine['torch']} with cuDNN {machine['cudnn']}; milliseconds, medians of "
             f"{machine['rounds']} rounds in turn; the last part of a name is the precision on both sides. *ratio*: time of "
             "the fastest peer over ours; above 1, Espalier is faster.", "",
             "| row | ours | ratio | fastest peer | " + " | ".join(variants) + " | error |",
             "| --- | --: | --: | --- | " + "--: | " * len(variants) + "--: |"]
    for r in results:
        ratio = "does not count" if r["ratio"] is None else f"{r['ratio']:.2f}" + (" (slower)" if r["ratio"] < 1 else "")
        cells = [number(r["times_ms"][v]["median"]) if v in r["times_ms"] else "" for v in variants]
        lines.append(f"| {r['name']} | {number(r['ours_ms'])} | {ratio} | {r['peer'] or ''} | {' | '.join(cells)} | "
                     f"{r['error']:.1e} |")
    for r in results:
        for variant, why in r["missing"].items():
            lines += ["", f"{r['name']} without {variant}: {why.splitlines()[0][:160]}"]
    return "\n".join(lines) + "\n"


def self_test():
    row = {"name": "step/x/fp32", "request": {"precision": "fp32"}}
    good = result_of(row, {"espalier": [2, 1, 3], "eager": [4, 4, 5], "compiled": [1, 1, 1]},
                     {"espalier": 1e-3, "eager": 1e-3, "compiled": 0.5}, {})
    assert (good["ratio"], good["peer"]) == (2.0, "eager"), good
    bad = result_of(row, {"espalier": [2], "eager": [4]}, {"espalier": float("nan"), "eager": 0}, {})
    assert bad["ratio"] is None, bad
    text = page([good, bad], {"gpu": "a GPU", "torch": "9", "cudnn": 1, "rounds": 3})
    for part in ("| step/x/fp32 | 2.00 | 2.00 | eager |", "does not count", "without compiled: error 5.0e-01"):
        assert part in text, text
    names = [row["name"] for row in rows()]
    assert len(set(names)) == len(names) and "conv/512x4/weights/tf32" in names, names
    print("gpu: self-test: arithmetic and page are right")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, help="where step and kernels are, compiled with CUDA")
    parser.add_argument("--out", type=Path, help="folder for GPU.md and gpu.json")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with torch and safetensors")
    parser.add_argument("--filter", default="", help="only rows in whose name this is found")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="a turn")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which no further row is begun")
    parser.add_argument("--variants", default="", help="only PyTorch's ways in whose name this is found, as in: eager|reduce")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.programs or not options.out:
        parser.error("expected --programs and --out")
    bench.WORK.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    begin, results = time.monotonic(), []
    ours = {}
    torch = Server([options.python, bench.ROOT / "benchmarks/peers/torch_server.py"], dict(os.environ))
    try:
        machine = {"name": "machine", "rounds": options.rounds, **torch.ask("about")}
        for row in rows():
            if not re.search(options.filter, row["name"]):
                continue
            if time.monotonic() - begin > options.limit:
                print(f"gpu: no time left for {row['name']}")
                continue
            program = "kernels" if "op" in row["request"] else "step"
            if program not in ours:
                for other in ours.values():  # one at a time, so that all of the GPU's memory is its own
                    other.close()
                ours = {program: Server([options.programs / program], dict(os.environ))}
            results.append(measure(row, ours[program], torch, options))
            print(f"{row['name']}: {number(results[-1]['ours_ms'])} ms, ratio {results[-1]['ratio']}", flush=True)
            (options.out / "GPU.md").write_text(page(results, machine))
            (options.out / "gpu.json").write_text(json.dumps([machine, *results], indent=1) + "\n")
    except PeerError as error:
        sys.exit(f"gpu: {error}")
    finally:
        for program in ours.values():
            program.close()
        torch.close()


if __name__ == "__main__":
    main()
