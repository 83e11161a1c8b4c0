#!/usr/bin/env python3
"""Writes the demo's table in README.md from runs/demo/record.json, as `./run demo` leaves it.

usage: demo_table.py [record.json]
"""
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    record = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "runs/demo/record.json").read_text())
    with open("/proc/cpuinfo") as file:
        cpu = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    lines = [f"What `./run demo` measured on {record['threads']} threads of an {cpu}, seed {record['seed']}, in "
             f"{record['seconds']:.0f} s beside the build (`tools/demo_table.py` writes this",
             "from its `runs/demo/record.json`; latencies are medians with their spread, accuracies those after the last "
             "epoch):", "",
             "| network | test accuracy | parameters | MACs | filters | bytes | ms, batch 1 | ms, batch 128 |",
             "| --- |" + " ---: |" * 7]
    for name in ("dense", "pruned", "finetuned"):
        stage = record[name]
        cells = [name, f"{100 * stage['accuracy']:.2f} %",
                 *(f"{stage[key]:,}" for key in ("parameters", "macs", "filters", "bytes"))]
        for batch in ("1", "128"):
            low, high = stage["latency_ms_spread"][batch]
            cells.append(f"{stage['latency_ms'][batch]:.2f} ({low:.2f} to {high:.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    proof = record["certificate"]
    lines += ["", "The certificate: masked and pruned network "
              f"{'bit-equal' if proof['reference_path_bit_equal'] else 'NOT bit-equal'} on the fixed-order path, "
              f"{proof['fast_path_max_relative_error']:g} apart on the fast one;",
              f"{proof['predicted_macs']:,} MACs predicted, {proof['counted_macs']:,} counted.",
              *record.get("warnings", [])]
    readme = ROOT / "README.md"
    text = re.sub(r"(?s)(<!-- demo -->\n).*?(<!-- /demo -->)", lambda m: m[1] + "\n".join(lines) + "\n" + m[2],
                  readme.read_text())
    readme.write_text(text)


main()
