#!/usr/bin/env python3
"""Espalier beside Torch-Pruning: the same networks, weights, scores and ratios. `./run compare-pruning` builds what it needs.

usage: compare_pruning.py [--filter REGEX] [--list] [--python PYTHON] [--program PROGRAM] [--out FOLDER]

Two programs answer its requests (pruning.cpp, peers/torch_pruning.py). Once a network, the logits before pruning and the
channels of all groups are compared: for each channel, the entries of all parameters and buffers that go with it. Then each
row prunes. A row agrees if the groups do, and after pruning the number of parameters, the bits of every parameter and buffer
(weights are random, so these are the kept channels) and, to 1e-4, the logits. What disagrees is in docs/torch_pruning.md.

Writes benchmarks/PRUNING.md and pruning.json (or both to --out) and ends with a line `agree A of B`.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

from bench import ROOT, WORK, PeerError, Server, cpu_name, python_with_torch

TOLERANCE = 1e-4  # of the largest logit: fifty layers in float, summed in other orders
NETWORKS = {"vgg16": {"model": "vgg16"},
            "resnet20": {"model": "resnet20", "shortcut": "projection"},
            "resnet56": {"model": "resnet56", "shortcut": "projection"},
            "densenet-bc-100-12": {"model": "densenet-bc-100-12"},
            "mobilenetv2": {"model": "mobilenetv2"},
            "resnet20, option A": {"model": "resnet20", "shortcut": "padded"}}
CRITERIA = [("l1", "ours"), ("l1", "theirs"), ("l2", "ours"), ("l2", "theirs"), ("bn scale", "theirs"), ("given", "ours"),
            ("fpgm", "ours"), ("fpgm", "theirs"), ("taylor", "ours"), ("taylor", "theirs")]
RANKINGS = [("local", 0.5), ("local", 0.3), ("global", 0.3)]
NORMALIZATIONS = ["none", "max", "sum", "standarization", "gaussian"]  # as Torch-Pruning spells them; the other rows: mean


def rows():
    """What is pruned: each network by each criterion, by the formula of either side, and one by each normalization."""
    def row(network, criterion, rule, ranking, ratio, normalization="mean"):
        name = f"{network}/{criterion} {rule}/{ranking} {ratio}" + (f"/{normalization}" if normalization != "mean" else "")
        return {"name": name, "network": network, "criterion": criterion, "rule": rule, "ranking": ranking, "ratio": ratio,
                "normalization": normalization}
    every = [row(network, criterion, rule, ranking, ratio)
             for network in NETWORKS for criterion, rule in CRITERIA for ranking, ratio in RANKINGS
             if network != "resnet20, option A" or (criterion, rule) == ("l1", "ours")]  # one reason, whatever the criterion
    return every + [row("resnet20", "l1", "ours", "global", 0.3, normalization) for normalization in NORMALIZATIONS]


def ask(server, do, **request):
    """The answer, or {"error": ...}: what a program can't do is a result."""
    try:
        return server.ask(do, **request)
    except PeerError as error:
        return {"error": str(error)}


def compare_groups(ours, theirs):
    if error := ours.get("error") or theirs.get("error"):
        return error
    mine, other = ({tuple(tuple(member) for member in sorted(channel)) for channel in side["channels"]}
                   for side in (ours, theirs))
    if mine == other:
        return ""
    return f"{len(mine - other)} of {len(mine)} channels are not among the other's {len(other)}"


def compare(row, ours, theirs):
    """What differs, as a text; empty if nothing does."""
    if error := ours.get("error") or theirs.get("error"):
        return error
    differences = []
    if ours["parameters"] != theirs["parameters"]:
        differences.append(f"{ours['parameters']:,} parameters and {theirs['parameters']:,}")
    if theirs["differing"]:
        names = theirs["differing"]
        differences.append(f"{len(names)} tensors, the first {names[0]}")
    if not theirs["error_of_logits"] <= TOLERANCE:
        differences.append(f"logits by {theirs['error_of_logits']:.1e}")
    return "; ".join(differences)


def measure(wanted, program, python):
    ours, theirs = Server([program], None), Server([python, ROOT / "benchmarks/peers/torch_pruning.py"], None)
    results, networks, path = [], {}, WORK / "pruning.safetensors"
    try:
        about = theirs.ask("about")
        for name, options in NETWORKS.items():
            of_network = [row for row in wanted if row["network"] == name]
            if not of_network:
                continue
            ours.ask("load", path=str(path), **options)
            loaded = theirs.ask("load", model=name, path=str(path))
            groups = [ask(side, "groups") for side in (ours, theirs)]
            difference = compare_groups(*groups)
            if not loaded["error_of_logits"] <= TOLERANCE:
                sys.exit(f"compare_pruning: {name}: expected the same logits before pruning, got {loaded}")
            networks[name] = {"groups": groups[0].get("groups"), "channels": len(groups[0].get("channels", [])),
                              "difference": difference, "logits": loaded["error_of_logits"],
                              "ours_ms": groups[0].get("ms"), "theirs_ms": groups[1].get("ms")}
            for row in of_network:
                request = {key: row[key] for key in ("criterion", "rule", "ranking", "ratio", "normalization")}
                mine = ask(ours, "prune", path=str(path), **request)
                other = ask(theirs, "prune", path=str(path), **request) if "error" not in mine else {}
                differs = compare(row, mine, other)
                if not differs and difference:
                    differs = "the groups"
                results.append({**row, "agrees": not differs, "difference": differs,
                                "ours": mine, "theirs": {k: v for k, v in other.items() if k != "differing"}})
                print(f"{row['name']}: {differs or 'agrees'}", flush=True)
    finally:
        ours.close()
        theirs.close()
    return results, networks, about


