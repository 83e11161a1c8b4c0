#!/usr/bin/env python3
"""Whether training by Winograd's convolutions ends where training by precise ones ends: the same network from three
seeds on both paths. Prints a table.

usage: path_effect.py [--program build/release/examples/fashion_mnist] [--out runs/paths] [--threads N]

Some minutes on two cores. A network that is already trained in --out is not trained again.
"""
import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

PATHS, SEEDS = ("fast", "precise"), ("1", "2", "3")
TRAIN = ["--downscale", "2", "--subset", "20000", "--epochs", "6"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/examples/fashion_mnist")
    parser.add_argument("--out", type=Path, default=Path("runs/paths"))
    parser.add_argument("--threads", default="0")
    options = parser.parse_args()

    accuracy, loss = {}, {}
    for path in PATHS:
        for seed in SEEDS:
            folder = options.out / f"{path}-{seed}"
            if not (folder / "record.json").exists():
                command = [options.program, "train", *TRAIN, "--path", path, "--seed", seed, "--threads", options.threads,
                           "--out", str(folder)]
                print("$", *command, file=sys.stderr)
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            accuracy[path, seed] = 100 * json.loads((folder / "record.json").read_text())["dense"]["accuracy"]
            with open(folder / "dense.csv") as file:
                steps = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
            loss[path, seed] = statistics.fmean(steps[-len(steps) // 6:])  # of the last epoch

    lines = [f"`fashion_mnist train {' '.join(TRAIN)}`, test accuracy and mean loss of the last epoch:", "",
             "| path | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " | mean | largest less smallest |",
             "| --- |" + " ---: |" * (len(SEEDS) + 2)]
    for path in PATHS:
        ours = [accuracy[path, seed] for seed in SEEDS]
        losses = [loss[path, seed] for seed in SEEDS]
        cells = [f"{a:.2f} %, {l:.4f}" for a, l in zip(ours, losses)]
        lines.append(f"| {path} | {' | '.join(cells)} | {statistics.fmean(ours):.2f} %, {statistics.fmean(losses):.4f} | "
                     f"{max(ours) - min(ours):.2f} %, {max(losses) - min(losses):.4f} |")
    print("\n".join(lines))


main()
