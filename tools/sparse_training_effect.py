#!/usr/bin/env python3
"""What sparse training does to a cut: trains the same network with and without a penalty of its channels, cuts each to 30 %
of its multiply-adds without fine-tuning, and prints the tables of docs/sparse_training.md. The second has the penalty that
grows on what will be cut, for five epochs behind the plan, beside the same five epochs without it.

usage: sparse_training_effect.py [--program build/release/examples/fashion_mnist] [--out runs/sparse_training] [--threads N]

About ten minutes on two threads that nobody else wants. A network that is already trained in --out is not trained again.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

DATA = ["--downscale", "2", "--subset", "20000", "--seed", "0"]
TRAIN = ["--model", "cnn", "--epochs", "20", "--lr", "0.1", "--weight-decay", "5e-4", "--gauges-every", "0"]
ARMS = {"none": [],
        "slim-1e-3": ["--batch-norm-l1", "1e-3"], "slim-3e-3": ["--batch-norm-l1", "3e-3"],
        "slim-1e-2": ["--batch-norm-l1", "1e-2"],
        "lasso-3e-4": ["--group-lasso", "3e-4"], "lasso-1e-3": ["--group-lasso", "1e-3"],
        "sparsity-1e-5": ["--group-sparsity", "1e-5"], "sparsity-1e-4": ["--group-sparsity", "1e-4"],
        "sparsity-1e-3": ["--group-sparsity", "1e-3"]}
GROWTH = ["--growing-epochs", "5", "--growing-increment"]
GROWING = {"still": [*GROWTH, "0"], "growing-1e-3": [*GROWTH, "1e-3"], "growing-1e-2": [*GROWTH, "1e-2"]}
CRITERIA = ["folded", "batch-norm", "l2"]


def run(program, *arguments):
    print("$", Path(program).name, *arguments, file=sys.stderr)
    done = subprocess.run([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def accuracy(folder, stage):
    with open(folder / "record.json") as file:
        return f"{100 * json.load(file)[stage]['accuracy']:.2f} %"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/examples/fashion_mnist")
    parser.add_argument("--out", type=Path, default=Path("runs/sparse_training"))
    parser.add_argument("--threads", default="0")
    options = parser.parse_args()

    common = [*DATA, "--threads", options.threads]

    def cut(arm, name, *flags):
        """Accuracy after a cut by each criterion of the network that an arm has trained."""
        row = []
        for criterion in CRITERIA:
            at = options.out / f"{name}-{criterion}"
            run(options.program, "prune", *common, "--keep-macs", "0.3", "--criterion", criterion, *flags, "--from",
                str(options.out / arm / "dense.safetensors"), "--out", str(at))
            row.append(accuracy(at, "pruned"))
        return row

    def table(head, rows):
        columns = [*head, *(f"cut by {c}" for c in CRITERIA)]
        return "\n".join(["| " + " | ".join(columns) + " |", "| --- |" + " --: |" * (len(columns) - 1),
                          *("| " + " | ".join(row) + " |" for row in rows)])

    rows = []
    for arm, flags in ARMS.items():
        folder = options.out / arm
        if not (folder / "record.json").exists():
            run(options.program, "train", *common, *TRAIN, *flags, "--out", str(folder))
        rows.append([f"`{' '.join(flags)}`" if flags else "none", accuracy(folder, "dense"), *cut(arm, arm)])
    print(table(["penalty", "whole"], rows), end="\n\n")
    grown = [[f"`{' '.join(flags[2:])}`", *cut("none", name, *flags)] for name, flags in GROWING.items()]
    print(table(["`--growing-epochs 5`"], grown))


main()
