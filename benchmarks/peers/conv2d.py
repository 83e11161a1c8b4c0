"""The layers of benchmarks/conv2d.cpp in PyTorch, contiguous and channels last.

    conv2d.py [filter] [repeats] [json]

With one thread (OMP_NUM_THREADS=1) time is processor time, as there.
"""

import json
import statistics
import sys
import time

import torch

LAYERS = [  # name, batch, extent, channels, filters, taps, stride
    ("vgg stem", 32, 32, 3, 64, 3, 1),
    ("vgg 64", 32, 32, 64, 64, 3, 1),
    ("vgg 128", 32, 16, 128, 128, 3, 1),
    ("vgg 256", 32, 8, 256, 256, 3, 1),
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
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times = []
    f()
    for _ in range(repeats):
        start = clock()
        f()
        times.append(1e3 * (clock() - start))
    return statistics.median(times), min(times)


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    rows = []
    print(f"torch {torch.__version__}, threads {torch.get_num_threads()}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'layer':15} {'direction':9} {'contiguous':>10} {'best':>8} {'channels last':>14} {'best':>8}   ms")
    for name, batch, extent, channels, filters, taps, stride in LAYERS:
        if wanted not in name:
            continue
        times = {}
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(batch, channels, extent, extent).to(memory_format=layout)
            w = torch.randn(filters, channels, taps, taps).to(memory_format=layout)
            with torch.no_grad():
                y = torch.conv2d(x, w, None, stride, taps // 2)
                dy = torch.randn_like(y)

                def gradient(which):
                    return torch.ops.aten.convolution_backward(
                        dy, x, w, None, [stride] * 2, [taps // 2] * 2, [1, 1], False, [0, 0], 1, which)

                for direction, f in (
                    ("forward", lambda: torch.conv2d(x, w, None, stride, taps // 2)),
                    ("data", lambda: gradient([True, False, False])),
                    ("weights", lambda: gradient([False, True, False])),
                ):
                    times.setdefault(direction, []).append(measure(repeats, f))
        for direction, (contiguous, last) in times.items():
            print(f"{name:15} {direction:9} {contiguous[0]:10.3f} {contiguous[1]:8.3f} {last[0]:14.3f} {last[1]:8.3f}")
            rows.append({"layer": name, "direction": direction,
                         "contiguous_ms": contiguous[0], "contiguous_best_ms": contiguous[1],
                         "channels_last_ms": last[0], "channels_last_best_ms": last[1]})
    if len(sys.argv) > 3:
        with open(sys.argv[3], "w") as file:
            json.dump({"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}, file, indent=1)


main()