def median_ms(rows, side, *keys):
    """Of the sum of some times over all rows that have them; a dash if none has."""
    times = [sum(row[side][key] for key in keys) for row in rows if all(key in row[side] for key in keys)]
    return f"{statistics.median(times):,.0f}" if times else "-"


def page(results, networks, about):
    """What was measured, as text for people."""
    lines = ["# Pruning beside Torch-Pruning", "",
             "`./run compare-pruning` wrote this page from what it measured; [what differs and why](../docs/torch_pruning.md).", "",
             f"Torch-Pruning {about['torch_pruning']} on PyTorch {about['torch']}, {cpu_name()}. Both sides have the same weights.",
             f"**agree {sum(r['agrees'] for r in results)} of {len(results)}**: rows with the same groups, number of parameters, bits of",
             f"every parameter and buffer after pruning, and logits within {TOLERANCE:.0e} of the largest.", "",
             "A channel of a group is the set of all entries of parameters and buffers that go together. Milliseconds are medians:",
             "of tracing and grouping; of our plan; of our cut with its certificate, which are four passes over eight images, two",
             "of them on the slow path of fixed order; of all that Torch-Pruning does, its groups included.", "",
             "| network | groups | channels | same groups | rows agree | ms groups | Torch-Pruning's | ms plan | ms cut and "
             "certificate | Torch-Pruning's ms, all |",
             "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name, n in networks.items():
        rows = [r for r in results if r["network"] == name]
        lines.append(f"| {name} | {n['groups']} | {n['channels']:,} | {'no' if n['difference'] else 'yes'} | "
                     f"{sum(r['agrees'] for r in rows)} of {len(rows)} | {n['ours_ms'] or 0:,.0f} | {n['theirs_ms'] or 0:,.0f} | "
                     f"{median_ms(rows, 'ours', 'plan_ms')} | {median_ms(rows, 'ours', 'apply_ms')} | "
                     f"{median_ms(rows, 'theirs', 'ms')} |")
    cuts = list(dict.fromkeys((r["ranking"], r["ratio"], r["normalization"]) for r in results))
    text = lambda ranking, ratio, normalization: f"{ranking} {ratio}" + (f", {normalization}" if normalization != "mean" else "")
    lines += ["", "Formula *ours* is that of the library, which Torch-Pruning gets as an Importance of a user; *theirs* is the class that",
              "Torch-Pruning has, which the library expresses by its options. `=` agrees, `x` does not.", "",
              "| network | criterion | formula | " + " | ".join(text(*cut) for cut in cuts) + " |",
              "| --- | --- | --- |" + " :-: |" * len(cuts)]
    for key in dict.fromkeys((r["network"], r["criterion"], r["rule"]) for r in results):
        found = {(r["ranking"], r["ratio"], r["normalization"]): "=" if r["agrees"] else "x" for r in results
                 if (r["network"], r["criterion"], r["rule"]) == key}
        lines.append("| " + " | ".join([*key, *(found.get(cut, "") for cut in cuts)]) + " |")
    different = [f"- {name}, groups: {n['difference']}" for name, n in networks.items() if n["difference"]]
    different += [f"- {r['name']}: {r['difference']}" for r in results if r["difference"] not in ("", "the groups")]
    return "\n".join([*lines, *(["", "What is different:", "", *different] if different else []), ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", help="only rows whose name matches")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--python", help="an interpreter with torch, torch-pruning, numpy and safetensors; else one is set up")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/benchmarks/pruning", help="pruning.cpp")
    parser.add_argument("--out", type=Path, help="folder for PRUNING.md and pruning.json")
    options = parser.parse_args()
    wanted = [row for row in rows() if re.search(options.filter, row["name"])]
    if options.list:
        return print("\n".join(row["name"] for row in wanted))
    WORK.mkdir(parents=True, exist_ok=True)
    results, networks, about = measure(wanted, options.program, python_with_torch(options.python, "torch-pruning"))
    folder = options.out or (WORK if options.filter else ROOT / "benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pruning.json").write_text(json.dumps({"peer": about, "networks": networks, "rows": results}, indent=1) + "\n")
    (folder / "PRUNING.md").write_text(page(results, networks, about))
    print(f"wrote {folder / 'PRUNING.md'} and pruning.json")
    print(f"agree {sum(r['agrees'] for r in results)} of {len(results)}")


if __name__ == "__main__":
    main()
