#!/usr/bin/env python3
"""Compiles every kernel by nvcc, for the GPUs in ARCHITECTURES, with all warnings as errors, and says what each kernel
takes: registers, shared memory, spills to memory. A spill in a hot kernel fails.

tests/cuda/every_kernel_test.cpp has every kernel in it, as float and double; it is compiled once a GPU and not run.
An example program and the benchmarks are compiled for the last of the GPUs, without machine code for it, which would say
nothing new. Without nvcc nothing is checked, and the program says so. With --all tests, examples and benchmarks are built.

usage: cuda_compile.py [--all] [--csv FILE] [--self-test]
"""
import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = ["80", "90a"]  # A100; H100 and H200
SOURCE = ROOT / "tests" / "cuda" / "every_kernel_test.cpp"
PROGRAMS = [ROOT / "benchmarks" / "step.cpp", ROOT / "examples" / "support" / "experiment.cpp"]  # the slowest first
PROGRAMS += sorted({ROOT / "examples" / "mnist.cpp", *ROOT.glob("examples/support/*.cpp"), *ROOT.glob("benchmarks/*.cpp"),
                    ROOT / "benchmarks" / "peers" / "onednn.cpp"} - set(PROGRAMS))
# Kernels that a training step spends its time in: a spill there is a mistake. The others run once a layer on little.
HOT = re.compile(r"product|batch_norm|feature_flow|join|pool|elementwise|reduce|accumulate|for_each")


def nvcc(source, architecture, kind, flags, output):
    """What it prints when it compiles a source to machine code (kind sm) or not (compute)."""
    command = ["nvcc", "-std=c++20", f"-gencode=arch=compute_{architecture},code={kind}_{architecture}", "-x", "cu",
               "--expt-relaxed-constexpr", "-DESPALIER_CUDA=1", "-Werror", "all-warnings", "-I", ROOT / "include", *flags,
               "-c", source, "-o", output]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"cuda_compile: nvcc failed for {source.relative_to(ROOT)}, {kind}_{architecture}\n"
                 f"{result.stdout}{result.stderr}")
    return result.stdout + result.stderr


def compile_kernels(architecture, folder):
    """What ptxas says of every kernel of SOURCE."""
    return nvcc(SOURCE, architecture, "sm", ["-O3", "-Xptxas=-v", "-I", ROOT / "tests", "-include", "doctest/doctest.h"],
                Path(folder) / f"{architecture}.o")


def compile_program(source, folder):
    """With the host's flags of gpu_check.sh, whose vector instructions and threads are code of their own."""
    nvcc(source, ARCHITECTURES[-1], "compute", ["-O0", "-Xcompiler=-fopenmp,-march=native", "-I", ROOT / "examples",
                                                '-DESPALIER_COMPILER="nvcc"', '-DESPALIER_FLAGS="-O0"'], Path(folder) / f"{source.stem}.o")


def kernels_of(text):
    """(mangled name, architecture, registers, bytes of shared memory, bytes of spills) of each kernel."""
    rows = []
    for block in re.split(r"(?=ptxas info\s*: Compiling entry function)", text)[1:]:
        name, architecture = re.search(r"entry function '([^']+)' for '([^']+)'", block).groups()
        spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", block)
        used = re.search(r"Used (\d+) registers", block)
        shared = re.search(r"(\d+) bytes smem", block)
        rows.append((name, architecture, int(used.group(1)), int(shared.group(1)) if shared else 0,
                     sum(map(int, spills.groups())) if spills else 0))
    return rows


def short(name):
    """A kernel as a reader calls it: no namespaces, return type or parameters."""
    name = re.sub(r"espalier::(\w+::)?(kernels|detail)::|espalier::\w+::|\(anonymous namespace\)::|std::", "", name)
    depth, end = 0, len(name)
    for i, c in enumerate(name):  # the parameters begin at the first parenthesis outside of template arguments
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0 and i > 0:
            end = i
            break
    return name[:end].removeprefix("void ").strip()


def demangle(names):
    result = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def self_test():
    text = ("ptxas info    : Compiling entry function '_ZN8espalier1fE' for 'sm_80'\n"
            "ptxas info    : Function properties for x\n    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n"
            "ptxas info    : Used 40 registers, used 1 barriers, 2048 bytes smem, 400 bytes cmem[0]\n"
            "ptxas info    : Compiling entry function '_Z1gv' for 'sm_80'\n    0 bytes stack frame, 0 bytes spill stores, "
            "0 bytes spill loads\nptxas info    : Used 8 registers, 400 bytes cmem[0]\n")
    assert kernels_of(text) == [("_ZN8espalier1fE", "sm_80", 40, 2048, 12), ("_Z1gv", "sm_80", 8, 0, 0)]
    long = "void espalier::cuda_v16_fma0_omp0::kernels::a_kernel<float, espalier::cuda_v16_fma0_omp0::detail::Relu>(int)"
    assert short(long) == "a_kernel<float, Relu>", short(long)
    print("cuda_compile: self-test: reads what ptxas says")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--all", action="store_true", help="build the tests, too")
    arguments.add_argument("--csv", type=Path, help="write the table here")
    arguments.add_argument("--self-test", action="store_true")
    options = arguments.parse_args()
    if options.self_test:
        return self_test()
    if not shutil.which("nvcc"):
        print("cuda_compile: NOT RUN: no nvcc here; it comes with NVIDIA's CUDA Toolkit 13")
        return
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        texts = pool.map(lambda architecture: compile_kernels(architecture, folder), ARCHITECTURES)
        programs = pool.map(lambda source: compile_program(source, folder), PROGRAMS)
        rows = [row for text in texts for row in kernels_of(text)]
        list(programs)  # raises what they raised
    names = [short(name) for name in demangle([row[0] for row in rows])]
    rows = sorted((name, *row[1:]) for name, row in zip(names, rows))
    header = ["kernel", "GPU", "registers", "shared memory, bytes", "spills, bytes"]
    if options.csv:
        with options.csv.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    widest = max(rows, key=lambda row: row[2])
    spilling = [row for row in rows if row[4]]
    print(f"cuda_compile: {len(rows)} kernels for {', '.join('sm_' + a for a in ARCHITECTURES)}, {len(PROGRAMS)} files of programs, no warning; "
          f"most registers: {widest[2]} of {widest[0]} for {widest[1]}; spills: {len(spilling)}")
    for row in spilling:
        print(f"  spills {row[4]} bytes: {row[0]} for {row[1]}, {row[2]} registers")
    if any(HOT.search(row[0]) for row in spilling):
        sys.exit("cuda_compile: a hot kernel spills registers to memory")
    if options.all:
        for command in (["cmake", "--preset", "cuda"], ["cmake", "--build", "--preset", "cuda"]):
            if subprocess.run(command, cwd=ROOT).returncode:
                sys.exit("cuda_compile: the preset cuda does not build")


main()
