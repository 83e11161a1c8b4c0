#!/usr/bin/env python3
"""Checks that no include of the library points up, that none goes in a circle, and that the umbrella header is whole.

A file may include its own layer, without cycles, and layers listed before it. `x.cpu.hpp` and `x.cuda.cuh` lie below
`x.hpp`: what they reach is core, tensor, cpu, cuda, and files of their own layer that reach no more than that; what is
for the CPU alone reaches no CUDA. Files for nvcc end in .cuh. `espalier.hpp` includes every other header, apart from
those of libraries that few need (HEAVY) and those that say so themselves (APART).

usage: check_layers.py [--write-umbrella | --self-test]
"""
import re
import sys
import tempfile
from pathlib import Path

LAYERS = ("core tensor cpu cuda autograd ops nn models regularizers pruning interpret data io train distributed report").split()
KERNEL_LAYERS = {".cpu.hpp": {"core", "tensor", "cpu"}, ".cuda.cuh": {"core", "tensor", "cpu", "cuda"}}
HEAVY = ("Eigen/", "nlohmann/", "jpeglib.h", "onnx/")  # slow or optional: who wants them includes their header
APART = "Not part of espalier.hpp"  # a comment in other headers that few programs need
UMBRELLA = "espalier.hpp"
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)


def read_includes(root):
    """Maps each header, as `layer/file.hpp`, to the (bracket, path) pairs that it includes."""
    return {str(path.relative_to(root)): includes_of(path.read_text()) for path in sorted(root.rglob("*.[hc][pu][ph]"))}


def includes_of(text):
    """The pairs that a header includes; one that stands apart has ("", APART) among them."""
    return INCLUDE.findall(text) + [("", APART)] * (APART in text)


def is_heavy(header, headers, above=()):
    """Whether a header includes a heavy one, itself or through others."""
    return any(path.startswith(HEAVY) or
               path.startswith("espalier/") and path not in above and is_heavy(path[9:], headers, (*above, path))
               for _, path in headers[header] if path.startswith(HEAVY) or path[9:] in headers)


def umbrella(headers):
    """Text of espalier.hpp for these headers: layer by layer, each in alphabetical order, without the heavy ones."""
    public = [h for h in headers if h != UMBRELLA and not h.endswith((".cpu.hpp", ".cuh")) and ("", APART) not in headers[h]
              and not is_heavy(h, headers)]
    public.sort(key=lambda h: (LAYERS.index(h.split("/")[0]), h))
    groups = ["\n".join(f"#include <espalier/{h}>" for h in public if h.startswith(layer + "/")) for layer in LAYERS]
    return "\n\n".join(["#pragma once", "// The whole library. Written by tools/check_layers.py --write-umbrella."]
                       + [group for group in groups if group]) + "\n"


def check(root):
    """Every violation under `root` (include/espalier), one line each."""
    problems = []
    includes = read_includes(root)
    graph = {}
    for header, lines in includes.items():
        if header == UMBRELLA:
            continue
        layer = header.split("/")[0]
        if layer not in LAYERS or "/" not in header:
            problems.append(f"{header}: expected a header in one of {' '.join(LAYERS)}")
            continue
        graph[header] = []
        for bracket, path in lines:
            if bracket == '"':
                problems.append(f'{header}: expected <espalier/...> or <system>, got "{path}"')
            if not path.startswith("espalier/"):
                continue
            target = path.removeprefix("espalier/")
            if target not in includes:
                problems.append(f"{header}: includes {path}, which does not exist")
                continue
            target_layer = target.split("/")[0]
            if target_layer not in LAYERS or LAYERS.index(target_layer) > LAYERS.index(layer):
                problems.append(f"{header}: {layer} must not know {target_layer}, includes {path}")
            graph[header].append(target)
    for header in graph:
        for ending, layers in KERNEL_LAYERS.items():
            if header.endswith(ending):
                allowed = layers | {header.split("/")[0]}
                above = sorted(h for h in reachable(graph, header) if h.split("/")[0] not in allowed)
                problems += [f"{header}: kernels may know {', '.join(sorted(layers))}, reaches {h}" for h in above]
    problems += [f"cycle: {' -> '.join(cycle)}" for cycle in cycles(graph)]
    if not problems:
        have = (root / UMBRELLA).read_text() if UMBRELLA in includes else ""
        if have != umbrella(includes):
            problems.append(f"{UMBRELLA}: does not match the headers; run tools/check_layers.py --write-umbrella")
    return problems


