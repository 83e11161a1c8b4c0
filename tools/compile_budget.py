#!/usr/bin/env python3
"""Measures what the README's program costs to compile: seconds and the compiler's memory.

It is compiled by g++ -O2 as a program that links espalier::compiled, as one of headers alone, and beside them its
counterpart in libtorch (benchmarks/peers/readme.cpp) where Debian's libtorch-dev is installed, all in turn. A file of
standard headers alone is the yardstick: seconds over its seconds compare machines that are not equally fast.

usage: compile_budget.py [--rounds N] [--check | --write]

--check  fails if the program costs a quarter more than benchmarks/compile_budget.json says, or over 500 MB
--write  writes the table of docs/performance.md and, where the program costs less than that file says, the file: a
         budget that followed what is measured would allow a quarter more each time
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUDGET = ROOT / "benchmarks/compile_budget.json"
PAGE = ROOT / "docs/performance.md"
FLAGS = ["g++", "-std=c++20", "-O2", "-march=native", "-fopenmp", "-c", "-o", os.devnull]
YARDSTICK = "".join(f"#include <{name}>\n" for name in (
    "algorithm", "chrono", "filesystem", "fstream", "functional", "iostream", "map", "memory", "regex", "string",
    "thread", "unordered_map", "variant", "vector"))
GROWTH = 1.25
LIMIT_MB = 500


def readme_program():
    text = (ROOT / "README.md").read_text()
    return re.search(r"^```cpp\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]


def programs(folder):
    """Name -> command; the first is what is checked, the last the yardstick."""
    Path(folder, "readme.cpp").write_text(readme_program())
    Path(folder, "yardstick.cpp").write_text(YARDSTICK)
    ours = [*FLAGS, f"-I{ROOT}/include", f"{folder}/readme.cpp"]
    commands = {"espalier::compiled": [*ours, "-DESPALIER_COMPILED"], "headers alone": ours}
    if Path("/usr/include/torch/csrc/api/include/torch/torch.h").exists():
        commands["libtorch"] = [*FLAGS, "-isystem/usr/include/torch/csrc/api/include", f"{ROOT}/benchmarks/peers/readme.cpp"]
    commands["yardstick"] = [*FLAGS, f"{folder}/yardstick.cpp"]
    return commands


def cost(command):
    """Seconds and megabytes of one compilation."""
    start = time.monotonic()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"compile_budget: expected to compile, got exit code {child.returncode} from: {' '.join(command)}")
    return time.monotonic() - start, usage.ru_maxrss / 1024


def measure(rounds, only=None):
    with tempfile.TemporaryDirectory() as folder:
        commands = {name: c for name, c in programs(folder).items() if only is None or name in only}
        runs = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                runs[name].append(cost(command))
    return {name: {"seconds": statistics.median(s for s, _ in r), "megabytes": max(m for _, m in r)}
            for name, r in runs.items()}


def check(rounds):
    budget = json.loads(BUDGET.read_text())
    now = measure(rounds, ("espalier::compiled", "yardstick"))
    ours = now["espalier::compiled"]
    ratio = ours["seconds"] / now["yardstick"]["seconds"]
    print(f"compile_budget: {ours['seconds']:.1f} s, {ratio:.2f} yardsticks (budget {budget['yardsticks']:.2f}), "
          f"{ours['megabytes']:.0f} MB (budget {budget['megabytes']:.0f})")
    if ratio > GROWTH * budget["yardsticks"] or ours["megabytes"] > min(LIMIT_MB, GROWTH * budget["megabytes"]):
        sys.exit("compile_budget: the README's program costs over a quarter more to compile than it did")


def write(rounds):
    now = measure(rounds)
    yardstick = now.pop("yardstick")["seconds"]
    ours = now["espalier::compiled"]
    measured = {"yardsticks": round(ours["seconds"] / yardstick, 2), "megabytes": round(ours["megabytes"])}
    budget = json.loads(BUDGET.read_text())
    BUDGET.write_text(json.dumps({what: min(budget[what], measured[what]) for what in measured}) + "\n")
    compiler = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    names = {"espalier::compiled": "Espalier, linking `espalier::compiled`", "headers alone": "Espalier, headers alone",
             "libtorch": "libtorch (without pruning)"}
    table = [f"g++ {compiler} -O2, medians of {rounds} rounds in turn:", "",
             "| program | seconds | MB |", "| --- | --: | --: |"]
    table += [f"| {names[name]} | {r['seconds']:.1f} | {r['megabytes']:.0f} |" for name, r in now.items()]
    text = PAGE.read_text()
    marked = re.compile(r"(<!-- compile -->\n).*?(<!-- /compile -->)", re.DOTALL)
    PAGE.write_text(marked.sub(lambda m: m[1] + "\n".join(table) + "\n" + m[2], text))
    print("\n".join(table))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="compilations of each, 3 if not said")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="fail if it costs a quarter more than it did")
    what.add_argument("--write", action="store_true", help="write the table of docs/performance.md, and lower the budget")
    options = parser.parse_args()
    if options.check:
        check(options.rounds)
    elif options.write:
        write(options.rounds)
    else:
        for name, r in measure(options.rounds).items():
            print(f"{r['seconds']:7.2f} s {r['megabytes']:7.0f} MB  {name}")


if __name__ == "__main__":
    main()
