#!/usr/bin/env python3
"""Writes the table of docs/deploy.md from a run, as `./run demo` leaves it: exports the dense and the fine-tuned network,
builds the C without the framework, and classifies the test images with it.

usage: deploy_table.py [--print] [folder of the run: runs/demo [folder of the programs: build/release/examples]]

--print shows the table and leaves the page alone. The run is one of fashion_mnist or mnist, without --downscale, so that
the bytes of the set are those that the network takes. Needs the Debian packages gcc, gcc-arm-none-eabi,
gcc-arm-linux-gnueabihf, libc6-dev-armhf-cross and qemu-user, and programs built with ONNX.
"""
import gzip
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Werror"]  # not on 32 bits, where gcc 12 warns of a loop that never runs
CORTEX_M7 = ["-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"]
MAIN = """
#include <stdio.h>
#include "network.h"

static unsigned char bytes[NETWORK_HEIGHT * NETWORK_WIDTH * NETWORK_CHANNELS];
static float image[sizeof bytes], workspace[NETWORK_WORKSPACE], logits[NETWORK_OUTPUTS];

/* The input is a label and the bytes of its image, again and again; the output how many labels the network finds. */
int main(void) {
    long right = 0;
    int label, i;
    if (network_self_test(workspace)) return 1;
    while ((label = getchar()) != EOF && fread(bytes, 1, sizeof bytes, stdin) == sizeof bytes) {
        int best = 0;
        network_prepare(bytes, image);
        network_run(image, logits, workspace);
        for (i = 1; i < NETWORK_OUTPUTS; ++i)
            if (logits[i] > logits[best]) best = i;
        right += best == label;
    }
    printf("%ld\\n", right);
    return 0;
}
"""


def run(*command, **how):
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, **how)
    except FileNotFoundError:
        sys.exit(f"deploy_table: expected {command[0]}, got no such program; the packages are in --help")
    if done.returncode:
        sys.exit(f"deploy_table: {' '.join(map(str, command))} exits with {done.returncode}\n"
                 f"{(done.stdout + done.stderr).decode()[-2000:]}")
    return done.stdout.decode()


def read_idx(folder, stem, header):
    """The elements of an IDX file, packed or not."""
    for name, open_file in ((stem, open), (f"{stem}.gz", gzip.open)):
        if (folder / name).exists():
            with open_file(folder / name, "rb") as file:
                return file.read()[header:]
    sys.exit(f"deploy_table: expected {stem} or {stem}.gz in {folder}, got neither")


def labelled_images(record):
    """What the C program reads: of each test image its label and its bytes; and how many there are."""
    if record["experiment"] not in ("fashion_mnist", "mnist"):
        sys.exit(f"deploy_table: expected a run of fashion_mnist or mnist, got one of {record['experiment']}")
    data = ROOT / next(flags["--data"] for flags in record["settings"].values())
    labels = read_idx(data, "t10k-labels-idx1-ubyte", 8)
    images = read_idx(data, "t10k-images-idx3-ubyte", 16)
    size = len(images) // len(labels)
    pairs = (labels[i:i + 1] + images[i * size:(i + 1) * size] for i in range(len(labels)))
    return b"".join(pairs), len(labels)


def measure(stage, record, checkpoint, program, test, count, work):
    """The column of one network."""
    def export(form):
        return run(program, "export", "--from", checkpoint, "--out", work, "--name", "network", "--format", form)

    memory = re.search(r"(\d+) bytes of weights, (\d+) bytes of workspace", export("c"))
    export("onnx")
    header, source, main = (work / name for name in ("network.h", "network.c", "main.c"))
    extents = [int(re.search(rf"NETWORK_{axis} (\d+)", header.read_text())[1]) for axis in ("HEIGHT", "WIDTH", "CHANNELS")]
    if extents != [28, 28, 1]:
        sys.exit(f"deploy_table: expected a network for images [28, 28, 1], got {extents} in {checkpoint}")
    main.write_text(MAIN)
    run("gcc", "-std=c99", *STRICT, "-O3", "-march=native", main, source, "-lm", "-o", work / "native")
    run("arm-linux-gnueabihf-gcc", "-std=c99", "-O3", "-static", main, source, "-lm", "-o", work / "arm")
    run("qemu-arm", work / "arm", stdin=subprocess.DEVNULL)  # its self-test
    run("arm-none-eabi-gcc", "-std=c99", "-O2", *CORTEX_M7, "-c", source, "-o", work / "cortex.o")
    sections = run("arm-none-eabi-size", "-A", work / "cortex.o")
    code = sum(int(size) for size in re.findall(r"^\.text\S* +(\d+)", sections, re.M))
    return [record[stage]["parameters"], round(record[stage]["accuracy"] * count), int(run(work / "native", input=test)),
            int(memory[1]), code, int(memory[2]), source.stat().st_size, (work / "network.onnx").stat().st_size]


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--print"]
    if "--help" in arguments or len(arguments) > 2:
        sys.exit(__doc__)
    folder = Path(arguments[0] if arguments else ROOT / "runs/demo")
    if not (folder / "finetuned.safetensors").exists():
        sys.exit(f"deploy_table: expected a run as `./run demo` leaves it in {folder}, got no finetuned.safetensors")
    record = json.loads((folder / "record.json").read_text())
    program = Path(arguments[1] if len(arguments) > 1 else ROOT / "build/release/examples", record["experiment"]).resolve()
    test, count = labelled_images(record)
    columns = []
    for stage in ("dense", "finetuned"):
        with tempfile.TemporaryDirectory() as work:
            columns.append(measure(stage, record, folder / f"{stage}.safetensors", program, test, count, Path(work)))
    names = ["parameters", f"of {count:,} test images, right in the framework", "right in C, from the bytes of the images",
             "weights, bytes", "code for a Cortex-M7, `-O2`, bytes", "workspace, bytes", "source text, bytes",
             "ONNX file, bytes"]
    settings = {flag: value for flags in record["settings"].values() for flag, value in flags.items()}
    how = " ".join(f"{flag} {settings[flag]}" for flag in ("--epochs", "--keep-macs", "--joins", "--finetune-epochs")
                   if flag in settings)
    lines = [f"What it takes, for the {record['model']} of `./run demo` (`{how}`),",
             f"dense and after pruning and fine-tuning, measured with gcc {run('gcc', '-dumpversion').strip()} "
             "(`tools/deploy_table.py` writes this from `runs/demo`; it", "builds the C by itself, with `-std=c99`):", "",
             "| | dense | pruned |", "| --- | ---: | ---: |",
             *(f"| {name} | {dense:,} | {pruned:,} |" for name, dense, pruned in zip(names, *columns))]
    table = "\n".join(lines) + "\n"
    if "--print" in sys.argv:
        print(table, end="")
        return
    page = ROOT / "docs/deploy.md"
    text, found = re.subn(r"(?s)(<!-- deploy -->\n).*?(<!-- /deploy -->)", lambda m: m[1] + table + m[2], page.read_text())
    if not found:
        sys.exit(f"deploy_table: expected <!-- deploy --> and <!-- /deploy --> in {page}, got neither")
    page.write_text(text)


main()
