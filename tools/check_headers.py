#!/usr/bin/env python3
"""Compiles each header of the library alone, with all warnings as errors.

Half of the time would go to the same few headers again and again. So one that includes a hub, itself or through others,
finds the hub compiled beforehand. That hides nothing: the hub's names stand before its own text in either case, and the
headers above the hub in its list are compiled alone, too. Those of CUDA kernels (.cuh) are compiled with the runtime that
the tests emulate. Lines behind `#if ESPALIER_BODIES` do not count, since the
text before them must do without.

usage: check_headers.py [COMPILER: g++]
"""
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

INCLUDE = Path(__file__).resolve().parent.parent / "include"
HUBS = ["io/tensor_file.hpp", "nn/network.hpp", "nn/module.hpp", "autograd/var.hpp", "tensor/tensor.hpp", "core/shape.hpp"]
COMPILER = [*(sys.argv[1:] or ["g++"]), "-std=c++20", "-march=native", "-fopenmp", "-Wall", "-Wextra", "-Wconversion",
            "-Wshadow", "-Wdouble-promotion", "-Werror", f"-I{INCLUDE}", "-isystem", "/usr/include/eigen3"]


def includes(text):
    return re.findall(r"^\s*#\s*include <espalier/(.*)>", text, re.M)


def reached(header, texts):
    """What is included before the text of a header: by its first part, and by all of what that includes."""
    seen, todo = set(), includes(texts[header].split("#if ESPALIER_BODIES")[0])
    while todo:
        if (name := todo.pop()) not in seen and name in texts:  # those for nvcc are behind #if
            seen.add(name)
            todo += includes(texts[name])
    return seen


def compiles(*arguments):
    return subprocess.run([*COMPILER, *arguments]).returncode == 0


def main():
    texts = {str(path.relative_to(INCLUDE / "espalier")): path.read_text() for path in sorted(INCLUDE.rglob("*.hpp"))}
    kernels = [str(path.relative_to(INCLUDE / "espalier")) for path in sorted(INCLUDE.rglob("*.cuh"))]
    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(os.cpu_count()) as pool:
        def prepare(hub):
            source = Path(work, hub.replace("/", "_"))
            source.write_text(f"#include <espalier/{hub}>\n")
            return compiles("-x", "c++-header", source, "-o", f"{source}.gch")

        def check(header):
            before = reached(header, texts)
            hub = next((["-include", Path(work, hub.replace("/", "_"))] for hub in HUBS if hub in before), [])
            return compiles("-fsyntax-only", *hub, "-include", f"espalier/{header}", "-x", "c++", os.devnull)

        def check_kernels(header):  # with the CUDA runtime that the tests emulate
            return compiles("-fsyntax-only", "-Wno-sign-conversion", "-DESPALIER_CUDA=1",
                            f"-I{INCLUDE.parent}/tests/emulation/include", "-include", f"espalier/{header}", "-x", "c++",
                            os.devnull)

        good = all(list(pool.map(prepare, HUBS)))
        failed = [header for header, passed in zip(texts, pool.map(check, texts)) if not passed]
        failed += [header for header, passed in zip(kernels, pool.map(check_kernels, kernels)) if not passed]
    if failed or not good:
        sys.exit(f"check_headers: expected {len(texts) + len(kernels)} headers to compile alone with {COMPILER[0]}, got errors in {failed}")
    print(f"check_headers: {len(texts) + len(kernels)} headers compile alone with {COMPILER[0]}")


main()
