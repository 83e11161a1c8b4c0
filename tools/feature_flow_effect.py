#!/usr/bin/env python3
"""What feature flow regularization does to filters: trains the same network with and without it, cuts both, and prints
the table of docs/feature_flow.md.

usage: feature_flow_effect.py [--program build/release/examples/fashion_mnist] [--out runs/feature_flow] [--threads N]

About 25 minutes on two cores. A network that is already trained in --out is not trained again.
"""
import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

DATA = ["--downscale", "2", "--subset", "20000", "--seed", "0"]
TRAIN = ["--epochs", "45", "--lr", "0.2", "--weight-decay", "5e-4"]
WEIGHTS = {"0": [], "0.1": ["--ffr-gradient", "0.1", "--ffr-curvature", "0.1"]}  # k1 = k2
CUT = ["--criterion", "folded", "--normalization", "max", "--joins", "indexed"]
KEPT = ["0.85", "0.75", "0.65", "0.5"]


def run(program, *arguments):
    """The program's error text, or None if it succeeded."""
    print("$", Path(program).name, *arguments, file=sys.stderr)
    done = subprocess.run([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return done.stderr.strip() if done.returncode else None


def stage(folder, name):
    with open(folder / "record.json") as file:
        return json.load(file)[name]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/examples/fashion_mnist")
    parser.add_argument("--out", type=Path, default=Path("runs/feature_flow"))
    parser.add_argument("--threads", default="0")
    options = parser.parse_args()

    lines = ["| k1 = k2 | test accuracy | dead filters | dead ends of branches | MACs cut with the dead | accuracy then | "
             + " | ".join(f"at {100 * float(kept):.0f} % of the MACs" for kept in KEPT) + " |",
             "| --- |" + " --: |" * (5 + len(KEPT))]
    for weight, flags in WEIGHTS.items():
        folder = options.out / f"weight-{weight}"
        common = [*DATA, "--threads", options.threads]
        if not (folder / "dense.safetensors").exists() or not (folder / "record.json").exists():
            error = run(options.program, "train", *common, *TRAIN, *flags, "--out", str(folder))
            if error:
                sys.exit(error)
        dense = stage(folder, "dense")
        with open(folder / "dense.csv") as file:
            last = list(csv.DictReader(file))[-1]
        row = [weight, f"{100 * dense['accuracy']:.2f} %", f"{100 * float(last['dead_filters']):.1f} %",
               f"{100 * float(last['dead_branch_ends']):.1f} %"]
        cuts = [["--threshold", "0.01"], *(["--keep-macs", kept] for kept in KEPT)]
        for target in cuts:
            at = options.out / f"weight-{weight}-{target[0].strip('-')}-{target[1]}"
            error = run(options.program, "prune", *common, *CUT, *target, "--from", str(folder / "dense.safetensors"),
                        "--out", str(at))
            if error and not ("expected scores below" in error and "got none" in error):
                sys.exit(error)
            if target[0] == "--threshold":
                row.append("none" if error else f"{100 * (1 - stage(at, 'pruned')['macs'] / dense['macs']):.1f} %")
            row.append("" if error else f"{100 * stage(at, 'pruned')['accuracy']:.2f} %")
        lines.append("| " + " | ".join(row) + " |")
    print("\n".join(lines))


main()