def reachable(graph, start):
    """Every header that `start` includes, directly or not."""
    seen, todo = set(), [start]
    while todo:
        for target in graph.get(todo.pop(), []):
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


def cycles(graph):
    """One cycle for each edge that closes one in a depth-first walk."""
    found, done, path = [], set(), []

    def visit(node):
        if node in path:
            found.append(path[path.index(node):] + [node])
        elif node not in done:
            path.append(node)
            for target in graph.get(node, []):
                visit(target)
            path.pop()
            done.add(node)

    for node in graph:
        visit(node)
    return found


def self_test():
    """Plants each kind of violation in a small library and expects it to be found, and nothing else."""
    clean = {
        "core/a.hpp": "",
        "tensor/b.hpp": "#include <espalier/core/a.hpp>\n#include <vector>\n",
        "ops/c.hpp": "#include <espalier/ops/c.cpu.hpp>\n#include <espalier/autograd/d.hpp>\n",
        "ops/c.cpu.hpp": "#include <espalier/tensor/b.hpp>\n",
        "autograd/d.hpp": "#include <espalier/tensor/b.hpp>\n",
        "cuda/g.cuh": "#include <espalier/tensor/b.hpp>\n",
        "ops/c.cuda.cuh": "#include <espalier/cuda/g.cuh>\n",
    }
    plants = [
        ({}, ""),
        ({"core/a.hpp": "#include <espalier/ops/c.hpp>\n"}, "core must not know ops"),
        ({"tensor/b.hpp": "  #  include <espalier/autograd/d.hpp>\n"}, "tensor must not know autograd"),
        ({"ops/c.cpu.hpp": "#include <espalier/autograd/d.hpp>\n"}, "kernels may know"),
        ({"ops/c.cpu.hpp": "#include <espalier/ops/e.hpp>\n", "ops/e.hpp": "#include <espalier/autograd/d.hpp>\n"},
         "ops/c.cpu.hpp: kernels may know"),
        ({"ops/c.cpu.hpp": "#include <espalier/cuda/g.cuh>\n"}, "ops/c.cpu.hpp: kernels may know"),
        ({"ops/c.cuda.cuh": "#include <espalier/autograd/d.hpp>\n"}, "ops/c.cuda.cuh: kernels may know"),
        ({"cuda/g.cuh": "#include <espalier/autograd/d.hpp>\n"}, "cuda must not know autograd"),
        ({"core/a.hpp": "#include <espalier/core/e.hpp>\n", "core/e.hpp": "#include <espalier/core/a.hpp>\n"}, "cycle"),
        ({"core/a.hpp": "#include <espalier/core/gone.hpp>\n"}, "does not exist"),
        ({"core/a.hpp": '#include "b.hpp"\n'}, "expected <espalier/...>"),
        ({"core/a.hpp": "#include <espalier/espalier.hpp>\n"}, "core must not know espalier.hpp"),
        ({"extras/f.hpp": ""}, "expected a header in one of"),
        ({UMBRELLA: "#pragma once\n"}, "does not match the headers"),
    ]
    for files, expected in plants:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name, text in {UMBRELLA: umbrella({h: includes_of(t) for h, t in clean.items()}), **clean, **files}.items():
                (root / name).parent.mkdir(exist_ok=True)
                (root / name).write_text(text)
            problems = check(root)
            if expected and not any(expected in p for p in problems) or not expected and problems:
                sys.exit(f"check_layers: self-test: expected '{expected}' for {files}, got {problems}")
    print(f"check_layers: self-test: {len(plants)} planted libraries judged right")


def main():
    root = Path(__file__).resolve().parent.parent / "include" / "espalier"
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if sys.argv[1:] == ["--write-umbrella"]:
        (root / UMBRELLA).write_text(umbrella(read_includes(root)))
    elif sys.argv[1:]:
        sys.exit(__doc__)
    problems = check(root)
    if problems:
        sys.exit("\n".join(problems))
    print(f"check_layers: {len(read_includes(root))} headers, no include points up")


main()
