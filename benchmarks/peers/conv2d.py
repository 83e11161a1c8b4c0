"""The layers of benchmarks/conv2d.cpp in PyTorch, and beside ours.

    conv2d.py [filter] [--repeats 5] [--rounds 5] [--program build/release/benchmarks/conv2d] [--table FILE]

Measures the layers whose name contains `filter` in PyTorch, contiguous and channels last. With --program, that program
and PyTorch take turns for so many rounds, and a table of their medians over all rounds is printed as Markdown (and
written to FILE): PyTorch's time is that of its faster layout. With one thread (OMP_NUM_THREADS=1) time is processor
time on both sides.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time

import torch

LAYERS = [  # name, batch, extent, channels, filters, taps, stride
    ("vgg stem", 32, 32, 3, 64, 3, 1),
    ("vgg 64", 32, 32, 64, 64, 3, 1),
    ("vgg 64-128", 32, 16, 64, 128, 3, 1),
    ("vgg 128", 32, 16, 128, 128, 3, 1),
    ("vgg 128-256", 32, 8, 128, 256, 3, 1),
    ("vgg 256", 32, 8, 256, 256, 3, 1),
    ("vgg 256-512", 32, 4, 256, 512, 3, 1),
    ("vgg 512", 32, 4, 512, 512, 3, 1),
    ("vgg 512 small", 32, 2, 512, 512, 3, 1),
    ("resnet stem", 32, 32, 3, 16, 3, 1),
    ("resnet 16", 32, 32, 16, 16, 3, 1),
    ("resnet 16-32", 32, 32, 16, 32, 3, 2),
    ("resnet 32", 32, 16, 32, 32, 3, 1),
    ("resnet 32-64", 32, 16, 32, 64, 3, 2),
    ("resnet 64", 32, 8, 64, 64, 3, 1),
    ("mnist 16", 32, 28, 16, 16, 3, 1),
    ("mnist 32", 32, 14, 32, 32, 3, 1),
    ("mnist 64", 32, 7, 64, 64, 3, 1),
    ("pruned 37", 32, 16, 37, 37, 3, 1),
    ("pruned 49", 32, 16, 49, 49, 3, 1),
    ("pruned 61", 32, 16, 61, 61, 3, 1),
    ("pointwise 256", 32, 8, 256, 256, 1, 1),
]


def measure(repeats, f):
    """Median milliseconds."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times = []
    f()
    for _ in range(repeats):
        start = clock()
        f()
        times.append(1e3 * (clock() - start))
    return statistics.median(times)


def measure_torch(wanted, repeats):
    """Milliseconds of (layer, direction), for each layout."""
    times = {}
    for name, batch, extent, channels, filters, taps, stride in LAYERS:
        if wanted not in name:
            continue
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(batch, channels, extent, extent).to(memory_format=layout)
            w = torch.randn(filters, channels, taps, taps).to(memory_format=layout)
            with torch.no_grad():
                dy = torch.randn_like(torch.conv2d(x, w, None, stride, taps // 2))

                def gradient(which):
                    return torch.ops.aten.convolution_backward(
                        dy, x, w, None, [stride] * 2, [taps // 2] * 2, [1, 1], False, [0, 0], 1, which)

                for direction, f in (
                    ("forward", lambda: torch.conv2d(x, w, None, stride, taps // 2)),
                    ("data", lambda: gradient([True, False, False])),
                    ("weights", lambda: gradient([False, True, False])),
                ):
                    times.setdefault((name, direction), []).append(measure(repeats, f))
    return times


def measure_ours(program, wanted, repeats):
    """Milliseconds of (layer, direction)."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run([program, wanted, str(repeats), file.name], check=True, stdout=subprocess.DEVNULL)
        return {(row["layer"], row["direction"]): row["ms"] for row in json.load(file)["rows"]}


def cpu_name():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filter", nargs="?", default="")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--program")
    parser.add_argument("--table")
    options = parser.parse_args()

    ours, peer = {}, {}
    for round in range(options.rounds):
        if options.program:
            for key, ms in measure_ours(options.program, options.filter, options.repeats).items():
                ours.setdefault(key, []).append(ms)
        for key, (contiguous, last) in measure_torch(options.filter, options.repeats).items():
            peer.setdefault(key, []).append((contiguous, last))
    lines = [f"{cpu_name()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}; "
             f"PyTorch {torch.__version__}; medians of {options.rounds} rounds in turn.", "",
             "| layer | direction | Espalier, ms | PyTorch, ms: contiguous | channels last | ratio |",
             "| --- | --- | --: | --: | --: | --: |"]
    for key, rounds in peer.items():
        contiguous, last = (statistics.median(times) for times in zip(*rounds))
        mine = statistics.median(ours[key]) if key in ours else None
        ratio = f"{min(contiguous, last) / mine:.2f}" if mine else ""
        lines.append(f"| {key[0]} | {key[1]} | {f'{mine:.2f}' if mine else ''} | {contiguous:.2f} | {last:.2f} | {ratio} |")
    print("\n".join(lines))
    if options.table:
        with open(options.table, "w") as file:
            file.write("\n".join(lines) + "\n")


main()
